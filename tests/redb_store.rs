//! The redb store as a file: creation, refusals, sharing, reopening, threads.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use decnet_lifecycle::{
    decide::{Batch, Change, Insert, KeyClaim, Outcome, Step},
    lifecycle::{Phase, Revision},
    store::{Feed, OpenError, PlacementQuery, Query, RedbReader, RedbStore, Retention, Store},
    *,
};
use futures_lite::future::block_on;

#[path = "rows/mod.rs"]
mod rows;

use rows::row;

fn insert(number: u64) -> Batch {
    Batch::per_row(vec![Change::Insert(Box::new(Insert::new(row(number), Overlap::Reject)))])
}

fn put(store: &dyn Store, number: u64) {
    let outcomes = block_on(store.commit(insert(number))).unwrap();
    assert!(matches!(outcomes.as_slice(), [Outcome::Applied { .. }]), "{outcomes:?}");
}

fn count(store: &dyn Store) -> usize {
    block_on(store.query(&Query::new().limit(1_000))).unwrap().records.len()
}

#[test]
fn a_new_file_is_private_and_nothing_else_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    drop(RedbStore::open(&path).unwrap());
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
        let name = entry.file_name().into_string().unwrap();
        assert!(["s.redb", "s.redb.holder"].contains(&name.as_str()), "{name}");
    }
}

/// What refuses to open is left as it was.
fn refused(path: &Path) -> OpenError {
    let before = fs::read(path).unwrap();
    let error = RedbStore::open(path).unwrap_err();
    assert_eq!(fs::read(path).unwrap(), before, "{error}");
    let read = RedbReader::open(path).unwrap_err();
    assert_eq!(std::mem::discriminant(&read), std::mem::discriminant(&error), "{read} / {error}");
    assert_eq!(fs::read(path).unwrap(), before);
    error
}

#[test]
fn foreign_files_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    for bytes in [&b""[..], b"x", b"SQLite format 3\0 and more", b"redb\x1a\x0a\xa9\x0d"] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(refused(&path), OpenError::Foreign { .. }));
    }
    fs::remove_file(&path).unwrap();
    let table: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("theirs");
    let theirs = redb::Database::create(&path).unwrap();
    let txn = theirs.begin_write().unwrap();
    txn.open_table(table).unwrap().insert(1, 1).unwrap();
    txn.commit().unwrap();
    theirs.close().unwrap();
    assert!(matches!(refused(&path), OpenError::Foreign { .. }));
    assert!(matches!(RedbStore::open(dir.path()).unwrap_err(), OpenError::Foreign { .. }));
    let nowhere = dir.path().join("no/such/dir/s.redb");
    assert!(matches!(RedbStore::open(nowhere).unwrap_err(), OpenError::Io { .. }));
}

#[test]
fn a_truncated_or_scribbled_file_never_panics() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    let store = RedbStore::open(&path).unwrap();
    put(&store, 1);
    drop(store);
    let whole = fs::read(&path).unwrap();
    let damaged = dir.path().join("damaged.redb");
    for length in (0..whole.len()).step_by(whole.len() / 40) {
        fs::write(&damaged, &whole[..length]).unwrap();
        if let Ok(store) = RedbStore::open(&damaged) {
            let _ = block_on(store.query(&Query::new()));
        }
    }
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..60 {
        let mut bytes = whole.clone();
        for _ in 0..8 {
            let place = random.usize(9..bytes.len());
            bytes[place] = random.u8(..);
        }
        fs::write(&damaged, &bytes).unwrap();
        if let Ok(store) = RedbStore::open(&damaged) {
            let _ = block_on(store.query(&Query::new()));
            let _ = block_on(store.commit(insert(9)));
        }
    }
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    drop(RedbStore::open(&path).unwrap());
    let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("decnet-lifecycle");
    let db =
        redb::Builder::new().set_concurrency_mode(redb::ConcurrencyMode::SingleWriter).open(&path).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(meta).unwrap().insert("schema", 3).unwrap();
    txn.commit().unwrap();
    db.close().unwrap();
    let error = refused(&path);
    assert!(matches!(error, OpenError::Newer { found: 3, known: 2, .. }));
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[test]
fn a_second_writer_is_told_who_holds_the_file_and_readers_follow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    let store = RedbStore::open(&path).unwrap();
    put(&store, 1);
    match RedbStore::open(&path).unwrap_err() {
        OpenError::InUse { holder, .. } => assert_eq!(holder, Some(std::process::id())),
        other => panic!("{other}"),
    }
    let reader = RedbReader::open(&path).unwrap();
    assert_eq!(count(&reader), 1);
    put(&store, 2);
    assert_eq!(count(&reader), 2, "a reader does not follow the writer");
    assert!(matches!(block_on(reader.commit(insert(3))), Err(StoreError::Closed { .. })));
    drop(store);
    RedbStore::open(&path).unwrap();
}

#[test]
fn many_submitters_share_commits_and_every_revision_is_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(RedbStore::open(dir.path().join("s.redb")).unwrap());
    let executor = smol::Executor::new();
    block_on(executor.run(async {
        let tasks: Vec<_> = (0..512)
            .map(|number| {
                let store = Arc::clone(&store);
                executor.spawn(async move { store.commit(insert(number)).await })
            })
            .collect();
        for task in tasks {
            assert!(matches!(task.await.unwrap().as_slice(), [Outcome::Applied { .. }]));
        }
    }));
    match block_on(store.changes(Revision::ZERO, 1_000)).unwrap() {
        Feed::Entries { entries, head } => {
            assert_eq!(head, Revision::new(512));
            assert!(entries.iter().map(|entry| entry.revision.get()).eq(1..=512));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bad_batch_does_not_fail_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::open(dir.path().join("s.redb")).unwrap();
    let mut running = row(5);
    running.phase = Phase::Running { since: running.created_at, deadline: running.created_at };
    let bad = Batch::per_row(vec![Change::Insert(Box::new(Insert::new(running, Overlap::Reject)))]);
    let commits = async {
        let (good, other) = (store.commit(insert(1)), store.commit(insert(2)));
        let both = futures_lite::future::zip(good, other);
        futures_lite::future::zip(store.commit(bad), both).await
    };
    let (bad, (good, other)) = block_on(commits);
    assert!(matches!(bad, Err(StoreError::Refused { .. })), "{bad:?}");
    assert!(matches!(good.unwrap().as_slice(), [Outcome::Applied { .. }]));
    assert!(matches!(other.unwrap().as_slice(), [Outcome::Applied { .. }]));
}

#[test]
fn a_closed_store_refuses_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    let store = RedbStore::open(&path).unwrap();
    put(&store, 1);
    block_on(store.close()).unwrap();
    block_on(store.close()).unwrap();
    assert!(matches!(block_on(store.commit(insert(2))), Err(StoreError::Closed { .. })));
    assert!(matches!(block_on(store.query(&Query::new())), Err(StoreError::Closed { .. })));
    assert_eq!(count(&RedbStore::open(&path).unwrap()), 1);
}

#[test]
fn a_damaged_row_is_an_error_not_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    let store = RedbStore::open(&path).unwrap();
    put(&store, 1);
    drop(store);
    let rows: redb::TableDefinition<'_, u128, &[u8]> = redb::TableDefinition::new("decnet-lifecycle/rows");
    for (place, bytes) in [&[][..], &[9], &[1], &[1, 2, 3], &[1; 300]].into_iter().enumerate() {
        let db = redb::Builder::new()
            .set_concurrency_mode(redb::ConcurrencyMode::SingleWriter)
            .open(&path)
            .unwrap();
        let txn = db.begin_write().unwrap();
        txn.open_table(rows).unwrap().insert(row(1).id.as_u128(), bytes).unwrap();
        txn.commit().unwrap();
        db.close().unwrap();
        let store = RedbStore::open(&path).unwrap();
        let error = block_on(store.read(&[row(1).id])).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        put(&store, 100 + place as u64);
    }
}

/// Commits rows under one key, and ends each at its time.
fn closed_under_a_key(store: &dyn Store, rows: &[Record], ends: &[Timestamp]) -> KeyClaim {
    let key = KeyClaim { key: RequestKey::parse("k").unwrap(), hash: [7; 32] };
    let inserts =
        rows.iter().map(|record| Change::Insert(Box::new(Insert::new(record.clone(), Overlap::Reject))));
    block_on(store.commit(Batch::all_or_none(inserts.collect()).with_key(Some(key.clone())))).unwrap();
    for (row, at) in rows.iter().zip(ends) {
        let row = block_on(store.read(&[row.id])).unwrap().remove(0);
        let failure = Failure::new(FailureKind::Engine, "x");
        let phase = Phase::Failed { since: None, at: *at, failure };
        let next = Record { phase, updated_at: *at, ..row.clone() };
        let step = Change::Step(Box::new(Step::new(row.revision, next)));
        block_on(store.commit(Batch::per_row(vec![step]))).unwrap();
    }
    key
}

#[test]
fn a_key_goes_with_its_last_row_and_prune_comes_to_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::open(dir.path().join("s.redb")).unwrap();
    let (first, second) = (row(1), row(2));
    let at = |seconds: i64| Timestamp::from_micros(first.created_at.as_micros() + seconds * 1_000_000);
    let key = closed_under_a_key(&store, &[first.clone(), second.clone()], &[at(10), at(20)]);
    let again = |store: &dyn Store| {
        let record = Record { decky: DeckyName::parse("third").unwrap(), ..row(3) };
        let third = Insert::new(record, Overlap::Reject);
        let batch = Batch::all_or_none(vec![Change::Insert(Box::new(third))]).with_key(Some(key.clone()));
        block_on(store.commit(batch)).unwrap()
    };
    let prune = |until: i64, limit: usize| {
        block_on(store.prune(&Retention::closed_before(at(until)).limit(limit))).unwrap()
    };
    let pruned = prune(15, 100);
    assert_eq!((pruned.rows, pruned.more), (1, false));
    assert!(!matches!(again(&store)[0], Outcome::Applied { .. }), "the key went with its first row");
    // The rest: one row, and more feed entries than one go takes.
    let pruned = prune(25, 1);
    assert_eq!((pruned.rows, pruned.more), (1, true));
    assert!(matches!(again(&store)[0], Outcome::Applied { .. }), "the key outlived its last row");
    // No row is left to go; what is left of the feed goes all the same.
    let head = |feed: Feed| match feed {
        Feed::Compacted { oldest } => oldest,
        Feed::Entries { entries, .. } => entries[0].revision,
    };
    let oldest = |store: &dyn Store| head(block_on(store.changes(Revision::ZERO, 1)).unwrap());
    let before = oldest(&store);
    let mut rounds = 0;
    while prune(25, 1).more {
        rounds += 1;
        assert!(rounds < 10, "prune never ends");
    }
    assert!(oldest(&store) > before, "entries went without their being kept gone");
}

#[test]
fn a_row_whose_clock_ran_ahead_by_hours_is_pruned_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::open(dir.path().join("s.redb")).unwrap();
    let at = row(1).created_at;
    let ahead = at.plus(std::time::Duration::from_secs(20 * 60 * 60));
    let record = Record { id: LifecycleId::from_parts(ahead, [1; 10]), ..row(1) };
    closed_under_a_key(&store, &[record], &[at.plus(std::time::Duration::from_secs(1))]);
    let until = at.plus(std::time::Duration::from_secs(2));
    assert_eq!(block_on(store.prune(&Retention::closed_before(until))).unwrap().rows, 1);
}

#[test]
fn a_reader_reads_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    let store = RedbStore::open(&path).unwrap();
    put(&store, 1);
    let reader = RedbReader::open(&path).unwrap();
    assert_eq!(block_on(reader.read(&[row(1).id])).unwrap()[0].id, row(1).id);
    let policy = Retention::closed_before(Timestamp::from_micros(i64::MAX));
    for refused in [block_on(reader.commit(insert(2))).err(), block_on(reader.prune(&policy)).err()] {
        assert!(matches!(refused, Some(StoreError::Closed { .. })), "{refused:?}");
    }
    let below = path.join("below-a-file");
    assert!(matches!(RedbStore::open(below).unwrap_err(), OpenError::Io { doing: "looking at", .. }));
}

#[test]
fn a_damaged_placement_keeps_its_deckys_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    let store = RedbStore::open(&path).unwrap();
    let at = row(1).created_at.plus(std::time::Duration::from_secs(1));
    closed_under_a_key(&store, &[row(1), row(2)], &[at, at]);
    drop(store);
    let placements: redb::TableDefinition<'_, &str, &[u8]> =
        redb::TableDefinition::new("decnet-lifecycle/placements");
    let db =
        redb::Builder::new().set_concurrency_mode(redb::ConcurrencyMode::SingleWriter).open(&path).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(placements).unwrap().insert(row(1).decky.as_str(), &[2, 0, 0, 0, 0, 7][..]).unwrap();
    txn.commit().unwrap();
    db.close().unwrap();
    let store = RedbStore::open(&path).unwrap();
    let policy = Retention::closed_before(at.plus(std::time::Duration::from_secs(60)));
    while block_on(store.prune(&policy)).unwrap().more {}
    let left: Vec<LifecycleId> =
        block_on(store.query(&Query::new())).unwrap().records.iter().map(|row| row.id).collect();
    assert_eq!(left, [row(1).id]);
    // The other decky goes on, this one says why not.
    put(&store, 2_000);
    let again = Insert::new(Record { id: row(9).id, ..row(1) }, Overlap::Reject);
    let error = block_on(store.commit(Batch::per_row(vec![Change::Insert(Box::new(again))]))).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

/// A placement that can't be read is in the way of what might want its address,
/// and of nothing else; and it can be forgotten.
#[test]
fn a_damaged_placement_lets_rows_end_and_is_forgotten() {
    use decnet_lifecycle::testkit::FakeEngine;
    use redb::ReadableTable as _;
    const PLACEMENTS: redb::TableDefinition<'_, &str, &[u8]> =
        redb::TableDefinition::new("decnet-lifecycle/placements");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    let fleet = FleetConfig::from_json(include_bytes!("../examples/fleet.json")).unwrap();
    let name = |text| DeckyName::parse(text).unwrap();
    let master = |seed| {
        let store = Arc::new(RedbStore::open(&path).unwrap());
        let built = Runner::builder(store, Arc::new(FakeEngine::new())).seed(seed).build();
        block_on(built.unwrap().recover()).unwrap()
    };
    let (first, _) = master(1);
    block_on(block_on(first.accept_deploy(DeployRequest::new(fleet.clone()))).unwrap().run());
    // One row each that was accepted and not begun.
    let some = DeployRequest::new(fleet.clone()).only([name("decky-01"), name("decky-02")]);
    drop(block_on(first.accept_deploy(some)).unwrap());
    drop(first);
    let db = redb::Database::open(&path).unwrap();
    let txn = db.begin_write().unwrap();
    {
        let mut table = txn.open_table(PLACEMENTS).unwrap();
        let mut bytes = table.get("decky-01").unwrap().unwrap().value().to_vec();
        bytes[9] ^= 0x10;
        table.insert("decky-01", bytes.as_slice()).unwrap();
    }
    txn.commit().unwrap();
    drop(db);

    let (runner, recovered) = master(2);
    // What the damaged one's row was to bring about is lost with it.
    assert_eq!((recovered.failed, recovered.accepted.len()), (1, 1));
    for accepted in recovered.accepted {
        block_on(accepted.run());
    }
    assert!(block_on(runner.list(&Query::new().open())).unwrap().records.is_empty());
    let error = block_on(runner.accept_deploy(DeployRequest::new(fleet.clone()))).unwrap_err();
    assert!(error.to_string().contains("decky-01"), "{error}");
    let forgotten = block_on(runner.forget(&[name("decky-01"), name("decky-03")].into())).unwrap();
    assert_eq!(forgotten.iter().map(|placement| placement.decky.as_str()).collect::<Vec<_>>(), ["decky-03"]);
    let left = block_on(runner.placements(&PlacementQuery::All)).unwrap();
    assert_eq!(left.len(), 4);
    let here = PlacementQuery::At(left[0].now().unwrap().home.clone());
    assert_eq!(block_on(runner.placements(&here)).unwrap(), left);
    block_on(block_on(runner.accept_deploy(DeployRequest::new(fleet))).unwrap().run());
    assert_eq!(block_on(runner.placements(&PlacementQuery::All)).unwrap().len(), 6);
}
