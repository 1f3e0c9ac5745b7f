//! What the ends of rows take out of placements is kept with the rows, in both
//! embedded stores, until the rows are pruned.

use std::sync::Arc;

use decnet_lifecycle::store::{MemoryStore, RedbReader, RedbStore, Retention, Store};
use decnet_lifecycle::testkit::{EngineScript, VirtualClock};
use decnet_lifecycle::{Failure, FailureKind, LifecycleId, ServiceName, Timestamp};
use futures_lite::future::block_on;

use crate::world::{World, fleet, name, services};

fn with(store: &dyn Store, row: LifecycleId) -> Option<Vec<ServiceName>> {
    let kept = block_on(store.set_aside(&[row])).unwrap();
    kept.get(&row).map(|placed| placed.config.services.clone())
}

fn keeps(store: Arc<dyn Store>) -> LifecycleId {
    let world = World::over(Arc::clone(&store), Arc::new(VirtualClock::new()));
    let fails = || EngineScript::Fail(Failure::new(FailureKind::Engine, "no room"));
    world.engine.script(&name("a"), fails());
    let failed = world.deployed(fleet(&[""]))[0];
    assert!(world.placement("a").is_none());
    assert_eq!(with(&*store, failed), Some(services(&["ssh", "http"])), "what it was to bring up");

    world.engine.script(&name("a"), EngineScript::Succeed);
    let deployed = world.deployed(fleet(&[""]))[0];
    assert_eq!(with(&*store, deployed), None, "nothing was taken out");
    let mutated = world.mutated("a", &["ftp"]);
    assert_eq!(with(&*store, mutated), Some(services(&["ssh", "http"])), "what was up before");
    world.engine.script(&name("a"), fails());
    let refused = world.mutated("a", &["smtp"]);
    assert_eq!((world.up_with("a"), with(&*store, refused)), (services(&["ftp"]), Some(services(&["smtp"]))));

    world.engine.script(&name("a"), EngineScript::Succeed);
    let down = world.torn_down(decnet_lifecycle::TeardownRequest::new([name("a")]))[0];
    assert_eq!(with(&*store, down), None);
    assert_eq!(block_on(store.set_aside(&[failed, deployed, mutated, refused, down])).unwrap().len(), 3);
    let all = Retention::closed_before(Timestamp::from_micros(i64::MAX));
    while block_on(store.prune(&all)).unwrap().more {}
    assert_eq!(with(&*store, failed), None, "it outlived its row");
    world.engine.script(&name("a"), fails());
    world.deployed(fleet(&[""]))[0]
}

#[test]
fn what_the_end_of_a_row_takes_out_of_a_placement_is_kept_with_the_row() {
    keeps(Arc::new(MemoryStore::new()));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    let store = Arc::new(RedbStore::open(&path).unwrap());
    let last = keeps(store.clone());
    block_on(store.close()).unwrap();
    drop(store);
    // By others, and by the next that opens it.
    assert_eq!(with(&RedbReader::open(&path).unwrap(), last), Some(services(&["ssh", "http"])));
    assert_eq!(with(&RedbStore::open(&path).unwrap(), last), Some(services(&["ssh", "http"])));
}
