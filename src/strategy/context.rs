//! Everything that strategies, heartbeat, sweep and runner share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_lock::{Mutex as AsyncMutex, Semaphore};

use crate::agent::{Agents, HostDirectory};
use crate::bus::Bus;
use crate::clock::Clock;
use crate::discretion::{Discreet, Discretion};
use crate::engine::{Engine, Progress};
use crate::journal::{Journal, Observer};
use crate::lifecycle::{
    Failure, FailureKind, HostId, LifecycleId, MasterName, Record, Revision, Status, Timestamp,
};
use crate::placement::{Home, Placement};
use crate::store::{PlacementQuery, Store};

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
    pub(crate) deadlines: Deadlines,
    pub(crate) limits: Limits,
    pub(crate) master: MasterName,
    pub(crate) active: Arc<Active>,
    pub(crate) heard: Arc<Heard>,
    pub(crate) discretion: Arc<Discretion>,
    steps: ClockSteps,
    /// One engine call at a time: a compose project has one file.
    pub(crate) engine_gate: AsyncMutex<()>,
    pub(crate) dispatch_gate: Semaphore,
    host_gates: Mutex<BTreeMap<HostId, Arc<AsyncMutex<()>>>>,
}

/// What a [`Context`] is made of besides its own bookkeeping.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) master: MasterName,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) agents: Arc<dyn Agents>,
    pub(crate) hosts: Arc<dyn HostDirectory>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) progress: Arc<dyn Progress>,
    pub(crate) deadlines: Deadlines,
    pub(crate) limits: Limits,
}

impl Context {
    pub(crate) fn new(parts: Parts) -> Self {
        let (active, heard) = (Arc::<Active>::default(), Arc::<Heard>::default());
        let told = Told { active: Arc::clone(&active), heard: Arc::clone(&heard) };
        let discretion = Arc::new(Discretion::new(Arc::clone(&parts.engine)));
        Self {
            steps: ClockSteps::new(&*parts.clock),
            journal: Journal::observed(
                parts.store,
                parts.bus,
                Some(Arc::new(told)),
                Some(Arc::clone(&discretion)),
            ),
            master: parts.master,
            active,
            heard,
            engine: parts.engine,
            agents: parts.agents,
            hosts: parts.hosts,
            clock: parts.clock,
            progress: Arc::new(Discreet::new(parts.progress, Arc::clone(&discretion))),
            discretion,
            deadlines: parts.deadlines,
            limits: parts.limits,
            engine_gate: AsyncMutex::new(()),
            dispatch_gate: Semaphore::new(parts.limits.dispatches.max(1)),
            host_gates: Mutex::default(),
        }
    }

    /// The time by which rows count as due; to be asked for also before a
    /// deadline is set, see [`ClockSteps`].
    pub(crate) fn due_time(&self) -> Timestamp {
        self.steps.due_time(&*self.clock, self.deadlines.longest())
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

    /// The wall time to set a deadline from.
    pub(crate) fn deadline_base(&self) -> Timestamp {
        // Sees a step before it is too late to tell.
        self.due_time();
        self.clock.now()
    }

    /// This master, as the home of its own deckies.
    pub(crate) fn home(&self) -> Home {
        Home::Master(self.master.clone())
    }

    /// Placements, or why the work can't be begun.
    pub(crate) async fn placements(&self, query: &PlacementQuery) -> Result<Vec<Placement>, Failure> {
        let read = self.journal.store().placements(query).await;
        read.map_err(|error| Failure::new(FailureKind::Store, &format!("not begun: {error}")))
    }

    /// The lock that keeps calls to one host one at a time.
    pub(crate) fn host_gate(&self, host: &HostId) -> Arc<AsyncMutex<()>> {
        let mut gates = self.host_gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        Arc::clone(gates.entry(host.clone()).or_default())
    }
}

/// Hears of every change of a row, in one place, so that no path forgets it.
#[derive(Debug)]
struct Told {
    active: Arc<Active>,
    heard: Arc<Heard>,
}

impl Observer for Told {
    fn changed(&self, row: &Record) {
        self.heard.changed(row);
        // Asked to stop, or ended by somebody else: whoever drives it stops.
        if row.cancel_requested_at.is_some() || !row.is_open() {
            self.active.cancel(row.id);
        }
    }
}
