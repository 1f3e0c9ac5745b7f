//! Where a play takes place: the fleet, and a bus that watches deadlines.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::bus::{Bus, Event};
use crate::clock::Clock;
use crate::fleet::FleetConfig;
use crate::lifecycle::LifecycleId;
use crate::master::Deadlines;

use super::network::Network;

/// Deckies by the place of their host; the place after the last is the master.
const DECKIES: usize = 10;
pub(super) const HOSTS: usize = 3;

/// A bus that sees whether a deadline failed a row before its time, whatever
/// the wall clock did.
#[derive(Debug)]
pub(super) struct EarlyWatch {
    pub(super) net: Arc<Network>,
    pub(super) told: Arc<Mutex<BTreeMap<LifecycleId, Duration>>>,
}

impl Bus for EarlyWatch {
    fn publish(&self, event: &Event) {
        let Some(text) = event.error.as_deref().filter(|text| text.starts_with("Deadline: ")) else { return };
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).get(&event.lifecycle_id).copied();
        // A row that an earlier start of the master made carries no age.
        let Some(accepted) = told.filter(|at| !at.is_zero()) else { return };
        let age = self.net.clock.monotonic().saturating_sub(accepted);
        let deadlines = Deadlines::default();
        if age.saturating_add(Duration::from_secs(1)) < deadlines.queue.min(deadlines.run) {
            self.net.complain(format!("row {} failed at the age of {age:?}: {text}", event.lifecycle_id));
        }
    }
}

/// Three workers with three deckies each or two, and some of the master's own.
pub(super) fn fleet() -> FleetConfig {
    let host = |place: usize| (place % (HOSTS + 1) < HOSTS).then(|| format!("w{}", place % (HOSTS + 1)));
    let deckies: Vec<serde_json::Value> = (0..DECKIES)
        .map(|place| {
            serde_json::json!({
                "name": format!("d{place}"), "ip": format!("192.0.2.{}", 10 + place), "services": ["ssh"],
                "distro": "debian", "base_image": "debian:12", "hostname": "srv", "host_uuid": host(place),
            })
        })
        .collect();
    let fleet = serde_json::json!({
        "mode": "swarm", "interface": "eth0", "subnet": "192.0.2.0/24", "gateway": "192.0.2.1",
        "deckies": deckies,
    });
    match FleetConfig::from_json(fleet.to_string().as_bytes()) {
        Ok(fleet) => fleet,
        Err(error) => unreachable!("the simulated fleet is sound: {error}"),
    }
}
