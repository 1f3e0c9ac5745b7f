//! The same master, over redb and the machine's clock, under three runtimes.

use std::sync::Arc;

use decnet_lifecycle::testkit::FakeEngine;
use decnet_lifecycle::{
    store::{Query, RedbStore},
    *,
};

use crate::world::{fleet, name, services};

/// A day in the life of a master; the same for every runtime.
async fn day() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(RedbStore::open(dir.path().join("lifecycle.redb")).unwrap());
    let (runner, _) =
        Runner::builder(store, Arc::new(FakeEngine::new())).build().unwrap().recover().await.unwrap();
    let accepted = runner.accept_deploy(DeployRequest::new(fleet(&["", "", ""]))).await.unwrap();
    let ids: Vec<_> = accepted.ids().values().copied().collect();
    let (ended, ()) = futures_lite::future::zip(runner.wait(&ids), accepted.run()).await;
    assert!(ended.unwrap().iter().all(|row| row.status() == Status::Succeeded));
    let request = MutateRequest::new(name("a"), services(&["ftp"]));
    let accepted = runner.accept_mutate(request).await.unwrap();
    accepted.run().await;
    assert_eq!(runner.list(&Query::new().open()).await.unwrap().records.len(), 0);
    assert_eq!(runner.list(&Query::new()).await.unwrap().records.len(), 4);
    assert_eq!(runner.shutdown(std::time::Duration::from_secs(1)).await, 0);
}

#[test]
fn under_smol() {
    smol::block_on(smol::spawn(day()));
}

#[test]
fn under_tokio() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async { tokio::spawn(day()).await.unwrap() });
    // No timer and no I/O driver of tokio's is needed.
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(day());
}

#[test]
fn under_a_bare_block_on() {
    futures_lite::future::block_on(day());
}
