//! Stores with feeds of a given length.

use std::sync::Arc;

use decnet_lifecycle::decide::{Batch, Change, Insert, Outcome, Step};
use decnet_lifecycle::lifecycle::Phase;
use decnet_lifecycle::store::{MemoryStore, Retention, Store};
use decnet_lifecycle::{Overlap, Record, Timestamp};
use futures_lite::future::block_on;

use crate::rows::row;

/// A store in whose feed so many changes are.
pub fn filled(changes: u64) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    fill(&*store, 1, changes);
    store
}

/// Adds rows with these numbers, a change each.
pub fn fill(store: &dyn Store, first: u64, last: u64) -> Vec<Record> {
    let insert = |number| Change::Insert(Box::new(Insert::new(row(number), Overlap::Reject)));
    commit(store, (first..=last).map(insert).collect())
}

/// Ends rows, and removes them and what the feed has of them.
pub fn end_and_prune(store: &dyn Store, rows: &[Record]) {
    let mut rows = rows.to_vec();
    let at = rows[0].created_at;
    for phase in [Phase::Running { since: at, deadline: at }, Phase::Succeeded { since: at, at }] {
        let step = |row: &Record| {
            let next = Record { phase: phase.clone(), ..row.clone() };
            Change::Step(Box::new(Step::new(row.revision, next)))
        };
        rows = commit(store, rows.iter().map(step).collect());
    }
    let policy = Retention::closed_before(Timestamp::from_micros(i64::MAX));
    while block_on(store.prune(&policy)).unwrap().more {}
}

fn commit(store: &dyn Store, changes: Vec<Change>) -> Vec<Record> {
    let outcomes = block_on(store.commit(Batch::all_or_none(changes))).unwrap();
    let applied = outcomes.into_iter().map(|outcome| match outcome {
        Outcome::Applied { record, .. } => *record,
        other => panic!("{other:?}"),
    });
    applied.collect()
}
