//! A disk that fails at its n-th call, for every n: no panic, no half batch,
//! nothing acknowledged is lost.

use std::io;

use decnet_lifecycle::store::Store as _;
use decnet_lifecycle::testkit::sim::SimDisk;
use decnet_lifecycle::{
    decide::{Batch, Change, Insert, Outcome},
    lifecycle::Revision,
    store::{Query, RedbStore},
    *,
};
use futures_lite::future::block_on;

#[path = "rows/mod.rs"]
mod rows;

use rows::row;

fn insert(number: u64) -> Change {
    Change::Insert(Box::new(Insert::new(row(number), Overlap::Reject)))
}

/// Commits pairs of rows until the disk fails; gives how many pairs were
/// acknowledged, and whether one was left in doubt.
fn workload(store: &RedbStore) -> (u64, bool) {
    for pair in 0..12 {
        let batch = Batch::all_or_none(vec![insert(2 * pair), insert(2 * pair + 1)]);
        match block_on(store.commit(batch)) {
            Ok(outcomes) => {
                assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied { .. })))
            }
            Err(StoreError::Unknown { .. }) => return (pair, true),
            Err(StoreError::NotCommitted { .. } | StoreError::Closed { .. }) => return (pair, false),
            Err(other) => panic!("{other}"),
        }
    }
    (12, false)
}

#[test]
fn every_nth_io_error_is_typed_and_loses_nothing_acknowledged() {
    let begin = SimDisk::new();
    let store = RedbStore::with_backend(begin.handle()).unwrap();
    let opened = begin.calls();
    assert_eq!(workload(&store), (12, false));
    let calls = begin.calls();
    drop(store);
    let (mut doubts, mut landed) = (0, 0);
    for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
        for n in opened + 1..=calls {
            let disk = SimDisk::new();
            let store = RedbStore::with_backend(disk.handle()).unwrap();
            disk.fail(n, u64::MAX, kind);
            let (acknowledged, doubt) = workload(&store);
            assert!(acknowledged < 12, "call {n} failed unnoticed");
            // A store over a backend can't be opened anew: it closes for good.
            let again = block_on(store.commit(Batch::per_row(vec![insert(900)])));
            assert!(matches!(again, Err(StoreError::Closed { .. })), "{again:?}");
            drop(store);
            let disk = disk.power_cut(&mut Vec::clear);
            let store = RedbStore::with_backend(disk.handle()).unwrap();
            let rows = block_on(store.query(&Query::new())).unwrap().records.len() as u64;
            let whole = [acknowledged, acknowledged + u64::from(doubt)].map(|pairs| 2 * pairs);
            assert!(
                whole.contains(&rows),
                "call {n}: {rows} rows, {acknowledged} pairs acknowledged, doubt: {doubt}"
            );
            doubts += u64::from(doubt);
            landed += u64::from(rows > 2 * acknowledged);
            let next = block_on(store.commit(Batch::per_row(vec![insert(901)]))).unwrap();
            let Some(Outcome::Applied { record, .. }) = next.first() else { panic!("{next:?}") };
            assert_eq!(record.revision, Revision::new(rows + 1));
        }
    }
    // Both kinds of doubt must have occurred, or nothing was tested.
    assert!(landed > 0 && doubts > landed, "{doubts} in doubt, {landed} of them had landed");
}

/// A disk that fails for one call only: the store opens the file anew and goes
/// on, without losing what it acknowledged.
#[test]
fn after_one_io_error_the_store_reopens_and_goes_on() {
    let count = |n: Option<u64>| {
        let disk = SimDisk::new();
        let handle = disk.clone();
        let (store, writer) = RedbStore::simulated(move || handle.handle()).unwrap();
        let mut writer = Box::pin(writer);
        let mut commit = |number: u64| {
            let commit = store.commit(Batch::all_or_none(vec![insert(2 * number), insert(2 * number + 1)]));
            let writing = async {
                (&mut writer).await;
                unreachable!("the store closed for good after one error")
            };
            block_on(futures_lite::future::or(commit, writing))
        };
        let opened = disk.calls();
        if let Some(n) = n {
            disk.fail(opened + n, 1, io::ErrorKind::Other);
        }
        let mut acknowledged = 0;
        let mut failed = 0;
        for number in 0..6 {
            match commit(number) {
                Ok(_) => acknowledged += 2,
                Err(StoreError::NotCommitted { .. } | StoreError::Unknown { .. }) => failed += 1,
                Err(other) => panic!("{n:?}: {other}"),
            }
        }
        let rows = block_on(store.query(&Query::new())).unwrap().records.len();
        assert!((acknowledged..=acknowledged + 2 * failed).contains(&rows) && rows % 2 == 0, "{n:?}: {rows}");
        assert_eq!(failed, usize::from(n.is_some()), "{n:?}");
        disk.calls() - opened
    };
    let calls = count(None);
    for n in 1..=calls {
        count(Some(n));
    }
}
