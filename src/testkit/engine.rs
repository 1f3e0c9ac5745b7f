//! A fake engine that does as it is told, and remembers what it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use event_listener::Event;

use crate::engine::{Engine, Report, Turns, Work};
use crate::fleet::{DeckyConfig, DeckyRuntime, FleetConfig};
use crate::lifecycle::{DeckyName, Failure, FailureKind, Operation, ServiceName};

/// What a [`FakeEngine`] does with a decky.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum EngineScript {
    /// Reports success.
    #[default]
    Succeed,
    /// Reports this failure.
    Fail(Failure),
    /// Notes these words, and fails with them.
    Say(String),
    /// Fails the whole call with this failure.
    FailAll(Failure),
    /// Waits this long on the injected clock, then reports success.
    Delay(Duration),
    /// Never ends, unless it is cancelled.
    Hang,
    /// Never ends, cancelled or not.
    HangStubbornly,
    /// Panics.
    Panic,
    /// Leaves the decky out of the report.
    Forget,
}

/// One call that a [`FakeEngine`] got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineCall {
    /// Which of the three.
    pub operation: Operation,
    /// What it was about, with the services that the fleet lists.
    pub deckies: BTreeMap<DeckyName, Vec<ServiceName>>,
    /// How many deckies the fleet had.
    pub fleet_size: usize,
}

/// An engine that does as it is told, and remembers what it was asked.
#[derive(Debug, Default)]
pub struct FakeEngine {
    scripts: Arc<Mutex<BTreeMap<DeckyName, EngineScript>>>,
    calls: Mutex<Vec<EngineCall>>,
    /// What runs: each decky's services, and whether each does.
    up: Arc<Mutex<BTreeMap<DeckyName, BTreeMap<ServiceName, bool>>>>,
    side_by_side: bool,
    changed: Arc<Event>,
}

impl FakeEngine {
    /// An engine that always succeeds.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An engine that takes calls about different deckies side by side, see
    /// [`Turns::OneCallPerDecky`].
    ///
    /// ```
    /// use decnet_lifecycle::{engine::{Engine as _, Turns}, testkit::FakeEngine};
    ///
    /// assert_eq!(FakeEngine::new().turns(), Turns::OneCall);
    /// assert_eq!(FakeEngine::side_by_side().turns(), Turns::OneCallPerDecky);
    /// ```
    #[must_use]
    pub fn side_by_side() -> Self {
        Self { side_by_side: true, ..Self::default() }
    }

    /// Another engine on the same machine, as a restarted master has one: with
    /// what runs there and how it is scripted, and no calls yet.
    #[must_use]
    pub fn restarted(&self) -> Self {
        Self {
            scripts: Arc::clone(&self.scripts),
            calls: Mutex::default(),
            up: Arc::clone(&self.up),
            side_by_side: self.side_by_side,
            changed: Arc::clone(&self.changed),
        }
    }

    /// From now on, this is what happens to the decky.
    pub fn script(&self, decky: &DeckyName, script: EngineScript) {
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner).insert(decky.clone(), script);
    }

    /// The calls so far, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<EngineCall> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn play(&self, operation: Operation, work: &Work) -> Result<Report, Failure> {
        let known = work.fleet.by_name();
        let services =
            |decky: &DeckyName| known.get(decky).map(|config| config.services.clone()).unwrap_or_default();
        let call = EngineCall {
            operation,
            deckies: work.deckies.keys().map(|decky| (decky.clone(), services(decky))).collect(),
            fleet_size: work.fleet.deckies.len(),
        };
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        let mut report = Report::new();
        let not_begun: BTreeMap<&DeckyName, Failure> = work
            .deckies
            .keys()
            .filter_map(|decky| Some((decky, not_begun(operation, work, decky)?)))
            .collect();
        for decky in work.deckies.keys() {
            if let Some(failure) = not_begun.get(decky) {
                report.failed(decky.clone(), failure.clone());
                continue;
            }
            let script = self.scripts.lock().unwrap_or_else(PoisonError::into_inner).get(decky).cloned();
            match script.unwrap_or_default() {
                EngineScript::Succeed => report.succeeded(decky.clone()),
                EngineScript::Fail(failure) => report.failed(decky.clone(), failure),
                EngineScript::Say(words) => {
                    work.note(decky, &words);
                    report.failed(decky.clone(), Failure::new(FailureKind::Engine, &words));
                }
                EngineScript::FailAll(failure) => return Err(failure),
                EngineScript::Delay(duration) => {
                    work.clock.sleep(duration).await;
                    report.succeeded(decky.clone());
                }
                EngineScript::Hang => {
                    work.cancelled(decky).await;
                    report
                        .failed(decky.clone(), Failure::new(FailureKind::Cancelled, "stopped when asked to"));
                }
                EngineScript::HangStubbornly => std::future::pending().await,
                EngineScript::Panic => std::panic::resume_unwind(Box::new("scripted panic")),
                EngineScript::Forget => continue,
            }
            let outcome = report.outcome(decky);
            if outcome.is_ok() {
                self.bring_about(operation, decky, known.get(decky).copied());
            }
            work.report(decky, &outcome);
        }
        Ok(report)
    }

    /// What has succeeded really runs, or is gone.
    fn bring_about(&self, operation: Operation, decky: &DeckyName, config: Option<&DeckyConfig>) {
        let mut up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
        match config.filter(|_| operation != Operation::Teardown) {
            Some(config) => {
                let services = config.services.iter().map(|service| (service.clone(), true)).collect();
                up.insert(decky.clone(), services);
            }
            None => drop(up.remove(decky)),
        }
    }

    /// Something else brings a decky up, that no row of anybody knows of.
    pub fn plant(&self, decky: &DeckyName, services: impl IntoIterator<Item = ServiceName>) {
        let services = services.into_iter().map(|service| (service, true)).collect();
        self.up.lock().unwrap_or_else(PoisonError::into_inner).insert(decky.clone(), services);
        self.changed.notify(usize::MAX);
    }

    /// A service dies.
    pub fn kill(&self, decky: &DeckyName, service: &ServiceName) {
        let mut up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runs) = up.get_mut(decky).and_then(|services| services.get_mut(service)) {
            *runs = false;
        }
        drop(up);
        self.changed.notify(usize::MAX);
    }

    /// A decky is gone, and no row of anybody says so: the machine was started
    /// anew, or somebody has removed it by hand.
    pub fn lose(&self, decky: &DeckyName) {
        self.up.lock().unwrap_or_else(PoisonError::into_inner).remove(decky);
        self.changed.notify(usize::MAX);
    }
}

#[async_trait]
impl Engine for FakeEngine {
    fn turns(&self) -> Turns {
        if self.side_by_side { Turns::OneCallPerDecky } else { Turns::OneCall }
    }

    async fn runtime(&self, fleet: &FleetConfig) -> Result<BTreeMap<DeckyName, DeckyRuntime>, Failure> {
        let mut found = self.found().await?;
        found.retain(|decky, _| fleet.decky(decky).is_some());
        Ok(found)
    }

    async fn found(&self) -> Result<BTreeMap<DeckyName, DeckyRuntime>, Failure> {
        let up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = |services: &BTreeMap<ServiceName, bool>| DeckyRuntime {
            running: services.values().all(|runs| *runs),
            services: services
                .iter()
                .map(|(service, runs)| {
                    (service.as_str().to_owned(), if *runs { "running" } else { "dead" }.to_owned())
                })
                .collect(),
        };
        Ok(up.iter().map(|(decky, services)| (decky.clone(), runtime(services))).collect())
    }

    async fn changed(&self) {
        self.changed.listen().await;
    }

    async fn deploy(&self, work: &Work) -> Result<Report, Failure> {
        self.play(Operation::Deploy, work).await
    }

    async fn mutate(&self, work: &Work) -> Result<Report, Failure> {
        self.play(Operation::Mutate, work).await
    }

    async fn teardown(&self, work: &Work) -> Result<Report, Failure> {
        self.play(Operation::Teardown, work).await
    }
}

/// Why an engine doesn't even begin with a decky.
fn not_begun(operation: Operation, work: &Work, decky: &DeckyName) -> Option<Failure> {
    if work.is_cancelled(decky) {
        return Some(Failure::new(FailureKind::Cancelled, "cancelled before it was begun"));
    }
    (operation != Operation::Teardown && work.fleet.decky(decky).is_none())
        .then(|| Failure::new(FailureKind::Engine, "the fleet has no such decky"))
}
