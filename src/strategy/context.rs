use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_lock::{Mutex as AsyncMutex, Semaphore};

use crate::agent::{Agents, HostDirectory};
use crate::clock::Clock;
use crate::engine::{Engine, Progress};
use crate::fleet_state::FleetState;
use crate::journal::Journal;
use crate::lifecycle::{HostId, Timestamp};

use super::clock_steps::ClockSteps;
use super::{Active, Heard};

/// How long a row may stay open, by where it is.
///
/// ```
/// use decnet_lifecycle::Deadlines;
/// use std::time::Duration;
///
/// let mut deadlines = Deadlines::default();
/// assert_eq!(deadlines.run, Duration::from_secs(30 * 60));
/// deadlines.run = Duration::from_secs(5 * 60);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deadlines {
    /// A pending row that nobody starts fails after this: 30 minutes.
    pub queue: Duration,
    /// An agent call without an answer is given up after this: 60 seconds.
    pub dispatch: Duration,
    /// A running row that nobody ends fails after this: 30 minutes.
    pub run: Duration,
    /// The running rows of a host that has not been heard for this long fail:
    /// 5 minutes, ten beats.
    pub silence: Duration,
    /// A row that its worker should know and has not named in its beats for
    /// this long fails: 90 seconds, three beats. Only for workers that name
    /// rows.
    pub unknown: Duration,
    /// How long an engine may take to stop once it was asked: 30 seconds.
    pub cancel: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            queue: Duration::from_secs(30 * 60),
            dispatch: Duration::from_secs(60),
            run: Duration::from_secs(30 * 60),
            silence: Duration::from_secs(5 * 60),
            unknown: Duration::from_secs(90),
            cancel: Duration::from_secs(30),
        }
    }
}

impl Deadlines {
    /// The longest that a row stays in one state.
    pub(crate) fn longest(&self) -> Duration {
        self.queue.max(self.remote_run())
    }

    /// From the commit of `running` to the deadline of a worker's row: two
    /// tries of the dispatch, and the run itself.
    pub(crate) fn remote_run(&self) -> Duration {
        self.run.saturating_add(self.dispatch.saturating_mul(2))
    }
}

/// Bounds on what a master does at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Agent calls under way at once, over all hosts: 128. Each host gets one
    /// at a time.
    pub dispatches: usize,
    /// Deltas taken in one go: 512, and no fewer, for a beat may hold as many.
    pub deltas: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { dispatches: 128, deltas: 512 }
    }
}

/// Everything that a strategy works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) journal: Journal,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) agents: Arc<dyn Agents>,
    pub(crate) hosts: Arc<dyn HostDirectory>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) progress: Arc<dyn Progress>,
    pub(crate) fleet_state: Arc<dyn FleetState>,
    pub(crate) deadlines: Deadlines,
    pub(crate) limits: Limits,
    pub(crate) active: Arc<Active>,
    pub(crate) heard: Heard,
    steps: ClockSteps,
    /// One engine call at a time: a compose project has one file.
    pub(crate) engine_gate: AsyncMutex<()>,
    /// One writer of the fleet's state at a time.
    pub(crate) state_gate: AsyncMutex<()>,
    pub(crate) dispatch_gate: Semaphore,
    host_gates: Mutex<BTreeMap<HostId, Arc<AsyncMutex<()>>>>,
}

/// What a [`Context`] is made of besides its own bookkeeping.
pub(crate) struct Parts {
    pub(crate) journal: Journal,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) agents: Arc<dyn Agents>,
    pub(crate) hosts: Arc<dyn HostDirectory>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) progress: Arc<dyn Progress>,
    pub(crate) fleet_state: Arc<dyn FleetState>,
    pub(crate) deadlines: Deadlines,
    pub(crate) limits: Limits,
}

impl Context {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            steps: ClockSteps::new(&*parts.clock),
            journal: parts.journal,
            engine: parts.engine,
            agents: parts.agents,
            hosts: parts.hosts,
            clock: parts.clock,
            progress: parts.progress,
            fleet_state: parts.fleet_state,
            deadlines: parts.deadlines,
            limits: parts.limits,
            active: Arc::default(),
            heard: Heard::default(),
            engine_gate: AsyncMutex::new(()),
            state_gate: AsyncMutex::new(()),
            dispatch_gate: Semaphore::new(parts.limits.dispatches.max(1)),
            host_gates: Mutex::default(),
        }
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

    /// The lock that keeps calls to one host one at a time.
    pub(crate) fn host_gate(&self, host: &HostId) -> Arc<AsyncMutex<()>> {
        let mut gates = self.host_gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        Arc::clone(gates.entry(host.clone()).or_default())
    }
}
