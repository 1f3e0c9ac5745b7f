//! Rows that end one by one, as the engine tells of their deckies.

use std::sync::Arc;

use decnet_lifecycle::store::MemoryStore;
use decnet_lifecycle::strategy::{Ending, Strategies};
use decnet_lifecycle::testkit::{EngineScript, FakeEngine, Invariants, Witness};
use decnet_lifecycle::*;
use futures_lite::future::{block_on, poll_once};

use crate::world::*;

/// A master whose engine knows of `a` at once, and of `b` never.
struct Master {
    store: Arc<MemoryStore>,
    engine: Arc<FakeEngine>,
    witness: Arc<Witness>,
}

impl Master {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let engine = Arc::new(FakeEngine::new());
        engine.script(&name("b"), EngineScript::Hang);
        Self { witness: Witness::new(store.clone()), store, engine }
    }

    fn start(&self, ending: Ending) -> Runner {
        let built = Runner::builder(self.store.clone(), self.witness.engine(self.engine.clone()))
            .strategies(Strategies::ending(ending))
            .build();
        block_on(built.unwrap().recover()).unwrap().0
    }

    fn told(&self, ids: &[LifecycleId]) -> Vec<String> {
        let mut invariants = Invariants::new().with_witness(self.witness.clone());
        block_on(invariants.check(&*self.store)).unwrap();
        let rows = block_on(store::Store::read(&*self.store, ids)).unwrap();
        let why = |row: &Record| row.failure().map_or(row.status().to_string(), |why| why.kind().to_string());
        rows.iter().map(why).collect()
    }
}

#[test]
fn a_fast_decky_does_not_wait_for_a_slow_one_and_a_crash_fails_only_what_was_not_known() {
    for (ending, meanwhile, after) in [
        (Ending::Together, ["running", "running"], ["MasterRestarted", "MasterRestarted"]),
        (Ending::AsReported, ["succeeded", "running"], ["succeeded", "MasterRestarted"]),
    ] {
        let master = Master::new();
        let runner = master.start(ending);
        let accepted = block_on(runner.accept_deploy(DeployRequest::new(fleet(&["", ""])))).unwrap();
        let ids: Vec<_> = accepted.ids().values().copied().collect();
        let mut run = Box::pin(accepted.run());
        assert!(block_on(poll_once(&mut run)).is_none());
        assert_eq!(master.told(&ids), meanwhile, "{ending:?}");
        // It dies here.
        std::mem::forget(run);
        drop(runner);
        let _ = master.start(ending);
        assert_eq!(master.told(&ids), after, "{ending:?}");
    }
}

#[test]
fn what_was_not_told_of_ends_with_the_call_and_a_failure_told_of_stays_one() {
    let master = Master::new();
    let no = Failure::new(FailureKind::Engine, "no such image");
    master.engine.script(&name("a"), EngineScript::Fail(no));
    master.engine.script(&name("b"), EngineScript::Forget);
    let runner = master.start(Ending::AsReported);
    let accepted = block_on(runner.accept_deploy(DeployRequest::new(fleet(&["", "", ""])))).unwrap();
    let ids: Vec<_> = accepted.ids().values().copied().collect();
    block_on(accepted.run());
    assert_eq!(master.told(&ids), ["Engine", "Engine", "succeeded"]);
    let accepted = block_on(runner.accept_teardown(TeardownRequest::all())).unwrap();
    let ids: Vec<_> = accepted.ids().values().copied().collect();
    master.engine.script(&name("c"), EngineScript::FailAll(Failure::new(FailureKind::Engine, "no daemon")));
    block_on(accepted.run());
    assert_eq!(master.told(&ids).last().unwrap(), "Engine");
    assert_eq!(runner.counters().active, 0);
}

#[test]
fn who_asked_a_decky_to_stop_is_told_so_also_when_it_is_told_of_early() {
    let master = Master::new();
    let runner = master.start(Ending::AsReported);
    let accepted = block_on(runner.accept_deploy(DeployRequest::new(fleet(&["", ""])))).unwrap();
    let ids: Vec<_> = accepted.ids().values().copied().collect();
    let mut run = Box::pin(accepted.run());
    assert!(block_on(poll_once(&mut run)).is_none());
    block_on(runner.cancel(ids[1])).unwrap();
    block_on(run);
    assert_eq!(master.told(&ids), ["succeeded", "Cancelled"]);
}
