//! Keeps the fleet's state in step with what strategies have brought about.

use std::collections::BTreeSet;

use crate::fleet::FleetConfig;
use crate::fleet_state::FleetStateError;
use crate::lifecycle::{DeckyName, Failure, FailureKind, ServiceName};

use super::Context;

impl Context {
    /// The fleet as deployed if it knows these deckies, else the one asked for.
    pub(super) async fn deployed_or(
        &self,
        asked: &FleetConfig,
        deckies: &[DeckyName],
    ) -> Result<FleetConfig, Failure> {
        let deployed = self.fleet_state.load().await.map_err(failed)?;
        let knows = |fleet: &FleetConfig| {
            let known = fleet.by_name();
            deckies.iter().all(|decky| known.contains_key(decky))
        };
        Ok(deployed.filter(knows).unwrap_or_else(|| asked.clone()))
    }

    /// These deckies are now as this fleet has them; the others stay.
    pub(super) async fn keep_deployed(
        &self,
        fleet: &FleetConfig,
        deckies: &[DeckyName],
    ) -> Result<(), Failure> {
        let _turn = self.state_gate.lock().await;
        let mut kept = fleet.clone();
        let changed: BTreeSet<&DeckyName> = deckies.iter().collect();
        kept.deckies.retain(|decky| changed.contains(&decky.name));
        if let Some(before) = self.fleet_state.load().await.map_err(failed)? {
            let mut merged = before.deckies;
            merged.retain(|decky| !changed.contains(&decky.name));
            merged.append(&mut kept.deckies);
            merged.sort_by(|a, b| a.name.cmp(&b.name));
            kept.deckies = merged;
        }
        self.fleet_state.save(Some(&kept)).await.map_err(failed)
    }

    /// Workers have given these deckies other services. Their word stands
    /// whether that can be kept or not.
    pub(crate) async fn keep_services(&self, mutated: &[(DeckyName, Vec<ServiceName>)]) {
        if mutated.is_empty() {
            return;
        }
        let _turn = self.state_gate.lock().await;
        let kept = async {
            let Some(mut fleet) = self.fleet_state.load().await? else { return Ok(()) };
            for (decky, services) in mutated {
                match fleet.with_services(decky, services.clone()) {
                    Ok(changed) => fleet = changed,
                    Err(error) => {
                        log::warn!(target: "decnet_lifecycle::strategy", decky:% = decky, error:% = error; "a worker's mutate was not kept");
                    }
                }
            }
            self.fleet_state.save(Some(&fleet)).await
        };
        if let Err(error) = kept.await {
            log::error!(target: "decnet_lifecycle::strategy", error:% = error; "workers' mutates were not kept");
        }
    }

    /// These deckies are gone.
    pub(crate) async fn keep_torn_down(&self, deckies: &[DeckyName]) -> Result<(), Failure> {
        let _turn = self.state_gate.lock().await;
        let Some(mut fleet) = self.fleet_state.load().await.map_err(failed)? else {
            return Ok(());
        };
        fleet.deckies.retain(|decky| !deckies.contains(&decky.name));
        let left = (!fleet.deckies.is_empty()).then_some(&fleet);
        self.fleet_state.save(left).await.map_err(failed)
    }
}

fn failed(error: FleetStateError) -> Failure {
    Failure::new(FailureKind::Engine, &format!("done, but not kept: {error}"))
}
