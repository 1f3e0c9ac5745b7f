//! Deploys the master's own deckies: one engine call, all rows together.

use std::sync::Arc;

use crate::fleet::FleetConfig;

use super::engine_call::{self, Call};
use super::{Context, Rows};

/// Brings the rows' deckies up; the engine sees the whole fleet.
pub(super) async fn run(context: &Context, fleet: &Arc<FleetConfig>, rows: Rows) {
    let whole = async || Ok(Arc::clone(fleet));
    let keep = async |fleet: &FleetConfig, deckies: Vec<_>| context.keep_deployed(fleet, &deckies).await;
    engine_call::run(context, Call::Deploy, rows, whole, keep).await;
}
