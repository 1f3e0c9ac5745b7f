//! The steps from running: to succeeded, to failed, or over to a worker.

use super::state::{Failed, Lifecycle, Running, Succeeded};
use super::{Failure, LifecycleId, Phase, Timestamp, Transition};

impl Lifecycle<Running> {
    /// When it was started.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.record().running_since().unwrap_or_else(|| self.created_at())
    }

    /// The step to succeeded. Take it only on positive evidence: the engine's
    /// own word, or the worker's.
    pub fn succeed(self, at: Timestamp) -> Transition<Running, Succeeded> {
        let since = self.since();
        let next = self.stepped(at, |_, at| Phase::Succeeded { since, at });
        Transition::new(self, next)
    }

    /// The step to failed.
    pub fn fail(self, failure: Failure, at: Timestamp) -> Transition<Running, Failed> {
        let since = self.since();
        let next = self.stepped(at, |_, at| Phase::Failed { since: Some(since), at, failure });
        Transition::new(self, next)
    }

    /// Leaves the running row to the worker that now has the work; its deltas
    /// or the deadline end it.
    pub fn hand_over(self) -> LifecycleId {
        self.into_record().id
    }
}
