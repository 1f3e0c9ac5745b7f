//! The fleet as the wire has it: parsed strictly at the edge, typed inside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::lifecycle::{DeckyName, HostId, ServiceName};

mod archetype;
mod distro;
mod error;
mod ini;
pub(crate) mod json;
mod parse;
mod runtime;
mod salvage;
mod secrets;
mod whole;

pub use archetype::Archetype;
pub use distro::Distro;
pub use error::{FleetError, Problem, Problems};
pub(crate) use error::{nearest, shown};
pub use ini::{HostNetwork, IniFleet, IniSettings};
pub use runtime::DeckyRuntime;
pub use salvage::SalvagedState;

/// Where a fleet's deckies run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// All on the master.
    Unihost,
    /// On the worker hosts that the deckies name; those that name none, on
    /// the master.
    Swarm,
}

/// A whole fleet, in the original's schema. Holds at least one decky, names
/// and addresses once each.
///
/// ```
/// use decnet_lifecycle::FleetConfig;
///
/// let text = br#"{"mode": "unihost", "interface": "eth0", "subnet": "192.0.2.0/24", "gateway": "192.0.2.1",
///   "deckies": [{"name": "decky-01", "ip": "192.0.2.10", "services": ["ssh"], "distro": "debian",
///                "base_image": "debian:12", "hostname": "srv-1"}]}"#;
/// let fleet = FleetConfig::from_json(text)?;
/// assert_eq!(fleet.mutate_interval, Some(30));
/// assert_eq!(FleetConfig::from_json(fleet.to_json().as_bytes())?, fleet);
/// # Ok::<(), decnet_lifecycle::fleet::FleetError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct FleetConfig {
    /// Where the deckies run.
    pub mode: Mode,
    /// The master's network interface.
    pub interface: String,
    /// The network that the deckies' addresses lie in.
    pub subnet: IpNet,
    /// The network's gateway.
    pub gateway: IpAddr,
    /// The deckies.
    pub deckies: Vec<DeckyConfig>,
    /// Where the original logs to.
    pub log_file: Option<String>,
    /// Whether the network is ipvlan; else macvlan.
    pub ipvlan: bool,
    /// Minutes between the original's own mutations.
    pub mutate_interval: Option<i64>,
}

/// One decky, in the original's schema.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeckyConfig {
    /// Its name, once in a fleet.
    pub name: DeckyName,
    /// Its address, once in a fleet and inside the subnet.
    pub ip: IpAddr,
    /// What it offers: at least one, each once.
    pub services: Vec<ServiceName>,
    /// The distribution it pretends to be.
    pub distro: String,
    /// The image of its base container.
    pub base_image: String,
    /// The image that its services are built on.
    pub build_base: String,
    /// The host name it shows.
    pub hostname: String,
    /// The archetype it was made from.
    pub archetype: Option<String>,
    /// Settings by service.
    pub service_config: BTreeMap<String, Map<String, Value>>,
    /// The operating system that its network stack looks like.
    pub nmap_os: String,
    /// Minutes between its own mutations.
    pub mutate_interval: Option<i64>,
    /// When it last mutated, in seconds since the Unix epoch.
    pub last_mutated: f64,
    /// When somebody last tried to log in, in seconds since the Unix epoch.
    pub last_login_attempt: f64,
    /// The worker host it runs on, in swarm mode.
    pub host_uuid: Option<HostId>,
}

/// A fleet's deckies by where they run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shards {
    /// On the master.
    pub local: Vec<DeckyName>,
    /// On worker hosts.
    pub hosts: BTreeMap<HostId, Vec<DeckyName>>,
}

/// The original's state file: a fleet and where its compose file lies.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeployedFleet {
    /// The fleet as deployed.
    pub config: FleetConfig,
    /// The compose file.
    pub compose_path: String,
}

impl FleetConfig {
    /// The largest file that is read: 16 MiB.
    pub const MAX_BYTES: usize = 16 << 20;
    /// The most deckies of one fleet.
    pub const MAX_DECKIES: usize = 16_384;

    /// Reads a fleet, or the fleet in a state file. Everything that is wrong
    /// in it is listed at once.
    ///
    /// # Errors
    /// [`FleetError`] says what is wrong where, and what to write instead.
    pub fn from_json(bytes: &[u8]) -> Result<Self, FleetError> {
        parse::fleet(&parse::value(bytes)?)
    }

    /// The fleet as a file, in the original's layout.
    #[must_use]
    pub fn to_json(&self) -> String {
        pretty(self)
    }

    /// The decky with this name.
    #[must_use]
    pub fn decky(&self, name: &DeckyName) -> Option<&DeckyConfig> {
        self.deckies.iter().find(|decky| decky.name == *name)
    }

    /// The names of all deckies, in the fleet's order.
    pub fn names(&self) -> impl Iterator<Item = &DeckyName> {
        self.deckies.iter().map(|decky| &decky.name)
    }

    /// The fleet with other services for one decky.
    ///
    /// # Errors
    /// [`FleetError`] if there is no such decky, or the services are none,
    /// doubled, or too many.
    pub fn with_services(&self, name: &DeckyName, services: Vec<ServiceName>) -> Result<Self, FleetError> {
        let mut fleet = self.clone();
        let Some((place, decky)) =
            fleet.deckies.iter_mut().enumerate().find(|(_, decky)| decky.name == *name)
        else {
            let known: Vec<&str> = self.names().map(DeckyName::as_str).collect();
            return Err(FleetError::UnknownDecky {
                decky: name.clone(),
                near: nearest(name.as_str(), &known),
            });
        };
        parse::check_services(&format!("deckies[{place}].services"), &services)?;
        decky.services = services;
        Ok(fleet)
    }

    /// The deckies by name; for who looks up many.
    #[cfg(feature = "testkit")]
    pub(crate) fn by_name(&self) -> BTreeMap<&DeckyName, &DeckyConfig> {
        self.deckies.iter().map(|decky| (&decky.name, decky)).collect()
    }

    /// The fleet cut down to these deckies; none if it has none of them.
    #[must_use]
    pub fn restricted_to(&self, names: &BTreeSet<DeckyName>) -> Option<Self> {
        let deckies: Vec<DeckyConfig> =
            self.deckies.iter().filter(|decky| names.contains(&decky.name)).cloned().collect();
        (!deckies.is_empty()).then(|| self.with_deckies(deckies))
    }

    /// A fleet of nothing, for an engine that is to take down what nobody knows
    /// the settings of.
    pub(crate) fn nothing() -> Self {
        Self {
            mode: Mode::Unihost,
            interface: String::new(),
            subnet: IpNet::default(),
            gateway: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            deckies: Vec::new(),
            log_file: None,
            ipvlan: false,
            mutate_interval: None,
        }
    }

    fn with_deckies(&self, deckies: Vec<DeckyConfig>) -> Self {
        Self {
            mode: self.mode,
            interface: self.interface.clone(),
            subnet: self.subnet,
            gateway: self.gateway,
            deckies,
            log_file: self.log_file.clone(),
            ipvlan: self.ipvlan,
            mutate_interval: self.mutate_interval,
        }
    }

    /// The deckies by where they run.
    #[must_use]
    pub fn shards(&self) -> Shards {
        let mut shards = Shards::default();
        for decky in &self.deckies {
            match (&decky.host_uuid, self.mode) {
                (Some(host), Mode::Swarm) => {
                    shards.hosts.entry(host.clone()).or_default().push(decky.name.clone());
                }
                _ => shards.local.push(decky.name.clone()),
            }
        }
        shards
    }
}

impl DeployedFleet {
    /// Reads a state file.
    ///
    /// # Errors
    /// As [`FleetConfig::from_json`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, FleetError> {
        let value = parse::value(bytes)?;
        let config = parse::fleet(&value)?;
        let path = value.get("compose_path").and_then(Value::as_str).unwrap_or_default();
        Ok(Self { config, compose_path: path.to_owned() })
    }

    /// The state as a file.
    #[must_use]
    pub fn to_json(&self) -> String {
        pretty(self)
    }
}

impl TryFrom<Value> for FleetConfig {
    type Error = FleetError;

    fn try_from(value: Value) -> Result<Self, FleetError> {
        parse::fleet(&value)
    }
}

fn pretty(value: &impl Serialize) -> String {
    // Every map has text keys and every float is finite, so this can't fail.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}
