//! Takes deckies down, the master's own and the workers'.

use std::collections::BTreeSet;

use crate::lifecycle::{DeckyName, HostId};
use crate::placement::Home;
use crate::store::PlacementQuery;

use super::dispatch::{self, Task};
use super::engine_call::{self, Call};
use super::swarm_deploy::by_host;
use super::{Context, Rows};

/// One engine call for all of the master's own.
pub(super) async fn local(context: &Context, rows: Rows) {
    engine_call::run(context, Call::Teardown, rows).await;
}

/// One agent call for each of the workers' deckies, or one for all that a host
/// has: what an agent leaves of a single decky goes with the last of them. The
/// answer is the evidence.
pub(super) async fn remote(context: &Context, rows: Rows) {
    let hosts = by_host(rows).into_iter().map(|(host, rows)| at(context, host, rows));
    dispatch::all(hosts).await;
}

async fn at(context: &Context, host: HostId, rows: Rows) {
    if is_all(context, &host, &rows).await {
        return dispatch::to_host(context, host, rows, Task::TeardownAll).await;
    }
    let calls = rows.into_iter().map(|(decky, row)| {
        dispatch::to_host(context, host.clone(), Rows::from([(decky, row)]), Task::Teardown)
    });
    dispatch::all(calls).await;
}

/// Whether these are all that a host has. One that can't be asked for now is
/// taken down decky by decky, which is as right.
async fn is_all(context: &Context, host: &HostId, rows: &Rows) -> bool {
    let query = PlacementQuery::At(Home::Host(host.clone()));
    let Ok(placements) = context.journal.store().placements(&query).await else { return false };
    let there: BTreeSet<&DeckyName> = placements.iter().map(|placement| &placement.decky).collect();
    !there.is_empty() && there.iter().all(|decky| rows.contains_key(*decky)) && rows.len() == there.len()
}
