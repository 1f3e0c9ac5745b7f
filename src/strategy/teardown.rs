//! Takes deckies down, the master's own and the workers'.

use std::collections::BTreeSet;

use async_trait::async_trait;

use crate::lifecycle::{DeckyName, HostId, Pending};
use crate::placement::Home;
use crate::store::PlacementQuery;

use super::swarm_deploy::by_host;
use super::{Call, Context, Ending, Rows, Strategy, dispatch};

/// One engine call for all of the master's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalTeardown {
    /// When the rows end.
    pub ending: Ending,
}

/// One agent call for each of the workers' deckies, or one for all that a host
/// has: what an agent leaves of a single decky goes with the last of them. The
/// answer is the evidence.
#[derive(Debug, Clone, Copy, Default)]
pub struct SwarmTeardown;

#[async_trait]
impl Strategy for LocalTeardown {
    async fn run(&self, cx: &Context, rows: Rows<Pending>) {
        let started = cx.start(rows).await;
        match self.ending {
            Ending::Together => {
                let evidence = cx.teardown(&started).await;
                cx.end(started, evidence).await;
            }
            Ending::AsReported => drop(cx.teardown_as_reported(started).await),
        }
    }
}

#[async_trait]
impl Strategy for SwarmTeardown {
    async fn run(&self, cx: &Context, rows: Rows<Pending>) {
        let hosts = by_host(rows).into_iter().map(|(host, rows)| at(cx, host, rows));
        dispatch::all(hosts).await;
    }
}

async fn at(cx: &Context, host: HostId, rows: Rows<Pending>) {
    if is_all(cx, &host, &rows).await {
        return cx.to_host(host, rows, Call::TeardownAll).await;
    }
    let calls = rows
        .into_iter()
        .map(|(decky, row)| cx.to_host(host.clone(), Rows::from([(decky, row)]), Call::Teardown));
    dispatch::all(calls).await;
}

/// Whether these are all that a host has. One that can't be asked for now is
/// taken down decky by decky, which is as right.
async fn is_all(cx: &Context, host: &HostId, rows: &Rows<Pending>) -> bool {
    let query = PlacementQuery::At(Home::Host(host.clone()));
    let Ok(placements) = cx.placements(&query).await else { return false };
    let there: BTreeSet<&DeckyName> = placements.iter().map(|placement| &placement.decky).collect();
    !there.is_empty() && there.iter().all(|decky| rows.contains_key(*decky)) && rows.len() == there.len()
}
