//! Rows to measure with.

use decnet_lifecycle::{
    decide::{Batch, Change, Insert, Outcome, Step},
    lifecycle::{MasterName, Owner, Phase, Revision},
    store::Store,
    *,
};
use futures_lite::future::block_on;

pub fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_767_225_600_000_000).plus(std::time::Duration::from_secs(seconds))
}

pub fn pending(number: u64, decky: u64) -> Record {
    let mut tail = [0; 10];
    tail[2..].copy_from_slice(&number.to_be_bytes());
    Record {
        id: LifecycleId::from_parts(at(number / 100), tail),
        decky: DeckyName::parse(&format!("decky-{decky:06}")).unwrap(),
        host: None,
        operation: Operation::Deploy,
        phase: Phase::Pending { deadline: at(number / 100 + 1_800) },
        owner: Owner { master: MasterName::parse("master").unwrap(), epoch: 0x1234_5678_9abc },
        created_at: at(number / 100),
        updated_at: at(number / 100),
        cancel_requested_at: None,
        claimed_completion: None,
        key: None,
        revision: Revision::ZERO,
    }
}

pub fn insert(record: Record) -> Change {
    Change::Insert(Box::new(Insert::new(record, Overlap::Allow)))
}

/// The rows of a batch that must have been applied.
pub fn commit(store: &dyn Store, changes: Vec<Change>) -> Vec<Record> {
    block_on(store.commit(Batch::per_row(changes)))
        .unwrap()
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Applied { record, .. } => *record,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// Fills a store with closed rows: each was pending, ran, and succeeded.
pub fn fill(store: &dyn Store, rows: u64) {
    const PART: u64 = 20_000;
    // Each decky has a history of 50 rows, however many deckies there are.
    let deckies = rows / 50;
    for from in (0..rows).step_by(PART as usize) {
        let to = rows.min(from + PART);
        let made =
            commit(store, (from..to).map(|number| insert(pending(number, number % deckies))).collect());
        let step = |row: &Record, phase: Phase| {
            let next = Record { phase, ..row.clone() };
            Change::Step(Box::new(Step::new(row.revision, next)))
        };
        let running = |row: &Record| Phase::Running { since: row.created_at, deadline: row.created_at };
        let started = commit(store, made.iter().map(|row| step(row, running(row))).collect());
        let succeeded = |row: &Record| Phase::Succeeded { since: row.created_at, at: row.created_at };
        commit(store, started.iter().map(|row| step(row, succeeded(row))).collect());
    }
}
