//! Deltas in, verdicts out: what a worker says of its rows, and what it
//! counts for.

use std::collections::BTreeMap;

use crate::beat::{Beat, BeatAnswer, Delta, Reported, Verdict};
use crate::journal::CommitError;
use crate::lifecycle::{
    AnyLifecycle, DeckyName, Failure, FailureKind, HostId, Leaves, Lifecycle, LifecycleId, Phase, Record,
    Running, Status,
};
use crate::master::{self, Master};
use crate::store::{Query, StoreError};

/// How far a worker's clock may be off before its claim counts as earlier
/// than the dispatch.
const SKEW: std::time::Duration = std::time::Duration::from_secs(5 * 60);

/// How many of a decky's last rows are read at once for an earlier one whose
/// delta may still be on its way, and how often.
const EARLIER_ROWS: usize = 32;
const EARLIER_PAGES: usize = 8;

/// Takes a beat: its deltas, which rows it knows, what runs there.
pub(crate) async fn take(master: &Master, host: &HostId, beat: &Beat) -> Result<BeatAnswer, StoreError> {
    if !beat.known_rows.are_named() {
        master.swarm.heard.names_no_rows(host);
    }
    let deltas: Vec<Delta> = beat.deltas.iter().flatten().cloned().collect();
    let mut judged = apply(master, host, &deltas).await?.into_iter();
    let verdicts = beat.deltas.iter().map(|delta| match delta {
        Some(_) => judged.next().unwrap_or(Verdict::Malformed),
        None => Verdict::Malformed,
    });
    let verdicts = verdicts.collect();
    let (now, grace) = (master.time.clock.monotonic(), master.time.deadlines.unknown);
    master.discretion.load(master.journal.store()).await?;
    let runtime = master.discretion.of_runtime(&beat.status.runtime);
    let lost = master.swarm.heard.says(host, &beat.known_rows, &runtime, now, grace);
    fail_lost(master, host, &lost).await?;
    Ok(BeatAnswer { verdicts, cancel: master.swarm.heard.to_stop(host) })
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
) -> Result<Vec<Verdict>, StoreError> {
    master.swarm.heard.note(host, master.time.clock.monotonic());
    let most = master.swarm.limits.deltas.max(Beat::MAX_DELTAS).min(deltas.len());
    let taken = deltas.get(..most).unwrap_or_default();
    let mut found = Found::read(master, host, taken).await?;
    let mut verdicts = vec![Verdict::Malformed; deltas.len()];
    let mut places = Vec::new();
    let mut ends = Vec::new();
    let at = master.time.clock.now();
    for ((place, verdict), delta) in verdicts.iter_mut().enumerate().zip(taken) {
        match found.judge(master, host, delta).await? {
            Judged::Says(word) => *verdict = word,
            Judged::Ends(row) => {
                let step = match &delta.report {
                    Reported::Failed(error) => {
                        let failure = Failure::new(FailureKind::Reported, error);
                        let leaves = left_by(delta, error);
                        row.fail(failure, at).leaving(leaves).claiming(delta.completed_at).into_intent()
                    }
                    Reported::Succeeded | Reported::Running => {
                        row.succeed(at).claiming(delta.completed_at).into_intent()
                    }
                };
                places.push(place);
                ends.push(step);
            }
        }
    }
    let mut failed = None;
    for (place, answer) in places.into_iter().zip(master.journal.commit_intents(ends).await) {
        let word = match answer {
            Ok(_) => Verdict::Applied,
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

enum Judged {
    Says(Verdict),
    Ends(Lifecycle<Running>),
}

/// The rows that a beat's deltas may be about, read once; a row that a delta
/// of this beat ends is gone from here.
struct Found {
    by_id: BTreeMap<LifecycleId, Record>,
    open_of: BTreeMap<DeckyName, Vec<LifecycleId>>,
}

impl Found {
    async fn read(master: &Master, host: &HostId, deltas: &[Delta]) -> Result<Self, StoreError> {
        let store = master.journal.store();
        let ids: Vec<LifecycleId> = deltas.iter().filter_map(|delta| delta.lifecycle_id).collect();
        let mut found = Self { by_id: BTreeMap::new(), open_of: BTreeMap::new() };
        for record in store.read(&ids).await? {
            found.by_id.insert(record.id, record);
        }
        for delta in deltas.iter().filter(|delta| delta.lifecycle_id.is_none()) {
            if found.open_of.contains_key(&delta.decky) {
                continue;
            }
            let query = Query::new().decky(delta.decky.clone()).host(host.clone()).open();
            let open = store.query(&query).await?.records;
            found.open_of.insert(delta.decky.clone(), open.iter().map(|record| record.id).collect());
            found.by_id.extend(open.into_iter().map(|record| (record.id, record)));
        }
        Ok(found)
    }

    async fn judge(&mut self, master: &Master, host: &HostId, delta: &Delta) -> Result<Judged, StoreError> {
        let named = match delta.lifecycle_id {
            Some(id) => self.by_id.get(&id),
            None => {
                let open = self.open_of.get(&delta.decky).into_iter().flatten();
                let mut matching =
                    open.filter_map(|id| self.by_id.get(id)).filter(|row| row.operation == delta.operation);
                let first = matching.next();
                if matching.next().is_some() {
                    return Ok(Judged::Says(Verdict::Stale));
                }
                first
            }
        };
        let Some(record) = named.cloned() else {
            return Ok(Judged::Says(Verdict::Unknown));
        };
        let refused = refused(&record, host, delta);
        if delta.lifecycle_id.is_some() && !matches!(refused, Some(Verdict::WrongHost | Verdict::Malformed)) {
            master.swarm.heard.names_rows(host);
        }
        if let Some(word) = refused {
            return Ok(Judged::Says(word));
        }
        if delta.lifecycle_id.is_none() && self.may_be_late(master, &record, delta).await? {
            return Ok(Judged::Says(Verdict::Stale));
        }
        if delta.report == Reported::Running {
            return Ok(Judged::Says(Verdict::Applied));
        }
        let id = record.id;
        match AnyLifecycle::from_record(record) {
            AnyLifecycle::Running(row) => {
                // A second end of the same row in one beat finds it closed.
                if let Some(kept) = self.by_id.get_mut(&id) {
                    let (at, since) = (kept.updated_at, row.since());
                    kept.phase = Phase::Succeeded { since, at };
                }
                Ok(Judged::Ends(row))
            }
            _ => Ok(Judged::Says(Verdict::AlreadyClosed)),
        }
    }

    /// Whether a delta without an id may be about an earlier row of the same
    /// decky, operation and host than this open one.
    ///
    /// Say that a deploy failed at its deadline while the worker was still at
    /// it, and was asked for again: the "succeeded" of the first comes only
    /// now, and would end the second, of which nothing is up yet. So a delta is
    /// refused if the time that it claims lies before this row's dispatch, or
    /// if an earlier row ended not long ago without the worker's word, or by
    /// this very delta, which then was sent again. A refusal is safe, for the
    /// deadline ends the row; a guess is not.
    async fn may_be_late(&self, master: &Master, row: &Record, delta: &Delta) -> Result<bool, StoreError> {
        let since = row.running_since().unwrap_or(row.created_at);
        if delta.completed_at.is_some_and(|claim| claim < since.minus(SKEW)) {
            return Ok(true);
        }
        // A step of the wall clock makes no row older than it is.
        let now = master.time.due_time();
        let patience = master.time.deadlines.remote_run();
        let is_of_the_same = |old: &Record| old.operation == row.operation && old.host == row.host;
        let may_speak = |old: &Record| {
            old.id != row.id
                && is_of_the_same(old)
                && old.running_since().is_some()
                && old.completed_at().is_some_and(|at| now.since(at) < patience)
                // Of work that was refused or never arrived no word can come.
                && !matches!(
                    old.failure().map(Failure::kind),
                    Some(FailureKind::Rejected | FailureKind::Unreachable)
                )
                && !is_newer(delta, old)
        };
        // A row that is older than this has ended longer ago than it may take.
        let horizon = master.time.deadlines.queue.saturating_add(patience.saturating_mul(2));
        let mut after = None;
        for _ in 0..EARLIER_PAGES {
            let query = Query::new().decky(row.decky.clone()).limit(EARLIER_ROWS).after(after);
            let page = master.journal.store().query(&query).await?;
            if page.records.iter().any(may_speak) {
                return Ok(true);
            }
            after = page.next;
            let is_old = |old: &Record| now.since(old.created_at) > horizon;
            if after.is_none() || page.records.last().is_some_and(is_old) {
                return Ok(false);
            }
        }
        // So many in so short a time: nobody can say which of them it is about.
        Ok(true)
    }
}

/// Whether a delta is another than the one that ended an earlier row. Without
/// a date on both sides that can't be said, and an earlier row that ended
/// without the worker's word has none.
fn is_newer(delta: &Delta, old: &Record) -> bool {
    match (delta.completed_at, old.claimed_completion) {
        (Some(claim), Some(before)) => claim > before,
        _ => false,
    }
}

fn refused(record: &Record, host: &HostId, delta: &Delta) -> Option<Verdict> {
    if record.host.as_ref() != Some(host) {
        return Some(Verdict::WrongHost);
    }
    if record.decky != delta.decky || record.operation != delta.operation {
        return Some(Verdict::Malformed);
    }
    match record.status() {
        Status::Succeeded | Status::Failed => Some(Verdict::AlreadyClosed),
        Status::Pending => Some(Verdict::Stale),
        Status::Running => None,
    }
}
