//! Gives the master's own deckies other services. The new services are kept
//! only if the engine succeeded with them.

use std::sync::Arc;

use crate::fleet::FleetConfig;
use crate::lifecycle::{Failure, FailureKind, ServiceName};

use super::engine_call::{self, Call};
use super::{Context, Rows};

/// Mutates the rows' deckies, on the fleet as it is deployed once it is this
/// call's turn: another mutate may have changed it since the request.
pub(super) async fn run(context: &Context, asked: &Arc<FleetConfig>, services: &[ServiceName], rows: Rows) {
    let deckies: Vec<_> = rows.keys().cloned().collect();
    let mutated = async || {
        let mut fleet = context.deployed_or(asked, &deckies).await?;
        for decky in &deckies {
            fleet = fleet
                .with_services(decky, services.to_vec())
                .map_err(|error| Failure::new(FailureKind::Engine, &error.to_string()))?;
        }
        Ok(Arc::new(fleet))
    };
    let keep = async |fleet: &FleetConfig, deckies: Vec<_>| context.keep_deployed(fleet, &deckies).await;
    engine_call::run(context, Call::Mutate, rows, mutated, keep).await;
}
