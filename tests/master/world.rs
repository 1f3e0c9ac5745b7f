//! A master on fakes, and the fleets it deploys.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use decnet_lifecycle::testkit::{FakeAgents, FakeEngine, VirtualClock};
use decnet_lifecycle::{
    agent::{Host, Pin, StaticHosts},
    beat::{Delta, Reported, Verdict},
    bus::{ChannelBus, Subscription},
    lifecycle::Revision,
    placement::{Placement, Standing},
    store::{Entry, Feed, MemoryStore, PlacementQuery, Store},
    *,
};
use futures_lite::future::block_on;

/// What takes longer hangs.
const HANGS: Duration = Duration::from_secs(60);

pub struct World {
    pub runner: Runner,
    /// What the start before left.
    pub recovered: Recovered,
    pub store: Arc<dyn Store>,
    pub engine: Arc<FakeEngine>,
    pub agents: Arc<FakeAgents>,
    pub clock: Arc<VirtualClock>,
    pub bus: Arc<ChannelBus>,
    /// Everything that the bus was told, from the start.
    pub bus_events: Subscription,
}

impl World {
    pub fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new()), Arc::new(VirtualClock::new()))
    }

    pub fn over(store: Arc<dyn Store>, clock: Arc<VirtualClock>) -> Self {
        let engine = Arc::new(FakeEngine::new());
        let agents = Arc::new(FakeAgents::new());
        let bus = Arc::new(ChannelBus::new(10_000));
        let bus_events = bus.subscribe();
        let hosts = ["w1", "w2", "w3"].map(|id| Host {
            id: host(id),
            address: format!("{id}:8765"),
            pin: Pin::CaOnly,
        });
        let unrecovered = Runner::builder(Arc::clone(&store), engine.clone())
            .bus(bus.clone())
            .swarm(agents.clone(), Arc::new(StaticHosts::new(hosts)))
            .clock(clock.clone())
            .build()
            .unwrap();
        let (runner, recovered) = block_on(unrecovered.recover()).unwrap();
        Self { runner, recovered, store, engine, agents, clock, bus, bus_events }
    }

    /// A master that starts anew over the same store.
    pub fn restarted(&self) -> Self {
        Self::over(Arc::clone(&self.store), Arc::clone(&self.clock))
    }

    pub fn deploy(&self, fleet: FleetConfig) -> Accepted {
        block_on(self.runner.accept_deploy(DeployRequest::new(fleet))).unwrap()
    }

    /// Deploys to where the master's part is done.
    pub fn deployed(&self, fleet: FleetConfig) -> Vec<LifecycleId> {
        let accepted = self.deploy(fleet);
        let ids = accepted.ids().values().copied().collect();
        self.drive(accepted.run());
        ids
    }

    /// A row of this host that has ended by a beat that named it, as our
    /// worker's do.
    pub fn hears_an_id_from(&self, from: &str) {
        let id = self.deployed(fleet(&[from]))[0];
        let delta = Delta {
            lifecycle_id: Some(id),
            decky: name("a"),
            operation: Operation::Deploy,
            report: Reported::Succeeded,
            completed_at: None,
        };
        let verdicts = block_on(self.runner.apply_deltas(&host(from), &[delta])).unwrap();
        assert_eq!(verdicts, [Verdict::Applied]);
    }

    /// Asks for other services, and drives that to where the master's part is
    /// done.
    pub fn mutated(&self, decky: &str, to: &[&str]) -> LifecycleId {
        let request = MutateRequest::new(name(decky), services(to));
        let accepted = block_on(self.runner.accept_mutate(request)).unwrap();
        let id = accepted.ids()[&name(decky)];
        self.drive(accepted.run());
        id
    }

    pub fn torn_down(&self, request: TeardownRequest) -> Vec<LifecycleId> {
        let accepted = block_on(self.runner.accept_teardown(request)).unwrap();
        let ids = accepted.ids().values().copied().collect();
        self.drive(accepted.run());
        ids
    }

    /// What is placed, by name.
    pub fn placements(&self) -> Vec<Placement> {
        block_on(self.runner.placements(&PlacementQuery::All)).unwrap()
    }

    pub fn placement(&self, decky: &str) -> Option<Placement> {
        self.placements().into_iter().find(|placement| placement.decky == name(decky))
    }

    /// The services that a decky is up with, on evidence.
    pub fn up_with(&self, decky: &str) -> Vec<ServiceName> {
        match self.placement(decky).map(|placement| placement.standing) {
            Some(Standing::Up { placed, .. }) => placed.config.services.clone(),
            other => panic!("{decky} is not up: {other:?}"),
        }
    }

    pub fn is_unsure(&self, decky: &str) -> bool {
        matches!(self.placement(decky), Some(Placement { standing: Standing::Unsure { .. }, .. }))
    }

    /// Polls a future to its end, moving time whenever it waits for that. What
    /// waits for something else, such as the thread of a store, is woken by it.
    pub fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        struct Waiting(std::thread::Thread, AtomicBool);
        impl Wake for Waiting {
            fn wake(self: Arc<Self>) {
                self.1.store(true, Ordering::SeqCst);
                self.0.unpark();
            }
        }
        let waiting = Arc::new(Waiting(std::thread::current(), AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&waiting));
        let mut future = std::pin::pin!(future);
        loop {
            if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return done;
            }
            let since = Instant::now();
            while !self.clock.advance_to_next() && !waiting.1.swap(false, Ordering::SeqCst) {
                assert!(since.elapsed() < HANGS, "the future neither ends nor sleeps");
                std::thread::park_timeout(HANGS);
            }
        }
    }

    pub fn rows(&self, ids: &[LifecycleId]) -> Vec<Record> {
        let mut rows = block_on(self.runner.get(ids)).unwrap();
        rows.sort_by(|a, b| a.decky.cmp(&b.decky));
        rows
    }

    pub fn row(&self, id: LifecycleId) -> Record {
        self.rows(&[id]).remove(0)
    }

    /// `status`, or `Kind: message` of a failed row, in the order of deckies.
    pub fn told(&self, ids: &[LifecycleId]) -> Vec<String> {
        let tell = |row: &Record| row.failure().map_or_else(|| row.status().to_string(), ToString::to_string);
        self.rows(ids).iter().map(tell).collect()
    }

    pub fn feed(&self) -> Vec<Entry> {
        match block_on(self.store.changes(Revision::ZERO, usize::MAX)).unwrap() {
            Feed::Entries { entries, .. } => entries,
            Feed::Compacted { oldest } => panic!("compacted to {oldest}"),
        }
    }
}

pub fn name(text: &str) -> DeckyName {
    DeckyName::parse(text).unwrap()
}

pub fn host(text: &str) -> HostId {
    HostId::parse(text).unwrap()
}

pub fn services(names: &[&str]) -> Vec<ServiceName> {
    names.iter().map(|name| ServiceName::parse(name).unwrap()).collect()
}

/// A fleet of deckies `a`, `b`, .. on these hosts; `""` is the master's own.
pub fn fleet(hosts: &[&str]) -> FleetConfig {
    let deckies: Vec<serde_json::Value> = hosts
        .iter()
        .enumerate()
        .map(|(place, host)| {
            serde_json::json!({
                "name": char::from(b'a' + u8::try_from(place).unwrap()).to_string(),
                "ip": format!("192.0.2.{}", 10 + place), "services": ["ssh", "http"], "distro": "debian",
                "base_image": "debian:12", "hostname": "srv", "host_uuid": (!host.is_empty()).then_some(host),
            })
        })
        .collect();
    let fleet = serde_json::json!({
        "mode": if hosts.iter().all(|host| host.is_empty()) { "unihost" } else { "swarm" },
        "interface": "eth0", "subnet": "192.0.2.0/24", "gateway": "192.0.2.1", "deckies": deckies,
    });
    FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap()
}
