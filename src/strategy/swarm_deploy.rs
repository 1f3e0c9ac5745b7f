//! Deploys workers' deckies: one shard for each host, all hosts at once.

use std::collections::BTreeMap;

use crate::lifecycle::HostId;

use super::dispatch::{self, Task};
use super::{Context, Rows};

/// Dispatches each host's shard; its heartbeat ends the rows. A host that
/// can't be reached fails its own rows only.
pub(super) async fn run(context: &Context, rows: Rows) {
    let calls =
        by_host(rows).into_iter().map(|(host, rows)| dispatch::to_host(context, host, rows, Task::Deploy));
    dispatch::all(calls).await;
}

/// The rows of each worker host.
pub(super) fn by_host(rows: Rows) -> BTreeMap<HostId, Rows> {
    let mut hosts: BTreeMap<HostId, Rows> = BTreeMap::new();
    for (decky, row) in rows {
        if let Some(host) = row.host().cloned() {
            hosts.entry(host).or_default().insert(decky, row);
        }
    }
    hosts
}
