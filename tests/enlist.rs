//! Accepting in a transaction of the caller's own: its tables and our rows, or
//! neither, also when the power is cut.

use std::sync::Arc;

use decnet_lifecycle::redb::{
    self, Builder, Database, ReadableDatabase, ReadableTableMetadata, TableDefinition,
};
use decnet_lifecycle::store::Store as _;
use decnet_lifecycle::testkit::sim::{DiskCall, SimDisk, apply};
use decnet_lifecycle::testkit::{EngineScript, FakeEngine};
use decnet_lifecycle::{
    decide::{Batch, Change, Outcome, Refusal},
    placement::Placement,
    runner::{Prepared, StartError},
    store::{PlacementQuery, Query, RedbStore},
    *,
};
use futures_lite::future::block_on;

const ORDERS: TableDefinition<'_, u64, &str> = TableDefinition::new("orders");

fn fleet() -> FleetConfig {
    FleetConfig::from_json(include_bytes!("../examples/fleet.json")).unwrap()
}

fn name(text: &str) -> DeckyName {
    DeckyName::parse(text).unwrap()
}

fn runner(db: &Arc<Database>, engine: Arc<FakeEngine>) -> Runner {
    let store = Arc::new(RedbStore::in_database(Arc::clone(db)).unwrap());
    let (runner, recovered) = block_on(Runner::builder(store, engine).build().unwrap().recover()).unwrap();
    for accepted in recovered.accepted {
        block_on(accepted.run());
    }
    runner
}

fn orders(db: &Database) -> u64 {
    match db.begin_read().unwrap().open_table(ORDERS) {
        Ok(table) => table.len().unwrap(),
        Err(redb::TableError::TableDoesNotExist(_)) => 0,
        Err(error) => panic!("{error}"),
    }
}

fn rows(runner: &Runner) -> Vec<Record> {
    block_on(runner.list(&Query::new())).unwrap().records
}

#[test]
fn an_aborted_transaction_leaves_neither_and_a_committed_one_both() {
    let dir = tempfile::tempdir().unwrap();
    let db = Arc::new(Database::create(dir.path().join("own.redb")).unwrap());
    let runner = runner(&db, Arc::new(FakeEngine::new()));
    let request = || DeployRequest::new(fleet()).only([name("decky-01"), name("decky-02")]);
    let prepared = block_on(runner.prepare_deploy(request())).unwrap();

    let txn = db.begin_write().unwrap();
    txn.open_table(ORDERS).unwrap().insert(1, "first").unwrap();
    let enlisted = prepared.enlisted(RedbStore::enlist(&txn, prepared.batch()).unwrap()).unwrap();
    txn.abort().unwrap();
    assert!(matches!(block_on(runner.start(enlisted)), Err(StartError::NotThere { .. })));
    assert_eq!((orders(&db), rows(&runner).len()), (0, 0));
    assert!(block_on(runner.placements(&PlacementQuery::All)).unwrap().is_empty());

    let txn = db.begin_write().unwrap();
    txn.open_table(ORDERS).unwrap().insert(1, "second").unwrap();
    let enlisted = prepared.enlisted(RedbStore::enlist(&txn, prepared.batch()).unwrap()).unwrap();
    txn.commit().unwrap();
    assert_eq!(orders(&db), 1);
    let accepted = block_on(runner.start(enlisted)).unwrap();
    let ids: Vec<_> = accepted.ids().values().copied().collect();
    assert_eq!(accepted.ids().keys().map(DeckyName::as_str).collect::<Vec<_>>(), ["decky-01", "decky-02"]);
    block_on(accepted.run());
    assert!(block_on(runner.wait(&ids)).unwrap().iter().all(|row| row.status() == Status::Succeeded));
    // The store's own commits go on after it, and see what it wrote.
    let mutate = MutateRequest::new(name("decky-01"), vec![ServiceName::parse("ftp").unwrap()]);
    block_on(block_on(runner.accept_mutate(mutate)).unwrap().run());
    assert_eq!(rows(&runner).iter().map(|row| row.revision.get()).max(), Some(9));
}

#[test]
fn what_is_placed_meanwhile_refuses_it_inside_the_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let db = Arc::new(Database::create(dir.path().join("own.redb")).unwrap());
    let runner = runner(&db, Arc::new(FakeEngine::new()));
    let mut other = fleet();
    other.deckies.truncate(1);
    other.deckies[0].name = name("other");
    let prepared = block_on(runner.prepare_deploy(DeployRequest::new(other))).unwrap();
    block_on(block_on(runner.accept_deploy(DeployRequest::new(fleet()))).unwrap().run());
    let txn = db.begin_write().unwrap();
    let refused = prepared.enlisted(RedbStore::enlist(&txn, prepared.batch()).unwrap()).unwrap_err();
    assert!(matches!(&refused, AcceptError::Clash(_)), "{refused}");
    drop(txn);
    let busy = block_on(runner.prepare_teardown(TeardownRequest::all())).unwrap();
    let txn = db.begin_write().unwrap();
    let first = busy.enlisted(RedbStore::enlist(&txn, busy.batch()).unwrap()).unwrap();
    let again = block_on(async { RedbStore::enlist(&txn, busy.batch()) }).unwrap();
    assert!(matches!(busy.enlisted(again), Err(AcceptError::Refused(_) | AcceptError::Busy(_))));
    txn.commit().unwrap();
    assert_eq!(first.ids().len(), 6);
}

#[test]
fn a_restart_between_the_commit_and_the_start_does_what_was_promised() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("own.redb");
    {
        let db = Arc::new(Database::create(&path).unwrap());
        let runner = runner(&db, Arc::new(FakeEngine::new()));
        let prepared = block_on(runner.prepare_deploy(DeployRequest::new(fleet()))).unwrap();
        let txn = db.begin_write().unwrap();
        let enlisted = prepared.enlisted(RedbStore::enlist(&txn, prepared.batch()).unwrap()).unwrap();
        txn.commit().unwrap();
        drop(enlisted);
    }
    let db = Arc::new(Database::open(&path).unwrap());
    let engine = Arc::new(FakeEngine::new());
    engine.script(&name("decky-03"), EngineScript::Forget);
    let runner = runner(&db, engine.clone());
    assert_eq!(engine.calls().len(), 1);
    let rows = rows(&runner);
    assert_eq!(rows.iter().filter(|row| row.status() == Status::Succeeded).count(), 5);
    assert_eq!(rows.iter().filter(|row| row.status() == Status::Failed).count(), 1);
}

/// A power cut at every call to the disk while the caller commits.
#[test]
fn a_power_cut_leaves_both_or_neither() {
    let disk = SimDisk::new();
    let open = |disk: &SimDisk| {
        let db = Builder::new().set_cache_size(1 << 20).create_with_backend(disk.handle()).unwrap();
        Arc::new(db)
    };
    {
        let db = open(&disk);
        drop(runner(&db, Arc::new(FakeEngine::new())));
    }
    let disk = disk.power_cut(&mut |_| {});
    let before = disk.bytes();
    disk.record();
    {
        let db = open(&disk);
        let runner = runner(&db, Arc::new(FakeEngine::new()));
        let prepared = block_on(runner.prepare_deploy(DeployRequest::new(fleet()))).unwrap();
        let txn = db.begin_write().unwrap();
        txn.open_table(ORDERS).unwrap().insert(1, "one").unwrap();
        let enlisted = prepared.enlisted(RedbStore::enlist(&txn, prepared.batch()).unwrap()).unwrap();
        txn.commit().unwrap();
        assert_eq!(enlisted.ids().len(), 6);
    }
    let calls = disk.recorded();
    let (mut durable, mut unsynced) = (before, Vec::<DiskCall>::new());
    let (mut none, mut both) = (0, 0);
    for call in &calls {
        for kept in [unsynced.len(), unsynced.len() / 2, 0] {
            let mut image = durable.clone();
            unsynced.iter().take(kept).for_each(|call| apply(&mut image, call));
            let db = open(&SimDisk::holding(image));
            let store = RedbStore::in_database(Arc::clone(&db)).unwrap();
            let rows = block_on(store.query(&Query::new())).unwrap().records.len();
            let placed = block_on(store.placements(&PlacementQuery::All)).unwrap().len();
            match (orders(&db), rows, placed) {
                (0, 0, 0) => none += 1,
                (1, 6, 6) => both += 1,
                other => panic!("neither both nor none: {other:?}"),
            }
        }
        match call {
            DiskCall::Sync => unsynced.drain(..).for_each(|call| apply(&mut durable, &call)),
            call => unsynced.push(call.clone()),
        }
    }
    assert!(none > 0 && both > 0, "{none} without, {both} with, of {} calls", calls.len());
}

#[test]
fn what_is_placed_in_a_caller_s_transaction_is_known_to_the_store_s_own() {
    let dir = tempfile::tempdir().unwrap();
    let db = Arc::new(Database::create(dir.path().join("own.redb")).unwrap());
    let store = Arc::new(RedbStore::in_database(Arc::clone(&db)).unwrap());
    let runner = Runner::builder(store.clone(), Arc::new(FakeEngine::new())).build().unwrap();
    let (runner, _) = block_on(runner.recover()).unwrap();
    let only = |decky: &str| DeployRequest::new(fleet()).only([name(decky)]);
    block_on(block_on(runner.accept_deploy(only("decky-01"))).unwrap().run());

    // Another decky with the address of decky-02. It has no row, and so makes
    // no revision that would tell the store's writer of it.
    let known = block_on(runner.placements(&PlacementQuery::All)).unwrap();
    let mut squatter = (**known[0].now().unwrap()).clone();
    squatter.config.name = name("squatter");
    squatter.config.ip = fleet().deckies[1].ip;
    let enlist = |change| {
        let txn = db.begin_write().unwrap();
        let outcomes = RedbStore::enlist(&txn, &Batch::per_row(vec![change])).unwrap();
        assert!(matches!(outcomes.as_slice(), [Outcome::Placed(_)]), "{outcomes:?}");
        txn.commit().unwrap();
    };
    let asked = block_on(runner.prepare_deploy(only("decky-02"))).unwrap();
    enlist(Change::Place(Box::new(Placement::taken_over(squatter))));
    let outcomes = block_on(store.commit(asked.batch().clone())).unwrap();
    assert!(matches!(outcomes.as_slice(), [Outcome::Refused(Refusal::Clash(_))]), "{outcomes:?}");
    enlist(Change::Forget(name("squatter")));
    let outcomes = block_on(store.commit(asked.batch().clone())).unwrap();
    assert!(matches!(outcomes.as_slice(), [Outcome::Applied { .. }]), "{outcomes:?}");
}

#[test]
fn a_request_that_is_prepared_again_under_its_key_is_told_its_first_rows() {
    let dir = tempfile::tempdir().unwrap();
    let db = Arc::new(Database::create(dir.path().join("own.redb")).unwrap());
    let runner = runner(&db, Arc::new(FakeEngine::new()));
    block_on(block_on(runner.accept_deploy(DeployRequest::new(fleet()))).unwrap().run());
    let key = |text| RequestKey::parse(text).unwrap();
    let enlisted = |prepared: Prepared| {
        let txn = db.begin_write().unwrap();
        let enlisted = prepared.enlisted(RedbStore::enlist(&txn, prepared.batch()).unwrap()).unwrap();
        txn.commit().unwrap();
        enlisted
    };
    let teardown = || block_on(runner.prepare_teardown(TeardownRequest::all().key(key("down")))).unwrap();
    let first = enlisted(teardown());
    let accepted = block_on(runner.start(first.clone())).unwrap();
    block_on(accepted.run());
    assert!(block_on(runner.placements(&PlacementQuery::All)).unwrap().is_empty());
    // It is done, so that nothing is there to take down: the answer is the same.
    let again = enlisted(teardown());
    assert_eq!(again.ids(), first.ids());
    assert!(block_on(runner.start(again)).unwrap().is_repeat());
}
