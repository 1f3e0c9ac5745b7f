//! A fleet's own secrets.

use crate::lifecycle::Secrets;

use super::FleetConfig;

impl Secrets {
    /// The secrets of a fleet's `service_config`: the values whose key says
    /// so, whatever is nested in those, and passwords in URLs and in
    /// `NAME=value` lines.
    ///
    /// ```
    /// use decnet_lifecycle::{FleetConfig, lifecycle::Secrets};
    ///
    /// let text = br#"{"mode": "unihost", "interface": "eth0", "subnet": "192.0.2.0/24", "gateway": "192.0.2.1",
    ///   "deckies": [{"name": "decky-01", "ip": "192.0.2.10", "services": ["ssh"], "distro": "debian",
    ///                "base_image": "debian:12", "hostname": "srv-1",
    ///                "service_config": {"ssh": {"root_password": "toor-2026", "banner": "welcome"}}}]}"#;
    /// let secrets = Secrets::of(&FleetConfig::from_json(text)?);
    /// assert_eq!(secrets.hide("chpasswd: root:toor-2026, welcome"), "chpasswd: root:[scrubbed], welcome");
    /// # Ok::<(), decnet_lifecycle::fleet::FleetError>(())
    /// ```
    #[must_use]
    pub fn of(fleet: &FleetConfig) -> Self {
        let settings = fleet.deckies.iter().flat_map(|decky| decky.service_config.values());
        Self::within(settings.flat_map(|settings| settings.iter()).map(|(key, value)| (key.as_str(), value)))
    }
}
