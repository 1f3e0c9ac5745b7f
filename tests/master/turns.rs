//! Whose turn with the engine it is.

use std::sync::Arc;

use decnet_lifecycle::testkit::{EngineScript, FakeEngine};
use decnet_lifecycle::{
    store::{MemoryStore, Query},
    *,
};
use futures_lite::future::{block_on, poll_once};

use crate::world::*;

/// What is deployed while `a` hangs in the engine: `b`, and `a` again.
fn while_one_hangs(engine: FakeEngine) -> [Option<()>; 2] {
    let store = Arc::new(MemoryStore::new());
    engine.script(&name("a"), EngineScript::Hang);
    let (runner, _) = block_on(Runner::builder(store, Arc::new(engine)).build().unwrap().recover()).unwrap();
    let deploy = |decky| {
        let request = DeployRequest::new(fleet(&["", ""])).only([name(decky)]);
        Box::pin(block_on(runner.accept_deploy(request.overlap(Overlap::Allow))).unwrap().run())
    };
    let mut hangs = deploy("a");
    assert!(block_on(poll_once(&mut hangs)).is_none());
    let (mut other, mut same) = (deploy("b"), deploy("a"));
    [block_on(poll_once(&mut other)), block_on(poll_once(&mut same))]
}

#[test]
fn an_engine_is_called_about_other_deckies_meanwhile_only_if_it_says_so() {
    assert_eq!(while_one_hangs(FakeEngine::new()), [None, None]);
    assert_eq!(while_one_hangs(FakeEngine::side_by_side()), [Some(()), None]);
}

#[test]
fn calls_about_several_deckies_do_not_wait_for_each_other_for_ever() {
    let engine = FakeEngine::side_by_side();
    let store = Arc::new(MemoryStore::new());
    let (runner, _) = block_on(Runner::builder(store, Arc::new(engine)).build().unwrap().recover()).unwrap();
    let pairs = [["a", "b"], ["b", "c"], ["c", "a"]];
    let works: Vec<_> = pairs
        .map(|pair| {
            let request = DeployRequest::new(fleet(&["", "", ""])).only(pair.map(name));
            block_on(runner.accept_deploy(request.overlap(Overlap::Allow))).unwrap().run()
        })
        .into_iter()
        .collect();
    block_on(futures_util::future::join_all(works));
    assert!(block_on(runner.list(&Query::new().open())).unwrap().records.is_empty());
}
