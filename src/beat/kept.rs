//! What a worker keeps of a decky, and whether that is what it was asked for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::fleet::{DeckyConfig, DeckyRuntime};
use crate::lifecycle::{DeckyName, ServiceName};

/// What a worker keeps of a decky, as its beats tell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// Its services.
    pub services: Vec<ServiceName>,
    /// Its address there. DECNET's agent gives deckies others where its network
    /// is not the one that it was told.
    pub ip: Option<IpAddr>,
    settings: Option<Settings>,
}

/// A digest of a decky's other settings: they are compared, and never shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settings([u8; 32]);

/// What is compared besides the services. An agent may change a decky's
/// address, and times that it counts itself.
const SETTINGS: [&str; 6] = ["base_image", "build_base", "distro", "hostname", "nmap_os", "service_config"];

impl Settings {
    /// Of a decky as JSON; none if it doesn't tell all of them.
    fn of(decky: &Value) -> Option<Self> {
        let settings: Option<Vec<&Value>> = SETTINGS.iter().map(|field| decky.get(field)).collect();
        // Maps are sorted, so that equal settings are equal bytes.
        Some(Self(Sha256::digest(serde_json::to_vec(&settings?).ok()?).into()))
    }
}

impl Kept {
    /// What these services are kept as, of a worker that tells no more.
    #[must_use]
    pub const fn serving(services: Vec<ServiceName>) -> Self {
        Self { services, ip: None, settings: None }
    }

    pub(super) fn read(value: &Value) -> Option<(DeckyName, Self)> {
        let name = DeckyName::parse(value.get("name")?.as_str()?).ok()?;
        let services = value.get("services")?.as_array()?;
        let services: Option<Vec<_>> =
            services.iter().map(|service| ServiceName::parse(service.as_str()?).ok()).collect();
        let ip = value.get("ip").and_then(Value::as_str).and_then(|ip| ip.parse().ok());
        Some((name, Self { services: services?, ip, settings: Settings::of(value) }))
    }

    /// Whether this is kept of a decky that was asked for so, and all of it
    /// runs, and nothing else. Its address counts for nothing, nor do settings
    /// that a worker doesn't tell.
    ///
    /// ```
    /// use decnet_lifecycle::{FleetConfig, beat::Kept, fleet::DeckyRuntime};
    ///
    /// let fleet = FleetConfig::from_json(include_bytes!("../../examples/fleet.json"))?;
    /// let asked = &fleet.deckies[0];
    /// let mut runs = DeckyRuntime { running: true, ..DeckyRuntime::default() };
    /// for service in &asked.services {
    ///     runs.services.insert(service.to_string(), "running".to_owned());
    /// }
    /// assert!(Kept::serving(asked.services.clone()).runs_as(asked, &runs));
    /// runs.services.insert("left-over".to_owned(), "running".to_owned());
    /// assert!(!Kept::serving(asked.services.clone()).runs_as(asked, &runs));
    /// # Ok::<(), decnet_lifecycle::fleet::FleetError>(())
    /// ```
    #[must_use]
    pub fn runs_as(&self, asked: &DeckyConfig, runtime: &DeckyRuntime) -> bool {
        // A compose tool's names of services have dashes.
        let word = |name: &str| name.replace('_', "-");
        let kept: BTreeSet<String> = self.services.iter().map(|name| word(name.as_str())).collect();
        let wanted: BTreeSet<String> = asked.services.iter().map(|name| word(name.as_str())).collect();
        let seen: BTreeSet<String> = runtime.services.keys().map(|name| word(name)).collect();
        let same = || match self.settings {
            None => true,
            Some(settings) => {
                serde_json::to_value(asked).ok().and_then(|asked| Settings::of(&asked)) == Some(settings)
            }
        };
        runtime.running
            && kept == wanted
            && seen == wanted
            && runtime.services.values().all(|state| state == "running")
            && same()
    }
}
