//! Deploys workers' deckies: one shard for each host, all hosts at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fleet::FleetConfig;
use crate::lifecycle::{Failure, FailureKind, HostId};

use super::dispatch::{self, Answered, Message};
use super::{Context, Rows, ending};

/// Dispatches each host's shard; its heartbeat ends the rows. A host that
/// can't be reached fails its own rows only.
pub(super) async fn run(context: &Context, fleet: &Arc<FleetConfig>, rows: Rows) {
    let mut shards: BTreeMap<HostId, Rows> = BTreeMap::new();
    for (decky, row) in rows {
        if let Some(host) = row.host().cloned() {
            shards.entry(host).or_default().insert(decky, row);
        }
    }
    // The agent replaces what it runs by what it is sent, so a shard holds all
    // of the host's deckies, those without a new row as well.
    let mut fleets = fleet.by_host();
    let calls = shards.into_iter().map(|(host, rows)| shard(context, fleets.remove(&host), host, rows));
    dispatch::all(calls).await;
}

async fn shard(context: &Context, fleet: Option<FleetConfig>, host: HostId, rows: Rows) {
    let Some(config) = fleet else {
        let failure =
            Failure::new(FailureKind::Unreachable, &format!("the fleet has no deckies on host {host}"));
        return ending::fail_pending(context, rows.into_values().collect(), &failure).await;
    };
    let message = Message::Deploy(Arc::new(config));
    dispatch::to_host(context, host, rows, message, Answered::WorkerEndsIt).await;
}
