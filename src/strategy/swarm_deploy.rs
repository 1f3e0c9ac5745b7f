//! Deploys workers' deckies: one shard for each host, all hosts at once.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::lifecycle::{HostId, Pending};

use super::{Call, Context, Rows, Strategy, dispatch};

/// Dispatches each host's shard; its heartbeat ends the rows. A host that can't
/// be reached fails its own rows only.
#[derive(Debug, Clone, Copy, Default)]
pub struct SwarmDeploy;

#[async_trait]
impl Strategy for SwarmDeploy {
    async fn run(&self, cx: &Context, rows: Rows<Pending>) {
        let calls = by_host(rows).into_iter().map(|(host, rows)| cx.to_host(host, rows, Call::Deploy));
        dispatch::all(calls).await;
    }
}

/// The rows of each worker host.
pub(super) fn by_host(rows: Rows<Pending>) -> BTreeMap<HostId, Rows<Pending>> {
    let mut hosts: BTreeMap<HostId, Rows<Pending>> = BTreeMap::new();
    for (decky, row) in rows {
        if let Some(host) = row.host().cloned() {
            hosts.entry(host).or_default().insert(decky, row);
        }
    }
    hosts
}
