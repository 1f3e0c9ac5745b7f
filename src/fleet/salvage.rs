//! Reads a state file of this program's first version, or the original's, as
//! far as it goes.

use serde_json::Value;

use super::{DeployedFleet, FleetConfig, FleetError, parse};

/// What a state file says of each decky. The first version could write a file
/// that contradicts itself: each decky counts for itself here.
#[derive(Debug)]
#[non_exhaustive]
pub struct SalvagedState {
    /// Each decky that can be read, in the network that the file says.
    pub deckies: Vec<FleetConfig>,
    /// What can't be read, and why.
    pub left_out: Vec<FleetError>,
    /// Where the compose file lies; empty where no containers are.
    pub compose_path: String,
}

impl DeployedFleet {
    /// Reads a state file as far as it goes.
    ///
    /// ```
    /// use decnet_lifecycle::fleet::DeployedFleet;
    ///
    /// let text = br#"{"config": {"mode": "unihost", "interface": "eth0", "subnet": "192.0.2.0/24",
    ///   "gateway": "192.0.2.1", "deckies": [
    ///     {"name": "far", "ip": "10.9.0.9", "services": ["ssh"], "distro": "debian",
    ///      "base_image": "debian:12", "hostname": "srv-1"},
    ///     {"name": "near", "ip": "192.0.2.10", "services": ["ssh"], "distro": "debian",
    ///      "base_image": "debian:12", "hostname": "srv-2"}]}, "compose_path": ""}"#;
    /// let state = DeployedFleet::salvage(text)?;
    /// assert_eq!(state.deckies.len(), 1);
    /// assert!(state.left_out[0].to_string().contains("10.9.0.9 lies outside the subnet"));
    /// # Ok::<(), decnet_lifecycle::fleet::FleetError>(())
    /// ```
    ///
    /// # Errors
    /// [`FleetError`] if it is no JSON, or its deckies can't be told apart.
    pub fn salvage(bytes: &[u8]) -> Result<SalvagedState, FleetError> {
        let value = parse::value(bytes)?;
        let compose_path = value.get("compose_path").and_then(Value::as_str).unwrap_or_default().to_owned();
        let root = match value.get("config") {
            Some(inner) if value.get("deckies").is_none() => inner,
            _ => &value,
        };
        let mut state = SalvagedState { deckies: Vec::new(), left_out: Vec::new(), compose_path };
        let Some(deckies) = root.get("deckies").and_then(Value::as_array) else {
            // This says what is wrong.
            state.deckies.push(FleetConfig::try_from(root.clone())?);
            return Ok(state);
        };
        for decky in deckies {
            let mut one = root.clone();
            if let Some(fields) = one.as_object_mut() {
                fields.insert("deckies".to_owned(), Value::Array(vec![decky.clone()]));
            }
            match FleetConfig::try_from(one) {
                Ok(fleet) => state.deckies.push(fleet),
                Err(error) => state.left_out.push(error),
            }
        }
        Ok(state)
    }
}
