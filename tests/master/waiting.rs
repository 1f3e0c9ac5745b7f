//! Whoever waits for rows is woken for these and no others.

use std::collections::BTreeMap;
use std::future::Future as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use async_trait::async_trait;
use decnet_lifecycle::testkit::VirtualClock;
use decnet_lifecycle::{
    beat::{Delta, Reported, Verdict},
    decide::{Batch, Outcome},
    lifecycle::Revision,
    placement::Placement,
    store::{Feed, MemoryStore, Page, PlacementQuery, Pruned, Query, Retention, Store},
    *,
};
use futures_lite::future::block_on;

use crate::world::{World, host};

/// Counts how often rows are read.
#[derive(Debug, Default)]
struct Counting {
    inner: MemoryStore,
    reads: AtomicUsize,
}

#[async_trait]
impl Store for Counting {
    async fn commit(&self, batch: Batch) -> Result<Vec<Outcome>, StoreError> {
        self.inner.commit(batch).await
    }

    async fn read(&self, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.read(ids).await
    }

    async fn query(&self, query: &Query) -> Result<Page, StoreError> {
        self.inner.query(query).await
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Feed, StoreError> {
        self.inner.changes(after, limit).await
    }

    async fn placements(&self, query: &PlacementQuery) -> Result<Vec<Placement>, StoreError> {
        self.inner.placements(query).await
    }

    async fn prune(&self, policy: &Retention) -> Result<Pruned, StoreError> {
        self.inner.prune(policy).await
    }
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn fleet_of(deckies: usize) -> FleetConfig {
    let decky = |place: usize| {
        serde_json::json!({
            "name": format!("d{place:02}"), "ip": format!("192.0.2.{}", 10 + place), "services": ["ssh"],
            "distro": "debian", "base_image": "debian:12", "hostname": "srv", "host_uuid": "w1",
        })
    };
    let fleet = serde_json::json!({
        "mode": "swarm", "interface": "eth0", "subnet": "192.0.2.0/24", "gateway": "192.0.2.1",
        "deckies": (0..deckies).map(decky).collect::<Vec<_>>(),
    });
    FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap()
}

#[test]
fn who_waits_is_woken_for_its_own_rows_only() {
    const WAITERS: usize = 64;
    let store = Arc::new(Counting::default());
    let world = World::over(store.clone(), Arc::new(VirtualClock::new()));
    let accepted = world.deploy(fleet_of(WAITERS));
    let rows: BTreeMap<DeckyName, LifecycleId> = accepted.ids().clone();
    world.drive(accepted.run());

    let before = store.reads.load(Ordering::SeqCst);
    let mut waits: Vec<_> = rows
        .values()
        .map(|id| {
            let (runner, id) = (world.runner.clone(), *id);
            let woken = Arc::new(Woken::default());
            let mut wait = Box::pin(async move { runner.wait(&[id]).await.unwrap() });
            let waker = Waker::from(Arc::clone(&woken));
            assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            (woken, wait)
        })
        .collect();
    assert_eq!(store.reads.load(Ordering::SeqCst), before + WAITERS);

    for (place, (decky, id)) in rows.iter().enumerate() {
        let delta = Delta {
            lifecycle_id: Some(*id),
            decky: decky.clone(),
            operation: Operation::Deploy,
            report: Reported::Succeeded,
            completed_at: None,
        };
        let verdicts = block_on(world.runner.apply_deltas(&host("w1"), &[delta])).unwrap();
        assert_eq!(verdicts, [Verdict::Applied]);
        let woken: Vec<usize> = waits.iter().map(|(woken, _)| woken.0.load(Ordering::SeqCst)).collect();
        let expected: Vec<usize> = (0..WAITERS).map(|waiter| usize::from(waiter <= place)).collect();
        assert_eq!(woken, expected);

        let before = store.reads.load(Ordering::SeqCst);
        let (_, wait) = &mut waits[place];
        match wait.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ended) => assert_eq!(ended[0].status(), Status::Succeeded),
            Poll::Pending => panic!("row {id} has ended"),
        }
        assert_eq!(store.reads.load(Ordering::SeqCst), before + 1);
    }
}

#[test]
fn a_waiter_that_was_dropped_takes_nobody_elses_wake() {
    let world = World::new();
    let accepted = world.deploy(fleet_of(1));
    let id = *accepted.ids().values().next().unwrap();
    world.drive(accepted.run());

    let mut waits: Vec<_> = (0..2).map(|_| Box::pin(world.runner.wait(std::slice::from_ref(&id)))).collect();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    for wait in &mut waits {
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    drop(waits.remove(0));
    let delta = Delta {
        lifecycle_id: Some(id),
        decky: DeckyName::parse("d00").unwrap(),
        operation: Operation::Deploy,
        report: Reported::Failed("no such image".into()),
        completed_at: None,
    };
    block_on(world.runner.apply_deltas(&host("w1"), &[delta])).unwrap();
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert_eq!(block_on(waits.remove(0)).unwrap()[0].status(), Status::Failed);
}
