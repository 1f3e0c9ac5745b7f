//! The clock, and the deadlines that are set and judged by it.

use std::sync::Arc;

use crate::clock::Clock;
use crate::lifecycle::{LifecycleId, Record, Revision, Status, Timestamp};

use super::Deadlines;
use super::clock_steps::ClockSteps;

/// Sets deadlines and says when they have passed, whatever the wall clock does
/// meanwhile.
#[derive(Debug)]
pub(crate) struct Time {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) deadlines: Deadlines,
    steps: ClockSteps,
}

impl Time {
    pub(crate) fn new(clock: Arc<dyn Clock>, deadlines: Deadlines) -> Self {
        Self { steps: ClockSteps::new(&*clock), clock, deadlines }
    }

    /// The time by which rows count as due; to be asked for also before a
    /// deadline is set, see [`ClockSteps`].
    pub(crate) fn due_time(&self) -> Timestamp {
        self.steps.due_time(&*self.clock, self.deadlines.longest())
    }

    /// The wall time to set a deadline from.
    pub(crate) fn deadline_base(&self) -> Timestamp {
        // Sees a step before it is too late to tell.
        self.due_time();
        self.clock.now()
    }

    pub(crate) fn has_stepped_back(&self) -> bool {
        self.steps.has_stepped_back()
    }

    pub(crate) fn looked_ahead(&self) {
        self.steps.looked_ahead();
    }

    pub(crate) fn note_ahead(&self, row: &Record) {
        let patience = match (row.status(), &row.host) {
            (Status::Pending, _) => self.deadlines.queue,
            (_, None) => self.deadlines.run,
            (_, Some(_)) => self.deadlines.remote_run(),
        };
        self.steps.note_ahead(&*self.clock, row, patience);
    }

    pub(crate) fn ahead_and_due(&self) -> Vec<(LifecycleId, Revision)> {
        self.steps.ahead_and_due(&*self.clock)
    }
}
