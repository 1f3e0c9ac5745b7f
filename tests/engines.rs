//! The public suite of engines: the fake one passes it, a toy passes it, and
//! each toy with something wrong in it is caught by the case meant for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use decnet_lifecycle::clock::Clock;
use decnet_lifecycle::engine::{Engine, Report, Turns, Work};
use decnet_lifecycle::fleet::{DeckyConfig, DeckyRuntime};
use decnet_lifecycle::testkit::engines::{self, Machine};
use decnet_lifecycle::testkit::{EngineScript, FakeEngine, VirtualClock};
use decnet_lifecycle::*;
use futures_lite::future::{block_on, yield_now};

fn fleet() -> FleetConfig {
    let decky = |number: usize| {
        serde_json::json!({"name": format!("decky-{number}"), "ip": format!("192.0.2.{}", 10 + number),
            "services": ["ssh", "http"], "distro": "debian", "base_image": "debian:12", "hostname": "srv"})
    };
    let deckies: Vec<_> = (1..=4).map(decky).collect();
    let fleet = serde_json::json!({"mode": "unihost", "interface": "eth0", "subnet": "192.0.2.0/24",
        "gateway": "192.0.2.1", "deckies": deckies});
    FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap()
}

fn service(name: &str) -> ServiceName {
    ServiceName::parse(name).unwrap()
}

/// What the toys play on: the services that run of each decky, and as which
/// start.
type Running = Arc<Mutex<BTreeMap<DeckyName, BTreeMap<ServiceName, u64>>>>;

struct Fake {
    engine: Mutex<Arc<FakeEngine>>,
    side_by_side: bool,
}

impl Fake {
    fn new(side_by_side: bool) -> Self {
        Self { engine: Mutex::default(), side_by_side }
    }
}

#[async_trait]
impl Machine for Fake {
    async fn clean(&self) {
        let engine = if self.side_by_side { FakeEngine::side_by_side() } else { FakeEngine::new() };
        *self.engine.lock().unwrap() = Arc::new(engine);
    }

    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(self.engine.lock().unwrap().restarted())
    }

    fn fleet(&self) -> FleetConfig {
        fleet()
    }

    fn other_services(&self) -> Vec<ServiceName> {
        vec![service("http"), service("redis")]
    }

    fn spoilt(&self, fleet: &FleetConfig, decky: &DeckyName) -> Option<FleetConfig> {
        let failure = Failure::new(FailureKind::Engine, "no such image");
        self.engine.lock().unwrap().script(decky, EngineScript::Fail(failure));
        Some(fleet.with_services(decky, vec![service("gone")]).unwrap())
    }

    async fn answering(&self, decky: &DeckyConfig) -> BTreeMap<ServiceName, String> {
        let engine = Arc::clone(&self.engine.lock().unwrap());
        let mut found = engine.found().await.unwrap();
        let runs = found.remove(&decky.name).unwrap_or_default().services;
        let runs = runs.into_iter().filter(|(_, state)| state == "running");
        runs.map(|(name, state)| (service(&name), state)).collect()
    }

    async fn kill(&self, decky: &DeckyName, service: &ServiceName) -> bool {
        self.engine.lock().unwrap().kill(decky, service);
        true
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(VirtualClock::new())
    }
}

#[test]
fn the_fake_engine_conforms() {
    block_on(engines::check(&Fake::new(false))).unwrap();
    block_on(engines::check(&Fake::new(true))).unwrap();
}

/// What is wrong with a toy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    SaysYesAtOnce,
    ForgetsADecky,
    FailsTogether,
    TouchesOthers,
    StartsAnew,
    TrustsItsMemory,
    TellsTheDead,
    KnowsStrangers,
    KeepsOldServices,
    LosesServicesOnFailure,
    MissesWhatIsNotUp,
    LeavesAService,
    GoesByTheFleet,
    FindsItsOwnOnly,
    TellsOtherwise,
    LosesOthersWork,
    CancelIsFailure,
    CancelComesLate,
    CancelLeavesAService,
    DroppedIsInTheWay,
    DroppedTeardownIsInTheWay,
}

/// An engine on a map, with something wrong in it.
#[derive(Debug)]
struct Toy {
    fault: Fault,
    running: Running,
    /// What this object brought up itself.
    own: Mutex<BTreeSet<DeckyName>>,
    /// A call that was not ended, here or by an earlier object.
    half: Arc<AtomicU64>,
    starts: Arc<AtomicU64>,
}

impl Toy {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn start(&self, decky: &DeckyName, service: &ServiceName) {
        let number = self.starts.fetch_add(1, Ordering::SeqCst);
        let mut running = self.running.lock().unwrap();
        running.entry(decky.clone()).or_default().insert(service.clone(), number);
    }

    fn of(&self, decky: &DeckyName) -> BTreeMap<ServiceName, u64> {
        self.running.lock().unwrap().get(decky).cloned().unwrap_or_default()
    }

    fn put(&self, decky: &DeckyName, services: BTreeMap<ServiceName, u64>) {
        let mut running = self.running.lock().unwrap();
        if services.is_empty() {
            drop(running.remove(decky))
        } else {
            drop(running.insert(decky.clone(), services))
        }
    }

    async fn up(&self, work: &Work, decky: &DeckyName, mutates: bool) -> Result<(), Failure> {
        let cancelled = || {
            let kind =
                if self.is(Fault::CancelIsFailure) { FailureKind::Engine } else { FailureKind::Cancelled };
            Failure::new(kind, "stopped when asked to")
        };
        let failed = |text: &str| Failure::new(FailureKind::Engine, text);
        if work.is_cancelled(decky) && !self.is(Fault::CancelComesLate) {
            return Err(cancelled());
        }
        let Some(config) = work.fleet.decky(decky) else {
            return if self.is(Fault::KnowsStrangers) { Ok(()) } else { Err(failed("no such decky")) };
        };
        if self.is(Fault::SaysYesAtOnce) && config.services.len() > 1 {
            self.start(decky, &config.services[0]);
            return Ok(());
        }
        if self.is(Fault::TrustsItsMemory) && self.half.fetch_or(2, Ordering::SeqCst) & 2 != 0 && !mutates {
            return Ok(());
        }
        let before = self.of(decky);
        for service in &config.services {
            yield_now().await;
            let stopped = work.is_cancelled(decky) && !self.is(Fault::CancelComesLate);
            let spoilt = service.as_str() == "gone";
            if stopped || spoilt {
                if self.is(Fault::LosesServicesOnFailure) {
                    self.put(decky, BTreeMap::new());
                } else if !(stopped && self.is(Fault::CancelLeavesAService)) {
                    self.put(decky, before);
                }
                return Err(if stopped { cancelled() } else { failed("no such image") });
            }
            if !before.contains_key(service) || self.is(Fault::StartsAnew) {
                self.start(decky, service);
            }
        }
        if !self.is(Fault::KeepsOldServices) {
            let mut now = self.of(decky);
            now.retain(|service, _| config.services.contains(service));
            self.put(decky, now);
        }
        if self.is(Fault::CancelComesLate) && work.is_cancelled(decky) {
            return Err(cancelled());
        }
        Ok(())
    }

    async fn down(&self, work: &Work, decky: &DeckyName) -> Result<(), Failure> {
        let before = self.of(decky);
        let failed = |text: &str| Err(Failure::new(FailureKind::Engine, text));
        if self.is(Fault::MissesWhatIsNotUp) && before.is_empty() {
            return failed("it is not up");
        }
        if self.is(Fault::GoesByTheFleet) && work.fleet.decky(decky).is_none() {
            return Ok(());
        }
        for service in before.keys().skip(usize::from(self.is(Fault::LeavesAService))) {
            yield_now().await;
            let mut now = self.of(decky);
            now.remove(service);
            self.put(decky, now);
        }
        Ok(())
    }

    async fn each(&self, work: &Work, job: Operation) -> Result<Report, Failure> {
        let in_the_way = match job {
            Operation::Teardown => Fault::DroppedTeardownIsInTheWay,
            _ => Fault::DroppedIsInTheWay,
        };
        if self.is(in_the_way) && self.half.fetch_or(1, Ordering::SeqCst) & 1 != 0 {
            return Err(Failure::new(FailureKind::Engine, "another call has not ended"));
        }
        let at_first = self.running.lock().unwrap().clone();
        let mut report = Report::new();
        let mut failures = Vec::new();
        for (place, decky) in work.deckies.keys().enumerate() {
            let done = match job {
                Operation::Teardown => self.down(work, decky).await,
                _ => self.up(work, decky, job == Operation::Mutate).await,
            };
            let told = if self.is(Fault::TellsOtherwise) { Ok(()) } else { done.clone() };
            work.report(decky, &told);
            match done {
                _ if self.is(Fault::ForgetsADecky) && place == 1 => {}
                Ok(()) => report.succeeded(decky.clone()),
                Err(failure) => {
                    failures.push(failure.clone());
                    report.failed(decky.clone(), failure);
                }
            }
            self.own.lock().unwrap().insert(decky.clone());
        }
        if self.is(Fault::LosesOthersWork) {
            // Writes down all that it knew, as if nobody else had been at work.
            let mut running = self.running.lock().unwrap();
            running.retain(|decky, _| at_first.contains_key(decky) || work.deckies.contains_key(decky));
        }
        if self.is(Fault::TouchesOthers) && job == Operation::Deploy {
            for config in work.fleet.deckies.iter().filter(|config| !work.deckies.contains_key(&config.name))
            {
                config.services.iter().for_each(|service| self.start(&config.name, service));
            }
        }
        self.half.fetch_and(!1, Ordering::SeqCst);
        match failures.pop() {
            Some(failure) if self.is(Fault::FailsTogether) => Err(failure),
            _ => Ok(report),
        }
    }
}

#[async_trait]
impl Engine for Toy {
    fn turns(&self) -> Turns {
        Turns::OneCallPerDecky
    }

    async fn runtime(&self, fleet: &FleetConfig) -> Result<BTreeMap<DeckyName, DeckyRuntime>, Failure> {
        let found = self.found().await?;
        let of = |config: &DeckyConfig| {
            let mut seen = found.get(&config.name).cloned().unwrap_or_default();
            let runs = |service: &ServiceName| seen.services.contains_key(service.as_str());
            seen.running = self.is(Fault::TellsTheDead) || config.services.iter().all(runs);
            (config.name.clone(), seen)
        };
        Ok(fleet.deckies.iter().map(of).collect())
    }

    async fn found(&self) -> Result<BTreeMap<DeckyName, DeckyRuntime>, Failure> {
        let running = self.running.lock().unwrap();
        let own = self.own.lock().unwrap();
        let runs = |services: &BTreeMap<ServiceName, u64>| DeckyRuntime {
            running: true,
            services: services.keys().map(|name| (name.to_string(), "running".to_owned())).collect(),
        };
        let is_seen = |decky: &DeckyName| {
            !self.is(Fault::FindsItsOwnOnly) || own.contains(decky) || decky.as_str() == "decky-1"
        };
        let seen = running.iter().filter(|(decky, _)| is_seen(decky));
        Ok(seen.map(|(decky, services)| (decky.clone(), runs(services))).collect())
    }

    async fn deploy(&self, work: &Work) -> Result<Report, Failure> {
        self.each(work, Operation::Deploy).await
    }

    async fn mutate(&self, work: &Work) -> Result<Report, Failure> {
        self.each(work, Operation::Mutate).await
    }

    async fn teardown(&self, work: &Work) -> Result<Report, Failure> {
        self.each(work, Operation::Teardown).await
    }
}

struct Toys {
    fault: Fault,
    running: Running,
    half: Arc<AtomicU64>,
    starts: Arc<AtomicU64>,
}

impl Toys {
    fn new(fault: Fault) -> Self {
        Self { fault, running: Arc::default(), half: Arc::default(), starts: Arc::default() }
    }
}

#[async_trait]
impl Machine for Toys {
    async fn clean(&self) {
        self.running.lock().unwrap().clear();
        self.half.store(0, Ordering::SeqCst);
    }

    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(Toy {
            fault: self.fault,
            running: Arc::clone(&self.running),
            own: Mutex::default(),
            half: Arc::clone(&self.half),
            starts: Arc::clone(&self.starts),
        })
    }

    fn fleet(&self) -> FleetConfig {
        fleet()
    }

    fn other_services(&self) -> Vec<ServiceName> {
        vec![service("http"), service("redis")]
    }

    fn spoilt(&self, fleet: &FleetConfig, decky: &DeckyName) -> Option<FleetConfig> {
        Some(fleet.with_services(decky, vec![service("redis"), service("gone")]).unwrap())
    }

    async fn answering(&self, decky: &DeckyConfig) -> BTreeMap<ServiceName, String> {
        let running = self.running.lock().unwrap();
        let services = running.get(&decky.name).cloned().unwrap_or_default();
        services.into_iter().map(|(service, start)| (service, start.to_string())).collect()
    }

    async fn kill(&self, decky: &DeckyName, service: &ServiceName) -> bool {
        self.running.lock().unwrap().get_mut(decky).and_then(|services| services.remove(service)).is_some()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(VirtualClock::new())
    }
}

#[test]
fn the_toy_engine_conforms_while_nothing_is_wrong_with_it() {
    block_on(engines::check(&Toys::new(Fault::None))).unwrap();
}

#[test]
fn each_broken_engine_is_caught_by_the_case_meant_for_it() {
    use Fault::*;
    let cases = [
        (SaysYesAtOnce, "what succeeded is up"),
        (ForgetsADecky, "what succeeded is up"),
        (FailsTogether, "what can't come up has failed, and holds no other back"),
        (TouchesOthers, "deckies that a call is not about stay as they are"),
        (StartsAnew, "the same deploy again restarts nothing"),
        (TrustsItsMemory, "a deploy brings back what has died, and what runs is told"),
        (TellsTheDead, "a deploy brings back what has died, and what runs is told"),
        (KnowsStrangers, "an unknown decky has failed"),
        (KeepsOldServices, "a mutate gives the new services and takes the old"),
        (LosesServicesOnFailure, "a mutate that failed leaves the services from before"),
        (MissesWhatIsNotUp, "a teardown takes down, and that of nothing succeeds"),
        (LeavesAService, "a teardown takes down, and that of nothing succeeds"),
        (GoesByTheFleet, "a teardown goes by what is found of a decky that no fleet names"),
        (FindsItsOwnOnly, "a restarted master finds what runs"),
        (TellsOtherwise, "what is told early is what the report says"),
        (LosesOthersWork, "calls that need not wait for one another don't harm each other"),
        (CancelIsFailure, "what was cancelled before it began is not begun"),
        (CancelComesLate, "what was cancelled before it began is not begun"),
        (CancelLeavesAService, "what is cancelled on its way ends, and is what its outcome says"),
        (DroppedIsInTheWay, "a dropped call is mended by the next"),
        (DroppedTeardownIsInTheWay, "a dropped call is mended by the next"),
    ];
    let mut escaped = Vec::new();
    for (fault, case) in cases {
        let caught = match block_on(engines::check(&Toys::new(fault))) {
            Ok(()) => Vec::new(),
            Err(violations) => violations.0.iter().map(|violation| violation.case).collect(),
        };
        if !caught.contains(&case) {
            escaped.push(format!("{fault:?} was not caught by {case:?}, only by {caught:?}"));
        }
    }
    assert!(escaped.is_empty(), "{}", escaped.join("\n"));
}
