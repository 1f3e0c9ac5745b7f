//! What a simulated worker of the original's really runs, and has run.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::beat::{Kept, WorkerStatus};
use crate::fleet::DeckyRuntime;
use crate::lifecycle::{DeckyName, LifecycleId, ServiceName};

/// What a worker keeps, what runs of it, and since when.
#[derive(Debug, Default)]
pub(super) struct Shown {
    kept: BTreeMap<DeckyName, Vec<ServiceName>>,
    /// What ran of each decky from a time on.
    ran: BTreeMap<DeckyName, Vec<(Duration, Vec<ServiceName>)>>,
    /// When a row's call came.
    came: BTreeMap<LifecycleId, Duration>,
}

impl Shown {
    pub(super) fn came(&mut self, id: LifecycleId, at: Duration) {
        self.came.entry(id).or_insert(at);
    }

    pub(super) fn came_at(&self, id: LifecycleId) -> Option<Duration> {
        self.came.get(&id).copied()
    }

    /// All that is kept.
    pub(super) fn deckies(&self) -> Vec<DeckyName> {
        self.kept.keys().cloned().collect()
    }

    pub(super) fn keep(&mut self, decky: &DeckyName, services: Vec<ServiceName>) {
        self.kept.insert(decky.clone(), services);
    }

    pub(super) fn forget(&mut self, decky: &DeckyName) {
        self.kept.remove(decky);
    }

    /// From now on this runs of a decky.
    pub(super) fn run(&mut self, decky: &DeckyName, services: Vec<ServiceName>, at: Duration) {
        self.ran.entry(decky.clone()).or_default().push((at, services));
    }

    pub(super) fn status(&self) -> WorkerStatus {
        let running =
            |decky: &DeckyName| self.ran.get(decky).and_then(|ran| ran.last()).map(|(_, last)| last.clone());
        let runtime = self.kept.keys().map(|decky| {
            let services = running(decky).unwrap_or_default();
            let runtime = DeckyRuntime {
                running: !services.is_empty(),
                services: services
                    .iter()
                    .map(|service| (service.to_string(), "running".to_owned()))
                    .collect(),
            };
            (decky.clone(), runtime)
        });
        WorkerStatus {
            is_told: true,
            is_deployed: !self.kept.is_empty(),
            deckies: self
                .kept
                .iter()
                .map(|(decky, services)| (decky.clone(), Kept::serving(services.clone())))
                .collect(),
            runtime: runtime.collect(),
        }
    }

    /// Whether a decky ran so at some time since the row's call had come.
    pub(super) fn ran_since(&self, id: LifecycleId, decky: &DeckyName, services: &[ServiceName]) -> bool {
        let ran = self.ran.get(decky).into_iter().flatten();
        // A call that never came left what was there, as asked or not; by now a
        // later one may have changed that.
        let Some(came) = self.came.get(&id) else { return ran.into_iter().any(|(_, ran)| ran == services) };
        // What ran when it came counts too.
        let at_first = ran.clone().rfind(|(at, _)| at <= came);
        at_first.into_iter().chain(ran.filter(|(at, _)| at > came)).any(|(_, ran)| ran == services)
    }

    /// Since when nothing of a decky runs that did.
    pub(super) fn gone_since(&self, decky: &DeckyName) -> Option<Duration> {
        let (at, ran) = self.ran.get(decky)?.last()?;
        ran.is_empty().then_some(*at)
    }

    /// Since when a decky has run so without a break.
    pub(super) fn runs_since(&self, decky: &DeckyName, services: &[ServiceName]) -> Option<Duration> {
        let (at, ran) = self.ran.get(decky)?.last()?;
        (ran == services && self.kept.get(decky).is_some_and(|kept| kept == services)).then_some(*at)
    }
}
