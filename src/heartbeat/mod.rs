//! Deltas in, verdicts out: what a worker says of its rows, and what it
//! counts for.

use crate::beat::{Beat, BeatAnswer, Delta, Reported, Verdict, WorkerStatus};
use crate::journal::CommitError;
use crate::lifecycle::{Failure, FailureKind, HostId, Leaves, LifecycleId};
use crate::master::{self, Master};
use crate::store::StoreError;

mod calls;
mod found;
mod sight;

use found::{Ends, Found, Judged};
pub(crate) use sight::cancelled;

/// Takes a beat: its deltas, which rows it knows, what runs there.
pub(crate) async fn take(master: &Master, host: &HostId, beat: &Beat) -> Result<BeatAnswer, StoreError> {
    let heard = &master.swarm.heard;
    if !beat.known_rows.are_named() {
        heard.names_no_rows(host);
    }
    let deltas: Vec<Delta> = beat.deltas.iter().flatten().cloned().collect();
    let mut judged = apply(master, host, &deltas, Some(&beat.status)).await?.into_iter();
    let verdicts = beat.deltas.iter().map(|delta| match delta {
        Some(_) => judged.next().unwrap_or(Verdict::Malformed),
        None => Verdict::Malformed,
    });
    let verdicts = verdicts.collect();
    let (now, grace) = (master.time.clock.monotonic(), master.time.deadlines.unknown);
    master.discretion.load(master.journal.store()).await?;
    let runtime = master.discretion.of_runtime(&beat.status.runtime).into_owned();
    let shown = WorkerStatus { runtime, ..beat.status.clone() };
    let (before, lost) = heard.says(host, &beat.known_rows, shown, now, grace);
    fail_lost(master, host, &lost).await?;
    if heard.has_named_none(host) {
        sight::look(master, host, &before, &beat.status).await;
    }
    Ok(BeatAnswer { verdicts, cancel: heard.to_stop(host) })
}

/// Fails those of the rows that are still open: their worker, which should
/// know them, does not.
async fn fail_lost(master: &Master, host: &HostId, lost: &[LifecycleId]) -> Result<(), StoreError> {
    if lost.is_empty() {
        return Ok(());
    }
    let text = format!(
        "the worker of host {host} does not know of it; did it lose its files, or never get it? ask again"
    );
    master::fail_open(master, lost, &Failure::new(FailureKind::WorkerLost, &text)).await;
    Ok(())
}

/// Takes one beat's deltas: all that count end in one commit.
pub(crate) async fn apply(
    master: &Master,
    host: &HostId,
    deltas: &[Delta],
    status: Option<&WorkerStatus>,
) -> Result<Vec<Verdict>, StoreError> {
    master.swarm.heard.note(host, master.time.clock.monotonic());
    let most = master.swarm.limits.deltas.max(Beat::MAX_DELTAS).min(deltas.len());
    let taken = deltas.get(..most).unwrap_or_default();
    let mut found = Found::read(master, host, taken).await?;
    let mut verdicts = vec![Verdict::Malformed; deltas.len()];
    let mut places = Vec::new();
    let mut ends = Vec::new();
    let heard = &master.swarm.heard;
    let at = master.time.clock.now();
    for ((place, verdict), delta) in verdicts.iter_mut().enumerate().zip(taken) {
        match found.judge(master, host, delta, status).await? {
            Judged::Says(word) => *verdict = word,
            Judged::Ends(Ends { row, claim, is_of_its_call }) => {
                let of_call = is_of_its_call.then(|| (row.id(), heard.call_of(host, row.id())));
                let step = match &delta.report {
                    Reported::Failed(error) => {
                        let failure = Failure::new(FailureKind::Reported, error);
                        let leaves = left_by(delta, error);
                        row.fail(failure, at).leaving(leaves).claiming(claim).into_intent()
                    }
                    Reported::Succeeded | Reported::Running => row.succeed(at).claiming(claim).into_intent(),
                };
                places.push((place, delta, of_call));
                ends.push(step);
            }
        }
    }
    let mut failed = None;
    for ((place, delta, of_call), answer) in places.into_iter().zip(master.journal.commit_intents(ends).await)
    {
        let word = match answer {
            Ok(_) => {
                if let Some(of_call) = of_call {
                    let failed = match &delta.report {
                        Reported::Failed(error) => Some(error.as_str()),
                        Reported::Succeeded | Reported::Running => None,
                    };
                    heard.call_is_over(host, of_call, failed, master.time.clock.monotonic());
                }
                Verdict::Applied
            }
            Err(CommitError::Conflict { .. }) => Verdict::AlreadyClosed,
            Err(CommitError::Missing { .. }) => Verdict::Unknown,
            Err(CommitError::NotCommitted { error, lifecycle }) => {
                lifecycle.hand_over();
                failed = Some(error);
                continue;
            }
            Err(CommitError::Unknown { error, .. }) => {
                failed = Some(error);
                continue;
            }
        };
        if let Some(slot) = verdicts.get_mut(place) {
            *slot = word;
        }
    }
    // Without a verdict the worker sends the delta again, which is harmless.
    failed.map_or(Ok(verdicts), Err)
}

/// What a failure that a worker reports leaves of its decky. A worker of ours
/// says which kind of failure it was, and puts back what its engine could not
/// do; of the original's nothing is known.
fn left_by(delta: &Delta, error: &str) -> Leaves {
    let put_back = ["Engine: ", "Rejected: ", "Store: ", "Clash: "];
    let said = delta.lifecycle_id.is_some() && put_back.iter().any(|kind| error.starts_with(kind));
    if said { Leaves::AsBefore } else { Leaves::Unknown }
}
