//! Puts a runner together.

use std::sync::Arc;
use std::time::Duration;

use crate::agent::{Agents, HostDirectory, NoSwarm};
use crate::bus::{Bus, NullBus};
use crate::clock::{Clock, SystemClock};
use crate::engine::{Engine, NoProgress, Progress};
use crate::lifecycle::{MasterName, NameError, Owner};
use crate::master::{Deadlines, Limits, Local, Master, Swarm, Time};
use crate::store::Store;
use crate::strategy::Strategies;

use super::spawn::{BoxWork, Spawner};
use super::{Ids, Runner, Shared, Unrecovered};

/// How often a runner sweeps, and what it prunes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Maintenance {
    pub(super) sweep_every: Duration,
    pub(super) keep_closed: Option<Duration>,
}

/// Puts a [`Runner`] together; see each method for what holds without it.
#[derive(Debug)]
#[must_use]
pub struct RunnerBuilder {
    store: Arc<dyn Store>,
    engine: Arc<dyn Engine>,
    bus: Arc<dyn Bus>,
    agents: Arc<dyn Agents>,
    hosts: Arc<dyn HostDirectory>,
    clock: Arc<dyn Clock>,
    progress: Arc<dyn Progress>,
    deadlines: Deadlines,
    limits: Limits,
    strategies: Strategies,
    spawner: Option<Spawner>,
    master: Option<MasterName>,
    seed: Option<u64>,
    maintenance: Maintenance,
}

/// A runner can't be built from these parts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The default name of the master was refused.
    #[error("the master has no usable name: {0}")]
    Name(NameError),
    /// A duration that must be longer than zero is zero.
    #[error("{0} is zero; give it a positive duration")]
    Zero(&'static str),
}

impl Runner {
    /// Starts to put a runner together over a store and an engine.
    pub fn builder(store: Arc<dyn Store>, engine: Arc<dyn Engine>) -> RunnerBuilder {
        RunnerBuilder {
            store,
            engine,
            bus: Arc::new(NullBus),
            agents: Arc::new(NoSwarm),
            hosts: Arc::new(NoSwarm),
            clock: Arc::new(SystemClock::new()),
            progress: Arc::new(NoProgress),
            deadlines: Deadlines::default(),
            limits: Limits::default(),
            strategies: Strategies::default(),
            spawner: None,
            master: None,
            seed: None,
            maintenance: Maintenance { sweep_every: Duration::from_secs(15), keep_closed: None },
        }
    }
}

impl RunnerBuilder {
    /// Who is told of committed changes. Without: nobody.
    pub fn bus(mut self, bus: Arc<dyn Bus>) -> Self {
        self.bus = bus;
        self
    }

    /// How workers' agents are called, and where they are. Without: every
    /// dispatch fails and says so.
    pub fn swarm(mut self, agents: Arc<dyn Agents>, hosts: Arc<dyn HostDirectory>) -> Self {
        self.agents = agents;
        self.hosts = hosts;
        self
    }

    /// Time. Without: the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Who hears how deckies are coming along. Without: nobody.
    pub fn progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// How long rows may stay open.
    pub const fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = deadlines;
        self
    }

    /// What is done at once.
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Which strategy is taken for what. Without: the built-in ones.
    pub fn strategies(mut self, strategies: Strategies) -> Self {
        self.strategies = strategies;
        self
    }

    /// How work is spawned on the caller's runtime, for [`Runner::deploy`] and
    /// the like. Without: the caller spawns what [`Accepted::run`] gives.
    ///
    /// [`Accepted::run`]: super::Accepted::run
    pub fn spawner(mut self, spawn: impl Fn(BoxWork) + Send + Sync + 'static) -> Self {
        self.spawner = Some(Spawner(Arc::new(spawn)));
        self
    }

    /// The master's name, the same at every start. Without: `master`.
    pub fn master(mut self, name: MasterName) -> Self {
        self.master = Some(name);
        self
    }

    /// Seeds the randomness in ids, for tests that replay. Without: random.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// How often [`Runner::maintain`] sweeps. Without: every 15 seconds.
    pub const fn sweep_every(mut self, interval: Duration) -> Self {
        self.maintenance.sweep_every = interval;
        self
    }

    /// How long [`Runner::maintain`] keeps closed rows. Without: for ever.
    pub const fn keep_closed(mut self, keep: Duration) -> Self {
        self.maintenance.keep_closed = Some(keep);
        self
    }

    /// The runner, once it has [recovered](Unrecovered::recover).
    ///
    /// # Errors
    /// [`BuildError`] says which part can't be.
    pub fn build(self) -> Result<Unrecovered, BuildError> {
        self.runner().map(|inner| Unrecovered { inner })
    }

    pub(crate) fn runner(self) -> Result<Runner, BuildError> {
        let deadlines = self.deadlines;
        for (name, duration) in [
            ("the queue deadline", deadlines.queue),
            ("the dispatch deadline", deadlines.dispatch),
            ("the run deadline", deadlines.run),
            ("the silence deadline", deadlines.silence),
            ("the sweep interval", self.maintenance.sweep_every),
        ] {
            if duration.is_zero() {
                return Err(BuildError::Zero(name));
            }
        }
        let master = match self.master {
            Some(name) => name,
            None => MasterName::parse("master")?,
        };
        let ids = Ids::new(self.seed);
        let owner = Owner { master: master.clone(), epoch: ids.epoch() };
        let built = Master::new(
            master,
            (self.store, self.bus),
            Time::new(self.clock, deadlines),
            Local::new(self.engine, self.progress),
            Swarm::new(self.agents, self.hosts, self.limits),
        );
        let shared = Shared {
            master: Arc::new(built),
            strategies: Arc::new(self.strategies),
            spawner: self.spawner,
            owner,
            ids,
            maintenance: self.maintenance,
            drifting: Default::default(),
            patients: Default::default(),
            heals: Default::default(),
        };
        Ok(Runner { shared: Arc::new(shared) })
    }
}

impl From<NameError> for BuildError {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}
