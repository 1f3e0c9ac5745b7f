//! Every async function of the public API, its future dropped after each
//! number of polls: no row is stranded, no lock is left held.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use decnet_lifecycle::clock::Clock as _;
use decnet_lifecycle::testkit::sim::SimDisk;
use decnet_lifecycle::testkit::{
    EngineScript, FakeAgents, FakeEngine, FaultyStore, Invariants, VirtualClock, Witness,
};
use decnet_lifecycle::{
    agent::{Host, StaticHosts},
    beat::{Delta, Reported},
    bus::ChannelBus,
    decide::{Batch, Change, Insert},
    journal::Journal,
    lifecycle::{AnyLifecycle, Phase, Revision},
    runner::Backoff,
    store::{MemoryStore, PlacementQuery, Query, RedbStore, Retention, Store},
    *,
};
use futures_lite::future::{block_on, poll_once};

type Act<'w> = Pin<Box<dyn Future<Output = ()> + 'w>>;

struct World {
    runner: Runner,
    store: Arc<FaultyStore>,
    engine: Arc<FakeEngine>,
    clock: Arc<VirtualClock>,
    bus: Arc<ChannelBus>,
    witness: Arc<Witness>,
    /// Makes the master again, as a start of its process does.
    unrecovered: Box<dyn Fn() -> Unrecovered>,
    /// Whether it was made again, so that `runner` is of an earlier start.
    restarted: Cell<bool>,
}

impl World {
    /// A master whose store lets every caller wait, twice a call.
    fn new() -> Self {
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let store = Arc::new(FaultyStore::new(Arc::clone(&memory)));
        let witness = Witness::new(memory);
        let clock = Arc::new(VirtualClock::new());
        let engine = Arc::new(FakeEngine::new());
        engine.script(&name("a"), EngineScript::Delay(Duration::from_secs(5)));
        let bus = Arc::new(ChannelBus::new(1_000));
        let unrecovered = {
            let (store, witness, bus, clock) = (store.clone(), witness.clone(), bus.clone(), clock.clone());
            let engine = engine.clone();
            let agents = Arc::new(FakeAgents::new());
            move || {
                let w1 = Host {
                    id: HostId::parse("w1").unwrap(),
                    address: "w1:1".into(),
                    pin: decnet_lifecycle::agent::Pin::CaOnly,
                };
                Runner::builder(store.clone(), witness.engine(engine.clone()))
                    .bus(witness.bus(bus.clone()))
                    .swarm(witness.agents(agents.clone()), Arc::new(StaticHosts::new([w1])))
                    .clock(clock.clone())
                    .build()
                    .unwrap()
            }
        };
        let (runner, _) = block_on(unrecovered().recover()).unwrap();
        store.wait(1);
        let restarted = Cell::new(false);
        Self { runner, store, engine, clock, bus, witness, unrecovered: Box::new(unrecovered), restarted }
    }

    fn unrecovered(&self) -> Unrecovered {
        self.restarted.set(true);
        (self.unrecovered)()
    }

    fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        for _ in 0..100_000 {
            if let Poll::Ready(done) = self.poll(future.as_mut()) {
                return done;
            }
        }
        panic!("the future neither ends nor sleeps");
    }

    /// One poll; then time passes if the future waits for that only.
    fn poll<F: Future + ?Sized>(&self, future: Pin<&mut F>) -> Poll<F::Output> {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let polled = future.poll(&mut Context::from_waker(&waker));
        if polled.is_pending() && !woken.0.load(Ordering::SeqCst) {
            self.clock.advance_to_next();
        }
        polled
    }

    fn deployed(&self) -> Vec<LifecycleId> {
        let accepted = self.drive(self.runner.accept_deploy(deploy())).unwrap();
        let ids = accepted.ids().values().copied().collect();
        self.drive(accepted.run());
        ids
    }

    /// Whatever was dropped: the same deckies can be deployed again, and in
    /// the end every row has ended and nobody holds anything.
    fn nothing_is_stranded(&mut self, what: &str) {
        self.store.heal();
        if self.restarted.get() {
            // A recovery that was dropped is begun again; what it gives is not
            // run here.
            (self.runner, _) = self.drive((self.unrecovered)().recover()).unwrap();
        }
        let mut invariants = Invariants::new().with_witness(Arc::clone(&self.witness));
        block_on(invariants.check(&*self.store)).unwrap_or_else(|breach| panic!("{what}: {breach}"));
        // What nobody drives any more ends at the next sweep, not at a deadline.
        self.drive(self.runner.sweep()).unwrap();
        for row in self.drive(self.runner.list(&Query::new().open())).unwrap().records {
            let at_the_worker = row.status() == Status::Running && row.host.is_some();
            assert!(at_the_worker, "{what}: left to its deadline: {row:?}");
        }
        let again = deploy().overlap(Overlap::Supersede).relocate(true);
        let accepted = self.drive(self.runner.accept_deploy(again)).unwrap();
        let own = accepted.ids()[&name("a")];
        self.drive(accepted.run());
        let row = self.drive(self.runner.get(&[own])).unwrap().remove(0);
        assert_eq!(row.status(), Status::Succeeded, "{what}: {row:?}");
        self.clock.advance(Duration::from_secs(3 * 3_600));
        self.drive(self.runner.sweep()).unwrap();
        let open = self.drive(self.runner.list(&Query::new().open())).unwrap().records;
        assert!(open.is_empty(), "{what}: {open:?}");
        block_on(invariants.check(&*self.store)).unwrap_or_else(|breach| panic!("{what}: {breach}"));
        assert_eq!(self.runner.counters().active, 0, "{what}");
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn name(text: &str) -> DeckyName {
    DeckyName::parse(text).unwrap()
}

fn fleet() -> FleetConfig {
    let decky = |name: &str, last: u8, host: Option<&str>| {
        serde_json::json!({
            "name": name, "ip": format!("192.0.2.{last}"), "services": ["ssh"], "distro": "debian",
            "base_image": "debian:12", "hostname": "srv", "host_uuid": host,
        })
    };
    let fleet = serde_json::json!({
        "mode": "swarm", "interface": "eth0", "subnet": "192.0.2.0/24", "gateway": "192.0.2.1",
        "deckies": [decky("a", 10, None), decky("b", 11, Some("w1"))],
    });
    FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap()
}

fn deploy() -> DeployRequest {
    DeployRequest::new(fleet())
}

/// The worker's decky comes to the master.
fn moved() -> DeployRequest {
    let mut fleet: serde_json::Value = serde_json::from_str(&fleet().to_json()).unwrap();
    fleet["deckies"][1]["host_uuid"] = serde_json::Value::Null;
    let fleet = FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap();
    DeployRequest::new(fleet).relocate(true)
}

/// Drops the future that `act` makes after 0, 1, 2, .. polls, each in a world
/// of its own, until it ends by itself; it must wait at least so often.
fn dropped_at_every_poll<S>(
    what: &str,
    least: usize,
    prepare: impl Fn(&World) -> S,
    act: impl for<'w> Fn(&'w World, &'w S) -> Act<'w>,
) {
    for polls in 0..10_000 {
        let mut world = World::new();
        let prepared = prepare(&world);
        let mut future = act(&world, &prepared);
        let mut ended = false;
        for _ in 0..polls {
            if world.poll(future.as_mut()).is_ready() {
                ended = true;
                break;
            }
        }
        drop(future);
        drop(prepared);
        world.nothing_is_stranded(&format!("{what}, dropped after {polls} polls"));
        if ended || (least == 0 && polls > 10) {
            assert!(polls >= least, "{what} waited {polls} times only");
            return;
        }
    }
    panic!("{what} never ends");
}

#[test]
fn accept() {
    dropped_at_every_poll(
        "accept_deploy",
        2,
        |_| (),
        |world, ()| Box::pin(async { drop(world.runner.accept_deploy(deploy()).await) }),
    );
    dropped_at_every_poll("accept_mutate", 4, World::deployed, |world, _| {
        let request = MutateRequest::new(name("a"), vec![ServiceName::parse("ftp").unwrap()]);
        Box::pin(async { drop(world.runner.accept_mutate(request).await) })
    });
    dropped_at_every_poll("accept_teardown", 4, World::deployed, |world, _| {
        let request = TeardownRequest::new([name("a"), name("b")]).overlap(Overlap::Supersede);
        Box::pin(async { drop(world.runner.accept_teardown(request).await) })
    });
    dropped_at_every_poll("accept a move", 4, World::deployed, |world, _| {
        let request = moved().overlap(Overlap::Supersede);
        Box::pin(async { drop(world.runner.accept_deploy(request).await) })
    });
}

#[test]
fn run() {
    dropped_at_every_poll(
        "accept and run a deploy",
        8,
        |_| (),
        |world, ()| Box::pin(async { world.runner.accept_deploy(deploy()).await.unwrap().run().await }),
    );
    dropped_at_every_poll("accept and run a mutate", 6, World::deployed, |world, _| {
        let request = MutateRequest::new(name("a"), vec![ServiceName::parse("ftp").unwrap()]);
        let request = request.overlap(Overlap::Supersede);
        Box::pin(async { world.runner.accept_mutate(request).await.unwrap().run().await })
    });
    dropped_at_every_poll("accept and run a move", 8, World::deployed, |world, _| {
        let request = moved().overlap(Overlap::Supersede);
        Box::pin(async { world.runner.accept_deploy(request).await.unwrap().run().await })
    });
    dropped_at_every_poll("accept and run a teardown", 6, World::deployed, |world, _| {
        let request = TeardownRequest::new([name("a"), name("b")]).overlap(Overlap::Supersede);
        Box::pin(async { world.runner.accept_teardown(request).await.unwrap().run().await })
    });
}

#[test]
fn maintenance() {
    // Nothing is due yet: only the sweep knows of a future that was dropped.
    let abandoned = |world: &World| {
        drop(world.drive(world.runner.accept_deploy(deploy())).unwrap());
        world.clock.advance(Duration::from_secs(60));
    };
    let stale = |world: &World| {
        abandoned(world);
        world.clock.advance(Duration::from_secs(3_600));
    };
    for prepare in [&abandoned as &dyn Fn(&World), &stale] {
        dropped_at_every_poll("sweep", 4, prepare, |world, ()| {
            Box::pin(async { drop(world.runner.sweep().await) })
        });
        dropped_at_every_poll("recover", 2, prepare, |world, ()| {
            let unrecovered = world.unrecovered();
            Box::pin(async { drop(unrecovered.recover().await) })
        });
        dropped_at_every_poll("maintain", 0, prepare, |world, ()| {
            Box::pin(async { drop(world.runner.maintain().await) })
        });
    }
    let policy = Retention::closed_before(Timestamp::from_micros(i64::MAX));
    dropped_at_every_poll(
        "prune",
        2,
        |_| (),
        |world, ()| Box::pin(async move { drop(world.runner.prune(&policy).await) }),
    );
}

/// What has drifted is looked at, brought back and restored.
#[test]
fn healing() {
    let drifted = |world: &World| {
        world.deployed();
        world.engine.lose(&name("a"));
    };
    dropped_at_every_poll("drift", 4, drifted, |world, ()| {
        Box::pin(async { drop(world.runner.drift().await) })
    });
    dropped_at_every_poll("heal and run", 10, drifted, |world, ()| {
        Box::pin(async {
            for accepted in world.runner.heal(Backoff::default()).await.unwrap() {
                accepted.run().await;
            }
        })
    });
    dropped_at_every_poll("restore and run", 10, drifted, |world, ()| {
        Box::pin(async {
            for accepted in world.runner.restore().await.unwrap().accepted {
                accepted.run().await;
            }
        })
    });
    dropped_at_every_poll("watch_drift", 0, drifted, |world, ()| {
        Box::pin(world.runner.watch_drift(Duration::from_secs(60), Some(Backoff::default())))
    });
}

/// What an earlier start left pending is taken up again, wherever the recovery
/// or the work is dropped.
#[test]
fn taking_up_again() {
    dropped_at_every_poll("recover and run", 6, left_pending, |world, _| {
        let unrecovered = world.unrecovered();
        Box::pin(async {
            for again in unrecovered.recover().await.unwrap().1.accepted {
                again.run().await;
            }
        })
    });
}

/// Rows of an earlier start of the same master, deploys and a move.
fn left_pending(world: &World) {
    let earlier = Runner::builder(world.store.clone(), Arc::new(FakeEngine::new()))
        .clock(world.clock.clone())
        .build()
        .unwrap();
    let (earlier, _) = world.drive(earlier.recover()).unwrap();
    std::mem::forget(world.drive(earlier.accept_deploy(deploy())).unwrap());
}

/// The queries about what is placed, and what changes that without a row.
#[test]
fn placements() {
    dropped_at_every_poll("plan", 2, World::deployed, |world, _| {
        Box::pin(async { drop(world.runner.plan(&deploy()).await) })
    });
    dropped_at_every_poll("placements", 2, World::deployed, |world, _| {
        Box::pin(async { drop(world.runner.placements(&PlacementQuery::All).await) })
    });
    dropped_at_every_poll("deckies", 4, World::deployed, |world, _| {
        Box::pin(async { drop(world.runner.deckies().await) })
    });
    dropped_at_every_poll("head", 2, World::deployed, |world, _| {
        Box::pin(async { drop(world.runner.head().await) })
    });
    dropped_at_every_poll("forget", 4, World::deployed, |world, _| {
        Box::pin(async { drop(world.runner.forget(&[name("a")].into()).await) })
    });
    dropped_at_every_poll(
        "take_over",
        2,
        |_| (),
        |world, ()| Box::pin(async { drop(world.runner.take_over(&fleet(), None).await) }),
    );
}

#[test]
fn a_shutdown_that_is_dropped_can_be_asked_for_again() {
    for polls in 0..6 {
        let world = World::new();
        let accepted = world.drive(world.runner.accept_deploy(deploy())).unwrap();
        let mut run = Box::pin(accepted.run());
        let _ = block_on(poll_once(&mut run));
        let mut shutdown = Box::pin(world.runner.shutdown(Duration::from_secs(60)));
        for _ in 0..polls {
            if block_on(poll_once(&mut shutdown)).is_some() {
                break;
            }
        }
        drop(shutdown);
        let both = futures_lite::future::zip(run, world.runner.shutdown(Duration::from_secs(60)));
        assert_eq!(world.drive(both).1, 0, "after {polls} polls");
    }
}

#[test]
fn questions() {
    dropped_at_every_poll("get", 2, World::deployed, |world, ids| {
        Box::pin(async { drop(world.runner.get(ids).await) })
    });
    dropped_at_every_poll("list", 2, World::deployed, |world, _| {
        Box::pin(async { drop(world.runner.list(&Query::new()).await) })
    });
    dropped_at_every_poll("history", 2, World::deployed, |world, ids| {
        Box::pin(async { drop(world.runner.history(ids[0]).await) })
    });
    dropped_at_every_poll("explain", 2, World::deployed, |world, ids| {
        Box::pin(async { drop(world.runner.explain(ids[0]).await) })
    });
    dropped_at_every_poll("wait", 2, World::deployed, |world, ids| {
        Box::pin(async { drop(world.runner.wait(&ids[..1]).await) })
    });
    dropped_at_every_poll("cancel", 2, World::deployed, |world, ids| {
        Box::pin(async { drop(world.runner.cancel(ids[1]).await) })
    });
    dropped_at_every_poll("apply_deltas", 4, World::deployed, |world, ids| {
        let delta = Delta {
            lifecycle_id: Some(ids[1]),
            decky: name("b"),
            operation: Operation::Deploy,
            report: Reported::Failed("no".into()),
            completed_at: None,
        };
        Box::pin(async move {
            let deltas = [delta];
            drop(world.runner.apply_deltas(&HostId::parse("w1").unwrap(), &deltas).await);
        })
    });
}

#[test]
fn a_watcher_or_listener_that_gives_up_waiting_misses_nothing() {
    for polls in 0..12 {
        let world = World::new();
        let heard = world.bus.subscribe();
        let mut watch = world.runner.watch(Revision::ZERO);
        for _ in 0..polls {
            let mut next = Box::pin(watch.next());
            let _ = block_on(poll_once(&mut next));
            let mut event = Box::pin(heard.next());
            assert!(block_on(poll_once(&mut event)).is_none());
        }
        world.deployed();
        let mut seen = Vec::new();
        while let Some(step) = world.drive(watch.try_next()).unwrap() {
            seen.push(step);
        }
        assert_eq!(seen.len(), 5, "after {polls} polls: {seen:?}");
        assert_eq!(std::iter::from_fn(|| heard.try_next()).count(), 5);
    }
}

#[test]
fn the_journal() {
    let pending = |world: &World| {
        let accepted = world.drive(world.runner.accept_deploy(deploy())).unwrap();
        accepted.ids()[&name("b")]
    };
    let journal = |world: &World| Journal::new(world.store.clone(), world.bus.clone());
    dropped_at_every_poll("load", 2, pending, |world, id| {
        let journal = journal(world);
        Box::pin(async move { drop(journal.load(*id).await) })
    });
    dropped_at_every_poll("commit, commit_all and close_all", 7, pending, |world, id| {
        let journal = journal(world);
        Box::pin(async move {
            let Some(AnyLifecycle::Pending(row)) = journal.load(*id).await.unwrap() else { panic!() };
            let now = world.clock.now();
            let started = row.start(now, now.plus(Duration::from_secs(60)));
            let mut rows = journal.commit_all(vec![started]).await;
            let row = rows.remove(0).unwrap();
            let failure = Failure::new(FailureKind::Engine, "no");
            drop(journal.close_all(vec![(row, Err(failure))], now).await);
        })
    });
}

/// A store's own futures, over a writer that is polled by hand.
#[test]
fn the_redb_store() {
    for polls in 0..6 {
        let disk = SimDisk::new();
        let (store, writer) = RedbStore::simulated(move || disk.handle()).unwrap();
        let mut writer = Box::pin(writer);
        let world = World::new();
        let ids = world.deployed();
        let row = world.drive(world.store.read(&ids[..1])).unwrap().remove(0);
        let phase = Phase::Pending { deadline: row.created_at };
        let record = Record { phase, updated_at: row.created_at, ..row };
        let batch = |number: u128| {
            let id = LifecycleId::from_u128(number);
            let decky = name(&format!("d{number}"));
            let record = Record { id, decky, ..record.clone() };
            Change::Insert(Box::new(Insert::new(record, Overlap::Reject)))
        };
        let mut commit = Box::pin(store.commit(Batch::all_or_none(vec![batch(1), batch(2)])));
        let policy = Retention::closed_before(Timestamp::from_micros(0));
        let mut prune = Box::pin(store.prune(&policy));
        for poll in 0..polls {
            if poll % 2 == 1 {
                let _ = block_on(poll_once(&mut writer));
            }
            if block_on(poll_once(&mut commit)).is_some() {
                break;
            }
            if block_on(poll_once(&mut prune)).is_some() {
                break;
            }
        }
        drop(commit);
        drop(prune);
        let _ = block_on(poll_once(&mut writer));
        let rows = block_on(store.query(&Query::new())).unwrap().records.len();
        assert!(rows == if polls == 0 { 0 } else { 2 }, "{rows} rows after {polls} polls");
        let later = futures_lite::future::zip(store.commit(Batch::per_row(vec![batch(3)])), store.close());
        let mut later = Box::pin(later);
        let mut close = Box::pin(store.close());
        assert!(block_on(poll_once(&mut close)).is_none());
        drop(close);
        let _ = block_on(poll_once(&mut later));
        block_on(&mut writer);
        let (commit, close) = block_on(later);
        close.unwrap();
        assert!(matches!(commit, Err(StoreError::Closed { .. })), "{commit:?}");
    }
}

/// Found by fuzzing a damaged file: a writer that dies takes nobody with it.
#[test]
fn who_waits_for_a_writer_that_is_dropped_hears_of_it() {
    let disk = SimDisk::new();
    let (store, writer) = RedbStore::simulated(move || disk.handle()).unwrap();
    let policy = Retention::closed_before(Timestamp::from_micros(0));
    let mut waiting = Box::pin(futures_lite::future::zip(store.prune(&policy), store.close()));
    assert!(block_on(poll_once(&mut waiting)).is_none());
    drop(writer);
    let answered = block_on(poll_once(&mut waiting));
    let (pruned, closed) = answered.expect("nobody told them");
    assert!(matches!(pruned, Err(StoreError::Closed { .. })), "{pruned:?}");
    closed.unwrap();
    let later = block_on(store.commit(Batch::per_row(vec![])));
    assert!(matches!(later, Err(StoreError::Closed { .. })), "{later:?}");
}
