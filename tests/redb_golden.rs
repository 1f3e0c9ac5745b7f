//! Files that earlier versions wrote: each opens, and reads as it was written.
//!
//! `DECNET_LIFECYCLE_WRITE_GOLDEN=2` writes the file of schema 2 anew; that of
//! schema 1 was written by version 0.1.0 and is never written again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use decnet_lifecycle::placement::{Aim, Placed, Tried};
use decnet_lifecycle::{
    decide::{Annotate, Batch, Change, Insert, KeyClaim, Outcome, Refusal, Step},
    lifecycle::{EngineName, MasterName, Owner, Phase, Revision},
    placement::{Home, Placement, Standing},
    store::{Entry, Feed, PlacementQuery, Query, RedbReader, RedbStore, Store},
    *,
};
use futures_lite::future::block_on;

#[path = "rows/mod.rs"]
mod rows;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A copy of a golden file: opening it changes it.
fn copy_of(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("s.redb");
    fs::copy(golden(name), &copy).unwrap();
    (dir, copy)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_767_225_600_000_000 + seconds * 1_000_000)
}

fn all(store: &dyn Store) -> Vec<Record> {
    let page = block_on(store.query(&Query::new())).unwrap();
    assert_eq!(page.damaged, []);
    page.records
}

fn feed(store: &dyn Store) -> Vec<Entry> {
    match block_on(store.changes(Revision::ZERO, 100)).unwrap() {
        Feed::Entries { entries, .. } => entries,
        Feed::Compacted { oldest } => panic!("compacted to {oldest}"),
    }
}

/// The rows of schema 1's file: three deckies, the first failed before it ran.
fn rows_of_schema_1() -> Vec<Record> {
    let row = |number, revision| Record { revision: Revision::new(revision), ..rows::row(number) };
    let first = row(1, 4);
    let failure = Failure::new(FailureKind::Engine, "no such image");
    let phase = Phase::Failed { since: None, at: first.created_at, failure };
    vec![row(3, 3), row(2, 2), Record { phase, ..first }]
}

#[test]
fn the_file_of_schema_1_opens_and_is_taken_over() {
    let (_dir, copy) = copy_of("schema-1.redb");
    for open in 0..3 {
        let store = RedbStore::open(&copy).unwrap();
        let rows = rows_of_schema_1();
        assert_eq!(all(&store), rows, "open {open}");
        let entries = feed(&store);
        let told: Vec<_> =
            entries.iter().map(|entry| (entry.revision.get(), entry.id, entry.status)).collect();
        let [third, second, first] = [0, 1, 2].map(|place| rows[place].id);
        use Status::{Failed, Pending};
        let wanted = [(1, first, Pending), (2, second, Pending), (3, third, Pending), (4, first, Failed)];
        assert_eq!(told, wanted, "open {open}");
        assert_eq!(entries[3], Entry::of(&rows[2]));
        let open_rows = block_on(store.query(&Query::new().open())).unwrap();
        assert_eq!(open_rows.records, rows[..2]);
        let due = block_on(store.query(&Query::new().due_by(at(1)))).unwrap();
        assert_eq!(due.records.len(), 2);
        let own = block_on(store.query(&Query::new().decky(rows[2].decky.clone()))).unwrap();
        assert_eq!(own.records, rows[2..]);
        assert_eq!(block_on(store.placements(&PlacementQuery::All)).unwrap(), []);
    }
    let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("decnet-lifecycle");
    let db = redb::Builder::new().open_read_only(&copy).unwrap();
    let txn = redb::ReadableDatabase::begin_read(&db).unwrap();
    assert_eq!(txn.open_table(meta).unwrap().get("schema").unwrap().unwrap().value(), 2);
}

/// One who only reads is served as well.
#[test]
fn a_reader_of_schema_1_reads_all_of_it() {
    let (_dir, copy) = copy_of("schema-1.redb");
    assert_eq!(all(&RedbReader::open(&copy).unwrap()), rows_of_schema_1());
}

/// What is under each key of schema 1's file is damaged in turn.
#[test]
fn a_damaged_row_of_schema_1_is_put_aside_and_hides_no_other() {
    const ROWS: redb::TableDefinition<'_, u128, &[u8]> = redb::TableDefinition::new("rows");
    const FEED: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("feed");
    const ASIDE: redb::TableDefinition<'_, u128, &[u8]> =
        redb::TableDefinition::new("decnet-lifecycle/damaged-in-schema-1");
    let writing = |path: &Path| {
        let mut builder = redb::Builder::new();
        builder.set_concurrency_mode(redb::ConcurrencyMode::SingleWriter).open(path).unwrap()
    };
    for hurt in rows_of_schema_1() {
        for bytes in [&[][..], &[9], &[1], &[1, 2, 3], &[1; 300]] {
            let (_dir, copy) = copy_of("schema-1.redb");
            let db = writing(&copy);
            let txn = db.begin_write().unwrap();
            txn.open_table(ROWS).unwrap().insert(hurt.id.as_u128(), bytes).unwrap();
            txn.commit().unwrap();
            db.close().unwrap();
            let store = RedbStore::open(&copy).unwrap();
            let others: Vec<Record> =
                rows_of_schema_1().into_iter().filter(|row| row.id != hurt.id).collect();
            assert_eq!(all(&store), others);
            assert_eq!(block_on(store.read(&[hurt.id])).unwrap(), []);
            // Its changes can't be told any more; those after them can.
            let last = if hurt.revision == Revision::new(4) { 4 } else { hurt.revision.get() };
            let after = Revision::new(last);
            match block_on(store.changes(Revision::ZERO, 100)).unwrap() {
                Feed::Compacted { oldest } => assert_eq!(oldest, after.next()),
                Feed::Entries { .. } => panic!("changes of a row that is not there were told"),
            }
            block_on(store.changes(after, 100)).unwrap();
            block_on(store.close()).unwrap();
            let db = redb::Builder::new().open_read_only(&copy).unwrap();
            let txn = redb::ReadableDatabase::begin_read(&db).unwrap();
            let aside = txn.open_table(ASIDE).unwrap();
            assert_eq!(aside.get(hurt.id.as_u128()).unwrap().unwrap().value(), bytes);
        }
    }
    // An entry of the feed that is damaged takes no row along.
    let (_dir, copy) = copy_of("schema-1.redb");
    let db = writing(&copy);
    let txn = db.begin_write().unwrap();
    txn.open_table(FEED).unwrap().insert(2, &[1, 2][..]).unwrap();
    txn.commit().unwrap();
    db.close().unwrap();
    let store = RedbStore::open(&copy).unwrap();
    assert_eq!(all(&store), rows_of_schema_1());
    assert!(matches!(
        block_on(store.changes(Revision::ZERO, 9)).unwrap(),
        Feed::Compacted { oldest } if oldest == Revision::new(3)
    ));
}

fn name(text: &str) -> DeckyName {
    DeckyName::parse(text).unwrap()
}

fn id(number: u8) -> LifecycleId {
    LifecycleId::from_parts(at(i64::from(number)), [number; 10])
}

fn pending(number: u8, decky: &str, host: Option<&str>, operation: Operation) -> Record {
    let created_at = at(i64::from(number));
    Record {
        id: id(number),
        decky: name(decky),
        host: host.map(|host| HostId::parse(host).unwrap()),
        operation,
        phase: Phase::Pending { deadline: at(3_600) },
        owner: Owner { master: MasterName::parse("m").unwrap(), epoch: 7 },
        created_at,
        updated_at: created_at,
        cancel_requested_at: None,
        claimed_completion: None,
        key: None,
        revision: Revision::ZERO,
    }
}

/// A decky as placed: on a worker, or on the master with all that there can be.
fn placed(decky: &str, last: u8, host: Option<&str>, services: &[&str]) -> Arc<Placed> {
    let settings = match host {
        None => serde_json::json!({ "ssh": { "banner": "\u{1f41d}", "ports": [22, 2222] } }),
        Some(_) => serde_json::json!({}),
    };
    let config = serde_json::json!({
        "name": decky, "ip": format!("192.0.2.{last}"), "services": services, "distro": "debian",
        "base_image": "debian:12", "build_base": "debian:12-slim", "hostname": "srv", "host_uuid": host,
        "archetype": host.is_none().then_some("printer"), "service_config": settings, "nmap_os": "windows",
        "mutate_interval": 15, "last_mutated": 1.5, "last_login_attempt": 2.25,
    });
    let fleet = serde_json::json!({
        "mode": if host.is_some() { "swarm" } else { "unihost" }, "interface": "eth0",
        "subnet": "192.0.2.0/24", "gateway": "192.0.2.1", "ipvlan": host.is_none(),
        "log_file": "/var/log/decnet.log", "mutate_interval": 30, "deckies": [config],
    });
    let fleet = FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap();
    let engine = EngineName::parse("compose").unwrap();
    Arc::new(Placed::new(&fleet, &fleet.deckies[0], &MasterName::parse("m").unwrap(), Some(&engine)))
}

fn key() -> KeyClaim {
    KeyClaim { key: RequestKey::parse("order-66").unwrap(), hash: [0x5a; 32] }
}

fn raise(number: u8, placed: &Arc<Placed>, host: Option<&str>) -> Change {
    let record = pending(number, placed.config.name.as_str(), host, Operation::Deploy);
    Change::Insert(Box::new(Insert::new(record, Overlap::Reject).aim(Aim::Up(Arc::clone(placed)))))
}

fn commit(store: &dyn Store, batch: Batch) -> Vec<Record> {
    let outcomes = block_on(store.commit(batch)).unwrap();
    let row = |outcome| match outcome {
        Outcome::Applied { record, .. } => Some(*record),
        Outcome::Placed(_) => None,
        other => panic!("{other:?}"),
    };
    outcomes.into_iter().filter_map(row).collect()
}

fn step(store: &dyn Store, row: &Record, phase: Phase, at: Timestamp) -> Record {
    let next = Record { phase, updated_at: at, ..row.clone() };
    let step = Change::Step(Box::new(Step::new(row.revision, next)));
    commit(store, Batch::per_row(vec![step])).remove(0)
}

fn start(store: &dyn Store, row: &Record, since: Timestamp) -> Record {
    step(store, row, Phase::Running { since, deadline: at(1_000) }, since)
}

fn write_schema_2(store: &dyn Store) {
    let up = placed("up", 11, None, &["ssh"]);
    let unsure = placed("unsure", 12, Some("w1"), &["ssh", "ftp"]);
    let keyed = Batch::all_or_none(vec![raise(1, &up, None), raise(2, &unsure, Some("w1"))]);
    let rows = commit(store, keyed.with_key(Some(key())));
    let first = start(store, &rows[0], at(10));
    let second = start(store, &rows[1], at(11));
    step(store, &first, Phase::Succeeded { since: at(10), at: at(20) }, at(20));
    let failure = Failure::new(FailureKind::WorkerLost, "no beat since noon");
    let lost = Record {
        phase: Phase::Failed { since: Some(at(11)), at: at(30), failure },
        updated_at: at(30),
        claimed_completion: Some(at(29)),
        ..second.clone()
    };
    commit(store, Batch::per_row(vec![Change::Step(Box::new(Step::new(second.revision, lost)))]));
    let rows =
        commit(store, Batch::per_row(vec![raise(3, &placed("tried", 13, Some("w1"), &["ssh"]), None)]));
    let third = start(store, &rows[0], at(40));
    let note = Annotate { id: third.id, cancel_requested_at: at(41) };
    commit(store, Batch::per_row(vec![Change::Annotate(note)]));
    let teardown = Insert::new(pending(4, "up", None, Operation::Teardown), Overlap::Reject).aim(Aim::Gone);
    commit(store, Batch::per_row(vec![Change::Insert(Box::new(teardown))]));
    let plain = Insert::new(pending(5, "plain", None, Operation::Mutate), Overlap::Reject);
    let rows = commit(store, Batch::per_row(vec![Change::Insert(Box::new(plain))]));
    let failure = Failure::new(FailureKind::Rejected, "no such host");
    step(store, &rows[0], Phase::Failed { since: None, at: at(50), failure }, at(50));
    let found = Placement::taken_over((*placed("found", 14, Some("w2"), &["smtp"])).clone());
    commit(store, Batch::per_row(vec![Change::Place(Box::new(found))]));
}

fn rows_of_schema_2() -> Vec<Record> {
    let under_key = Some(key().key);
    let reason = |kind, text| Failure::new(kind, text);
    vec![
        Record {
            phase: Phase::Failed {
                since: None,
                at: at(50),
                failure: reason(FailureKind::Rejected, "no such host"),
            },
            updated_at: at(50),
            revision: Revision::new(12),
            ..pending(5, "plain", None, Operation::Mutate)
        },
        Record { revision: Revision::new(10), ..pending(4, "up", None, Operation::Teardown) },
        Record {
            phase: Phase::Running { since: at(40), deadline: at(1_000) },
            updated_at: at(41),
            cancel_requested_at: Some(at(41)),
            revision: Revision::new(9),
            ..pending(3, "tried", None, Operation::Deploy)
        },
        Record {
            phase: Phase::Failed {
                since: Some(at(11)),
                at: at(30),
                failure: reason(FailureKind::WorkerLost, "no beat since noon"),
            },
            updated_at: at(30),
            claimed_completion: Some(at(29)),
            key: under_key.clone(),
            revision: Revision::new(6),
            ..pending(2, "unsure", Some("w1"), Operation::Deploy)
        },
        Record {
            phase: Phase::Succeeded { since: at(10), at: at(20) },
            updated_at: at(20),
            key: under_key,
            revision: Revision::new(5),
            ..pending(1, "up", None, Operation::Deploy)
        },
    ]
}

fn placements_of_schema_2() -> Vec<Placement> {
    let of = |decky: &str, standing, tried: &[(u8, Aim, bool)], revision| {
        let tried: BTreeMap<_, _> = tried
            .iter()
            .map(|(row, aim, begun)| (id(*row), Tried { aim: aim.clone(), begun: *begun }))
            .collect();
        Placement::from_parts(name(decky), standing, tried, Revision::new(revision))
    };
    let found = placed("found", 14, Some("w2"), &["smtp"]);
    let tried = placed("tried", 13, Some("w1"), &["ssh"]);
    let unsure = placed("unsure", 12, Some("w1"), &["ssh", "ftp"]);
    let up = placed("up", 11, None, &["ssh"]);
    vec![
        of("found", Standing::Up { placed: found, row: None }, &[], 12),
        of("tried", Standing::Nothing, &[(3, Aim::Up(tried), true)], 8),
        of("unsure", Standing::Unsure { perhaps: vec![unsure], row: id(2) }, &[], 6),
        of("up", Standing::Up { placed: up, row: Some(id(1)) }, &[(4, Aim::Gone, false)], 10),
    ]
}

#[test]
fn the_file_of_schema_2_reads_field_by_field() {
    let file = golden("schema-2.redb");
    if std::env::var_os("DECNET_LIFECYCLE_WRITE_GOLDEN").is_some_and(|schema| schema == "2") {
        let _ = fs::remove_file(&file);
        let store = RedbStore::open(&file).unwrap();
        write_schema_2(&store);
        block_on(store.close()).unwrap();
        let _ = fs::remove_file(file.with_extension("redb.holder"));
    }
    let (_dir, copy) = copy_of("schema-2.redb");
    let store = RedbStore::open(&copy).unwrap();
    let rows = rows_of_schema_2();
    assert_eq!(all(&store), rows);
    assert_eq!(block_on(store.placements(&PlacementQuery::All)).unwrap(), placements_of_schema_2());
    let steps: Vec<_> =
        feed(&store).iter().map(|entry| (entry.id, entry.status, entry.at, entry.cancel_requested)).collect();
    use Status::{Failed, Pending, Running, Succeeded};
    let wanted = [
        (id(1), Pending, at(1), false),
        (id(2), Pending, at(2), false),
        (id(1), Running, at(10), false),
        (id(2), Running, at(11), false),
        (id(1), Succeeded, at(20), false),
        (id(2), Failed, at(30), false),
        (id(3), Pending, at(3), false),
        (id(3), Running, at(40), false),
        (id(3), Running, at(41), true),
        (id(4), Pending, at(4), false),
        (id(5), Pending, at(5), false),
        (id(5), Failed, at(50), false),
    ];
    assert_eq!(steps, wanted);
    let last = [5, 11].map(|place| feed(&store)[place].failure.clone());
    assert_eq!(last, [rows[3].failure().cloned(), rows[0].failure().cloned()]);
    // The key is known, by its hash.
    let other = raise(9, &placed("other", 19, None, &["ssh"]), None);
    let again = Batch::all_or_none(vec![other.clone()]).with_key(Some(key()));
    let repeated = block_on(store.commit(again)).unwrap();
    assert!(
        matches!(repeated[..], [Outcome::Repeated(one), Outcome::Repeated(two)] if one == id(1) && two == id(2)),
        "{repeated:?}"
    );
    let taken = KeyClaim { hash: [1; 32], ..key() };
    let taken = block_on(store.commit(Batch::all_or_none(vec![other]).with_key(Some(taken)))).unwrap();
    assert!(matches!(taken[..], [Outcome::Refused(Refusal::KeyTaken(_))]), "{taken:?}");
    // Every index leads to what it should.
    let list = |query: Query| -> Vec<u8> {
        let rows = block_on(store.query(&query)).unwrap().records;
        rows.iter().map(|row| (1..=5).find(|number| id(*number) == row.id).unwrap()).collect()
    };
    assert_eq!(list(Query::new().open()), [4, 3]);
    assert_eq!(list(Query::new().due_by(at(9_999))), [3, 4]);
    assert_eq!(list(Query::new().decky(name("up"))), [4, 1]);
    assert_eq!(list(Query::new().decky(name("up")).open()), [4]);
    let at_home = |key: &str| -> Vec<String> {
        let query = PlacementQuery::At(Home::from_key(key).unwrap());
        let found = block_on(store.placements(&query)).unwrap();
        found.iter().map(|placement| placement.decky.to_string()).collect()
    };
    assert_eq!(at_home("host/w1"), ["tried", "unsure"]);
    assert_eq!((at_home("host/w2"), at_home("master/m")), (vec!["found".into()], vec!["up".into()]));
}
