//! Rows and steps for the cases, and short ways to commit them.

use std::time::Duration;

use crate::decide::{Batch, Change, Insert, Outcome, Overlap, Step};
use crate::lifecycle::{
    DeckyName, Failure, FailureKind, LifecycleId, MasterName, NameError, Operation, Owner, Phase, Record,
    Revision, Timestamp,
};
use crate::store::{Entry, Feed, Store};

use super::Wrong;

pub(super) const T0: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

pub(super) fn at(seconds: u64) -> Timestamp {
    T0.plus(Duration::from_secs(seconds))
}

pub(super) fn decky(number: usize) -> Result<DeckyName, NameError> {
    DeckyName::parse(&format!("decky-{number:03}"))
}

/// A pending row made `number` seconds after the start, due an hour later.
pub(super) fn row(number: usize, decky_number: usize) -> Result<Record, NameError> {
    let seconds = u64::try_from(number).unwrap_or(0);
    let mut tail = [0; 10];
    tail[2..].copy_from_slice(&seconds.to_be_bytes());
    Ok(Record {
        id: LifecycleId::from_parts(at(seconds), tail),
        decky: decky(decky_number)?,
        host: None,
        operation: Operation::Deploy,
        phase: Phase::Pending { deadline: at(seconds + 3_600) },
        owner: Owner { master: MasterName::parse("master")?, epoch: 1 },
        created_at: at(seconds),
        updated_at: at(seconds),
        cancel_requested_at: None,
        claimed_completion: None,
        key: None,
        revision: Revision::ZERO,
    })
}

pub(super) fn insert(record: Record, overlap: Overlap) -> Change {
    Change::Insert(Box::new(Insert::new(record, overlap)))
}

pub(super) fn started(record: &Record, seconds: u64) -> Record {
    let since = at(seconds);
    Record {
        phase: Phase::Running { since, deadline: at(seconds + 60) },
        updated_at: since,
        ..record.clone()
    }
}

pub(super) fn ended(record: &Record, seconds: u64) -> Record {
    let since = record.running_since().unwrap_or(record.created_at);
    Record { phase: Phase::Succeeded { since, at: at(seconds) }, updated_at: at(seconds), ..record.clone() }
}

pub(super) fn failed(record: &Record, seconds: u64, message: &str) -> Record {
    let failure = Failure::new(FailureKind::Engine, message);
    let phase = Phase::Failed { since: record.running_since(), at: at(seconds), failure };
    Record { phase, updated_at: at(seconds), ..record.clone() }
}

pub(super) fn step(expected: Revision, next: Record) -> Change {
    Change::Step(Box::new(Step::new(expected, next)))
}

pub(super) async fn one(store: &dyn Store, change: Change) -> Result<Outcome, Wrong> {
    let mut outcomes = store.commit(Batch::per_row(vec![change])).await?;
    ensure!(outcomes.len() == 1, "{} outcomes for one change", outcomes.len());
    outcomes.pop().ok_or_else(|| Wrong("no outcome".into()))
}

pub(super) async fn applied(store: &dyn Store, change: Change) -> Result<Record, Wrong> {
    match one(store, change).await? {
        Outcome::Applied { record, .. } => Ok(*record),
        other => Err(Wrong(format!("a sound change gave {other:?}"))),
    }
}

pub(super) async fn inserted(store: &dyn Store, number: usize, decky: usize) -> Result<Record, Wrong> {
    applied(store, insert(row(number, decky)?, Overlap::Reject)).await
}

pub(super) async fn read_one(store: &dyn Store, id: LifecycleId) -> Result<Option<Record>, Wrong> {
    Ok(store.read(&[id]).await?.pop())
}

pub(super) async fn entries(store: &dyn Store) -> Result<Vec<Entry>, Wrong> {
    match store.changes(Revision::ZERO, usize::MAX).await? {
        Feed::Entries { entries, .. } => Ok(entries),
        Feed::Compacted { oldest } => {
            Err(Wrong(format!("nothing was pruned, but the feed starts at {oldest}")))
        }
    }
}
