//! A power cut at every call to the disk: what was acknowledged is there, what
//! wasn't is whole or absent, and the file opens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use decnet_lifecycle::placement::{Aim, Placed};
use decnet_lifecycle::testkit::sim::{DiskCall, SimDisk, apply, tear};
use decnet_lifecycle::{
    decide::{Annotate, Batch, Change, Insert, KeyClaim, Step},
    lifecycle::{Leaves, MasterName, Owner, Phase, Revision},
    placement::Placement,
    store::{Feed, PlacementQuery, Query, RedbStore, Retention, Store},
    *,
};
use futures_lite::future::block_on;

/// All that can be read of a store.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    rows: Vec<Record>,
    open: Vec<Record>,
    due: Vec<Record>,
    feed: Option<Feed>,
    placements: Vec<Placement>,
}

fn seen(store: &dyn Store) -> Seen {
    let list = |query: Query| block_on(store.query(&query.limit(1_000))).unwrap().records;
    let from = match block_on(store.changes(Revision::ZERO, 0)).unwrap() {
        Feed::Compacted { oldest } => Revision::new(oldest.get() - 1),
        Feed::Entries { .. } => Revision::ZERO,
    };
    Seen {
        rows: list(Query::new()),
        open: list(Query::new().open()),
        due: list(Query::new().due_by(at(u64::MAX >> 32))),
        feed: Some(block_on(store.changes(from, 100_000)).unwrap()),
        placements: block_on(store.placements(&PlacementQuery::All)).unwrap(),
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_767_225_600_000_000).plus(std::time::Duration::from_secs(seconds))
}

fn row(number: u64, decky: u64) -> Record {
    Record {
        id: LifecycleId::from_parts(at(number), [7; 10]),
        decky: DeckyName::parse(&format!("decky-{decky}")).unwrap(),
        host: None,
        operation: Operation::Deploy,
        phase: Phase::Pending { deadline: at(number + 60) },
        owner: Owner { master: MasterName::parse("m").unwrap(), epoch: 1 },
        created_at: at(number),
        updated_at: at(number),
        cancel_requested_at: None,
        claimed_completion: None,
        key: None,
        revision: Revision::ZERO,
    }
}

/// A decky as it shall be: its address is its own, its service changes.
fn placed(decky: &DeckyName, number: u64, at: u64) -> Arc<Placed> {
    let service = ["ssh", "ftp", "smtp"][usize::try_from(at % 3).unwrap()];
    let fleet = serde_json::json!({
        "mode": "unihost", "interface": "eth0", "subnet": "192.0.2.0/24", "gateway": "192.0.2.1",
        "deckies": [{
            "name": decky, "ip": format!("192.0.2.{}", 10 + number), "services": [service],
            "distro": "debian", "base_image": "debian:12", "hostname": "srv",
        }],
    });
    let fleet = FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap();
    Arc::new(Placed::new(&fleet, &fleet.deckies[0], &MasterName::parse("m").unwrap(), None))
}

/// One step of the workload, the same on every store that took the steps
/// before it.
fn operation(store: &dyn Store, number: u64, random: &mut fastrand::Rng) -> Result<(), StoreError> {
    let open = block_on(store.query(&Query::new().open().limit(1_000)))?.records;
    let batch = match random.u8(..10) {
        0..4 => {
            let insert = |n, decky| {
                let overlap = if decky % 3 == 0 { Overlap::Supersede } else { Overlap::Reject };
                let mut insert = Insert::new(row(n, decky), overlap);
                if !decky.is_multiple_of(4) {
                    let placed = placed(&insert.record.decky, decky, n);
                    insert = insert.aim(Aim::Up(placed));
                }
                Change::Insert(Box::new(insert))
            };
            let deckies = (random.u64(..12), 12 + random.u64(..12));
            let pair = vec![insert(2 * number, deckies.0), insert(2 * number + 1, deckies.1)];
            let key = RequestKey::parse(&format!("key-{number}")).unwrap();
            Batch::all_or_none(pair).with_key(Some(KeyClaim { key, hash: [7; 32] }))
        }
        4..8 => Batch::per_row(open.iter().filter(|_| random.bool()).map(|row| next(row, number)).collect()),
        8 => {
            let note = |row: &Record| Annotate { id: row.id, cancel_requested_at: at(2 * number) };
            Batch::per_row(open.iter().take(2).map(|row| Change::Annotate(note(row))).collect())
        }
        _ => {
            let policy = Retention::closed_before(at((2 * number).saturating_sub(60))).limit(5);
            return block_on(store.prune(&policy)).map(drop);
        }
    };
    block_on(store.commit(batch)).map(drop)
}

fn next(row: &Record, number: u64) -> Change {
    let (since, deadline) = (at(2 * number + 1), at(2 * number + 90));
    let phase = match &row.phase {
        Phase::Pending { .. } => Phase::Running { since, deadline },
        Phase::Running { since: started, .. } if number.is_multiple_of(2) => {
            Phase::Succeeded { since: *started, at: since }
        }
        _ => {
            let failure = Failure::new(FailureKind::Engine, &"no such image ".repeat(40));
            Phase::Failed { since: row.running_since(), at: since, failure }
        }
    };
    let next = Record { phase, updated_at: since.max(row.updated_at), ..row.clone() };
    let mut step = Step::new(row.revision, next);
    if number.is_multiple_of(3) {
        step.leaves = Leaves::Unknown;
    }
    Change::Step(Box::new(step))
}

/// The workload's calls to the disk; after how many of them each operation was
/// acknowledged; and what could be read then.
struct Recorded {
    before: Vec<u8>,
    calls: Vec<DiskCall>,
    acknowledged: Vec<usize>,
    states: Vec<Seen>,
}

fn record(operations: u64) -> Recorded {
    let disk = SimDisk::new();
    drop(RedbStore::with_backend(disk.handle()).unwrap());
    let disk = disk.power_cut(&mut |_| {});
    let before = disk.bytes();
    disk.record();
    let store = RedbStore::with_backend(disk.handle()).unwrap();
    // What a bounded prune takes first is each kind of store's own affair.
    let model = RedbStore::with_backend(SimDisk::new().handle()).unwrap();
    let mut recorded =
        Recorded { before, calls: Vec::new(), acknowledged: vec![0], states: vec![seen(&model)] };
    let (mut random, mut same) = (fastrand::Rng::with_seed(4), fastrand::Rng::with_seed(4));
    for number in 1..=operations {
        operation(&store, number, &mut random).unwrap();
        operation(&model, number, &mut same).unwrap();
        recorded.acknowledged.push(disk.recorded_calls());
        recorded.states.push(seen(&model));
        assert_eq!(seen(&store), *recorded.states.last().unwrap());
    }
    recorded.calls = disk.recorded();
    recorded
}

/// Which of the unsynced calls made it.
fn leave(variant: u64, place: usize, unsynced: &mut Vec<DiskCall>) {
    match variant {
        0 => unsynced.clear(),
        1 => {}
        2 if !unsynced.is_empty() => {
            // Only the last: written out of order.
            unsynced.drain(..unsynced.len() - 1);
        }
        _ => tear(unsynced, &mut fastrand::Rng::with_seed(variant * 1_000_003 + place as u64)),
    }
}

/// Checks the images of every `of`-th call; gives how many, and how many of
/// them held an operation that was not acknowledged.
fn check(recorded: &Recorded, part: usize, of: usize, variants: u64) -> (usize, usize) {
    let mut durable = recorded.before.clone();
    let mut unsynced: Vec<DiskCall> = Vec::new();
    let (mut images, mut ahead) = (0, 0);
    for place in 0..=recorded.calls.len() {
        if place % of == part {
            let done = recorded.acknowledged.iter().rposition(|acknowledged| *acknowledged <= place).unwrap();
            for variant in 0..variants {
                let mut kept = unsynced.clone();
                leave(variant, place, &mut kept);
                let mut image = durable.clone();
                kept.iter().for_each(|call| apply(&mut image, call));
                let store = RedbStore::with_backend(SimDisk::holding(image).handle())
                    .unwrap_or_else(|error| panic!("call {place}, variant {variant}: {error}"));
                let found = seen(&store);
                let next = recorded.states.get(done + 1);
                assert!(
                    found == recorded.states[done] || Some(&found) == next,
                    "call {place}, variant {variant}: neither operation {done} nor the next is there as a whole"
                );
                images += 1;
                ahead += usize::from(found != recorded.states[done]);
            }
        }
        match recorded.calls.get(place) {
            Some(DiskCall::Sync) => unsynced.drain(..).for_each(|call| apply(&mut durable, &call)),
            Some(call) => unsynced.push(call.clone()),
            None => {}
        }
    }
    (images, ahead)
}

#[test]
fn a_power_cut_at_every_call_loses_nothing_acknowledged() {
    let recorded = record(100);
    let (images, ahead) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let (recorded, images, ahead) = (&recorded, &images, &ahead);
        for part in 0..2 {
            scope.spawn(move || {
                let (checked, further) = check(recorded, part, 2, 5);
                images.fetch_add(checked, Ordering::Relaxed);
                ahead.fetch_add(further, Ordering::Relaxed);
            });
        }
    });
    let (images, ahead) = (images.into_inner(), ahead.into_inner());
    println!("{} calls, {images} images, {ahead} of them one operation ahead", recorded.calls.len());
    assert_eq!(images, 5 * (recorded.calls.len() + 1));
    // Some cuts must lie between a commit and its acknowledgement.
    assert!(ahead > 100, "{ahead}");
}

/// The rig would see it: with the syncs taken out, acknowledged rows are lost.
#[test]
#[should_panic(expected = "nor the next is there as a whole")]
fn without_syncs_it_is_seen() {
    let mut recorded = record(20);
    // Kept in place, so that the acknowledged places stay right.
    for call in &mut recorded.calls {
        if *call == DiskCall::Sync {
            *call = DiskCall::Write { offset: 0, data: Vec::new() };
        }
    }
    check(&recorded, 0, 1, 1);
}

/// A power cut at every call of taking a file of schema 1 over: afterwards it
/// opens, is taken over if it wasn't, and all of it is there.
#[test]
fn a_power_cut_while_a_file_is_taken_over_loses_nothing() {
    let golden = include_bytes!("golden/schema-1.redb");
    let disk = SimDisk::holding(golden.to_vec());
    disk.record();
    let store = RedbStore::with_backend(disk.handle()).unwrap();
    let whole = seen(&store);
    assert_eq!(whole.rows.len(), 3);
    drop(store);
    let calls = disk.recorded();
    let mut durable = golden.to_vec();
    let mut unsynced: Vec<DiskCall> = Vec::new();
    let (mut as_before, mut taken_over) = (0, 0);
    for place in 0..=calls.len() {
        for variant in 0..8 {
            let mut kept = unsynced.clone();
            leave(variant, place, &mut kept);
            let mut image = durable.clone();
            kept.iter().for_each(|call| apply(&mut image, call));
            match schema_of(image.clone()) {
                1 => as_before += 1,
                2 => taken_over += 1,
                other => panic!("call {place}, variant {variant}: schema {other}"),
            }
            // Opened twice: a crash may have come before the first was done.
            let disk = SimDisk::holding(image);
            for _ in 0..2 {
                let store = RedbStore::with_backend(disk.handle())
                    .unwrap_or_else(|error| panic!("call {place}, variant {variant}: {error}"));
                assert_eq!(seen(&store), whole, "call {place}, variant {variant}");
            }
        }
        match calls.get(place) {
            Some(DiskCall::Sync) => unsynced.drain(..).for_each(|call| apply(&mut durable, &call)),
            Some(call) => unsynced.push(call.clone()),
            None => {}
        }
    }
    println!("{} calls, {as_before} images of schema 1, {taken_over} of schema 2", calls.len());
    assert!(as_before > 20 && taken_over > 20, "{as_before}, {taken_over}");
}

fn schema_of(image: Vec<u8>) -> u64 {
    let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("decnet-lifecycle");
    let db = redb::Builder::new().create_with_backend(SimDisk::holding(image).handle()).unwrap();
    let txn = redb::ReadableDatabase::begin_read(&db).unwrap();
    txn.open_table(meta).unwrap().get("schema").unwrap().unwrap().value()
}
