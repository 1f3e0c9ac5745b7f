//! The steps from pending: to running, or to failed.

use super::state::{Failed, Lifecycle, Pending, Running};
use super::{Failure, Phase, Timestamp, Transition};

impl Lifecycle<Pending> {
    /// The step to running. `deadline` is when the row counts as failed if
    /// nothing has ended it.
    pub fn start(self, at: Timestamp, deadline: Timestamp) -> Transition<Pending, Running> {
        let next = self.stepped(at, |_, since| Phase::Running { since, deadline: deadline.max(since) });
        Transition::new(self, next)
    }

    /// The step to failed, without ever having run.
    pub fn fail(self, failure: Failure, at: Timestamp) -> Transition<Pending, Failed> {
        let next = self.stepped(at, |_, at| Phase::Failed { since: None, at, failure });
        Transition::new(self, next)
    }
}
