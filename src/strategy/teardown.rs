//! Takes deckies down, the master's own and the workers'.

use std::sync::Arc;

use crate::agent::TeardownCall;
use crate::fleet::FleetConfig;

use super::dispatch::{self, Answered, Message};
use super::engine_call::{self, Call};
use super::{Context, Rows};

/// One engine call for all of the master's own.
pub(super) async fn local(context: &Context, fleet: &Arc<FleetConfig>, rows: Rows) {
    let whole = async || Ok(Arc::clone(fleet));
    let keep = async |_: &FleetConfig, deckies: Vec<_>| context.keep_torn_down(&deckies).await;
    engine_call::run(context, Call::Teardown, rows, whole, keep).await;
}

/// One agent call for each of the workers'; the answer is the evidence.
pub(super) async fn remote(context: &Context, rows: Rows) {
    let calls = rows.into_iter().filter_map(|(decky, row)| {
        let host = row.host().cloned()?;
        let call = TeardownCall { decky: decky.clone(), lifecycle_id: row.id() };
        let rows = Rows::from([(decky, row)]);
        Some(dispatch::to_host(context, host, rows, Message::Teardown(call), Answered::IsEvidence))
    });
    dispatch::all(calls).await;
}
