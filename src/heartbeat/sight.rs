//! What beats show of the deckies of workers that name no rows, and the rows
//! that end by it.

use std::collections::BTreeMap;

use crate::beat::WorkerStatus;
use crate::journal::CommitError;
use crate::lifecycle::{
    AnyLifecycle, DeckyName, Failure, FailureKind, HostId, LifecycleId, Record, ServiceName,
};
use crate::master::{End, Master, Sight, Steady};
use crate::placement::{Aim, Placement};
use crate::store::{PlacementQuery, StoreError};

/// What a status shows of a decky that is to be so.
pub(super) fn of(status: &WorkerStatus, decky: &DeckyName, asked: &Aim) -> Sight {
    // An agent that can't see its containers tells of none that runs.
    if status.runtime.is_empty() && (status.is_deployed || !status.is_told) {
        return Sight::Untold;
    }
    let runtime = status.runtime.get(decky);
    let is_so = match asked {
        Aim::Up(placed) => status
            .deckies
            .get(decky)
            .zip(runtime)
            .is_some_and(|(kept, runtime)| kept.runs_as(&placed.config, runtime)),
        // Of a single decky the agent leaves the base container.
        Aim::Gone => {
            !runtime.is_some_and(|runtime| runtime.services.values().any(|state| state == "running"))
        }
    };
    if is_so { Sight::AsAsked } else { Sight::Otherwise }
}

/// What a row is to bring about; none if nothing says so.
pub(super) async fn asked(master: &Master, row: &Record) -> Result<Option<Aim>, StoreError> {
    let placements = master.journal.store().placements(&PlacementQuery::Of(vec![row.decky.clone()])).await?;
    Ok(placements.first().and_then(|placement| placement.tried.get(&row.id)).map(|tried| tried.aim.clone()))
}

/// The services of a decky that is to be up.
pub(super) fn services(asked: &Aim) -> &[ServiceName] {
    match asked {
        Aim::Up(placed) => &placed.config.services,
        Aim::Gone => &[],
    }
}

/// Looks at the deckies of all rows that the host has taken, and ends those
/// rows that this ends. A store that can't be read or written now is asked
/// again at the next beat.
pub(super) async fn look(master: &Master, host: &HostId, before: &WorkerStatus, status: &WorkerStatus) {
    let heard = &master.swarm.heard;
    let taken = heard.taken(host);
    if taken.is_empty() {
        return;
    }
    let deckies: Vec<DeckyName> = taken.iter().map(|(_, decky)| decky.clone()).collect();
    let placements = match master.journal.store().placements(&PlacementQuery::Of(deckies)).await {
        Ok(placements) => placements,
        Err(error) => {
            log::warn!(target: "decnet_lifecycle::heartbeat", host:% = host, error:% = error; "what a beat shows can't be compared now");
            return;
        }
    };
    let placements: BTreeMap<&DeckyName, &Placement> =
        placements.iter().map(|placement| (&placement.decky, placement)).collect();
    let (at, deadlines) = (master.time.clock.monotonic(), &master.time.deadlines);
    let steady = Steady { changed: deadlines.unknown, unchanged: deadlines.silence.max(deadlines.unknown) };
    let mut ends = BTreeMap::new();
    for (id, decky) in taken {
        let asked =
            placements.get(&decky).and_then(|placement| placement.tried.get(&id)).map(|tried| &tried.aim);
        let (sights, wants) = match asked {
            Some(asked) => ((of(before, &decky, asked), of(status, &decky, asked)), services(asked)),
            None => ((Sight::Untold, Sight::Untold), [].as_slice()),
        };
        if let Some(end) = heard.look(host, id, sights, wants, at, steady) {
            ends.insert(id, end);
        }
    }
    if !ends.is_empty()
        && let Err(error) = end(master, host, ends).await
    {
        log::warn!(target: "decnet_lifecycle::heartbeat", host:% = host, error:% = error; "rows that beats have ended stay open until the next");
    }
}

async fn end(master: &Master, host: &HostId, ends: BTreeMap<LifecycleId, End>) -> Result<(), StoreError> {
    let ids: Vec<LifecycleId> = ends.keys().copied().collect();
    let at = master.time.clock.now();
    let mut steps = Vec::new();
    for record in master.journal.store().read(&ids).await? {
        let Some(end) = ends.get(&record.id) else { continue };
        if let AnyLifecycle::Running(row) = AnyLifecycle::from_record(record) {
            log::info!(target: "decnet_lifecycle::heartbeat", host:% = host, lifecycle_id:% = row.id(), end:? = end; "a row ends without a word of its own");
            steps.push(match failure(host, end) {
                None => row.succeed(at).into_intent(),
                Some(failure) => row.fail(failure, at).into_intent(),
            });
        }
    }
    for answer in master.journal.commit_intents(steps).await {
        match answer {
            Err(CommitError::NotCommitted { error, lifecycle }) => {
                lifecycle.hand_over();
                return Err(error);
            }
            Err(CommitError::Unknown { error, .. }) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Why a row fails that ends so; none if it ends well.
fn failure(host: &HostId, end: &End) -> Option<Failure> {
    let failed = |kind, text: &str| Some(Failure::new(kind, text));
    match end {
        End::Seen => None,
        End::CallFailed(error) => failed(FailureKind::Reported, error),
        End::LeftOut => {
            let text = format!(
                "host {host} said that the call went well, and not of this decky, which its beats don't show as asked"
            );
            failed(FailureKind::Reported, &text)
        }
        End::Cancelled => Some(cancelled(host)),
    }
}

/// What a row says that its worker could not be asked to stop.
pub(crate) fn cancelled(host: &HostId) -> Failure {
    let text = format!(
        "given up, and not stopped: the agent of host {host} can't be asked to stop, so what it was sent may still be done there"
    );
    Failure::new(FailureKind::Cancelled, &text)
}
