//! The worker's half: takes dispatches, runs an engine, and says in its beats
//! how each ended, for as long as it takes until its master has heard it.
//!
//! A worker is a small master over its own store: what it takes becomes rows,
//! durable before the 202, and its local strategies drive them. The feed of
//! that store is the **outbox**: the end of a row and the delta that tells of
//! it are one commit, so that no crash comes between. Where the master has
//! heard the feed up to is kept beside it; losing that costs a resend, which
//! is harmless.
//!
//! ```
//! use std::sync::Arc;
//! use decnet_lifecycle::worker::{DeployDispatch, Worker};
//! use decnet_lifecycle::{HostId, beat::Beat, store::MemoryStore};
//! # use decnet_lifecycle::testkit::FakeEngine as MyEngine;
//!
//! # futures_lite::future::block_on(async {
//! let dir = tempfile::tempdir()?;
//! let store = Arc::new(MemoryStore::new()); // a RedbStore in earnest
//! let worker = Worker::builder(HostId::parse("w1")?, store, Arc::new(MyEngine::new()))
//!     .settled_file(dir.path().join("settled.json"))
//!     .build()?;
//! let (worker, _) = worker.recover().await?;
//!
//! let body = format!(r#"{{"config": {}, "dry_run": false, "no_cache": false}}"#,
//!                    include_str!("../../examples/fleet.json"));
//! let accepted = worker.deploy(DeployDispatch::from_json(body.as_bytes())?).await?; // answer 202
//! accepted.run().await; // or spawn it
//!
//! let beat = worker.beat().await?; // `Worker::beats` does this for as long as it runs
//! assert_eq!(Beat::from_json(beat.body().as_bytes())?.deltas.len(), 6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_lock::Mutex as AsyncMutex;

use crate::clock::{Clock, SystemClock};
use crate::engine::{Engine, NoProgress, Progress};
use crate::lifecycle::{HostId, LifecycleId};
use crate::master::Deadlines;
use crate::runner::{AcceptError, Accepted, BuildError, RecoverError, Recovered, Runner, Unrecovered};
use crate::store::{Store, StoreError};
use crate::strategy::{Ending, Strategies};

mod beats;
mod body;
mod dispatch;
#[cfg(feature = "https")]
mod https;
mod outbox;
mod status;
mod taking;

pub use beats::{BeatReply, Master, MasterError};
pub use body::OutgoingBeat;
pub use dispatch::{BodyError, BodyProblem, DeployDispatch, DryRun, MutateDispatch, TeardownDispatch};

#[cfg(feature = "https")]
pub use https::HttpsMaster;

use outbox::Outbox;

/// A worker: see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub struct Worker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    host: HostId,
    runner: Runner,
    store: Arc<dyn Store>,
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    outbox: Outbox,
    settings: Settings,
    /// One dispatch is taken at a time: two with one id must not both pass.
    taking: AsyncMutex<()>,
}

#[derive(Debug, Clone)]
struct Settings {
    version: String,
    compose_path: String,
    beat_every: Duration,
    keep_closed: Duration,
}

/// Puts a [`Worker`] together; see each method for what holds without it.
#[must_use]
pub struct WorkerBuilder {
    host: HostId,
    store: Arc<dyn Store>,
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    progress: Arc<dyn Progress>,
    deadlines: Deadlines,
    seed: Option<u64>,
    settled_file: Option<PathBuf>,
    settings: Settings,
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Worker {
    /// Starts to put a worker of this host together, over a store of its own
    /// and the engine that does the work.
    pub fn builder(host: HostId, store: Arc<dyn Store>, engine: Arc<dyn Engine>) -> WorkerBuilder {
        WorkerBuilder {
            host,
            store,
            engine,
            clock: Arc::new(SystemClock::new()),
            progress: Arc::new(NoProgress),
            deadlines: Deadlines::default(),
            seed: None,
            settled_file: None,
            settings: Settings {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                compose_path: String::new(),
                beat_every: Duration::from_secs(30),
                keep_closed: Duration::from_secs(7 * 86_400),
            },
        }
    }

    /// Takes a deploy: it is durable when this returns. An id that was taken
    /// before is not taken again; a newer operation on a decky takes over from
    /// the one that is open there. Of a dry run nothing is taken, and there is
    /// nothing to run.
    ///
    /// A dispatch that names rows adds to what is here. One that names none is
    /// all that is to be here, as for DECNET's agent: what it leaves out is
    /// taken down first, in rows of this worker's own.
    ///
    /// A server whose clients may hang up spawns this together with the work:
    /// what was taken and never run fails.
    ///
    /// # Errors
    /// [`AcceptError`]; nothing was taken.
    pub async fn deploy(&self, dispatch: DeployDispatch) -> Result<Accepted, AcceptError> {
        taking::deploy(&self.shared, dispatch).await
    }

    /// Takes a mutate, as [`Worker::deploy`] takes a deploy. One of a decky
    /// that the worker doesn't have is taken too, and fails; a dry run of it is
    /// refused as [`AcceptError::UnknownDecky`].
    ///
    /// # Errors
    /// [`AcceptError`]; nothing was taken.
    pub async fn mutate(&self, dispatch: MutateDispatch) -> Result<Accepted, AcceptError> {
        taking::mutate(&self.shared, dispatch).await
    }

    /// Takes a teardown, as [`Worker::deploy`] takes a deploy; of all deckies
    /// if it names none. It is done once its rows have ended.
    ///
    /// # Errors
    /// [`AcceptError`]; nothing was taken.
    pub async fn teardown(&self, dispatch: TeardownDispatch) -> Result<Accepted, AcceptError> {
        taking::teardown(&self.shared, dispatch).await
    }

    /// The answer to `GET /status`: what is deployed, and what really runs.
    pub async fn status(&self) -> serde_json::Value {
        status::status(&self.shared).await
    }

    /// The next beat: what has ended and isn't settled, which rows are known,
    /// what runs. Making one changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] if the rows or their feed can't be read.
    pub async fn beat(&self) -> Result<OutgoingBeat, StoreError> {
        body::beat(&self.shared).await
    }

    /// Takes the master's reply to a beat: what it told of is settled, and
    /// what the master wants stopped is asked to stop.
    ///
    /// # Errors
    /// [`StoreError`] if the intent to stop a row could not be kept.
    pub async fn settle(&self, beat: &OutgoingBeat, reply: &BeatReply) -> Result<(), StoreError> {
        beats::settle(&self.shared, beat, reply).await
    }

    /// Beats for as long as it is polled: regularly, at once when something
    /// has ended, and again with growing patience when the master can't be
    /// reached. Cancel-safe: what wasn't settled is told by the next beat.
    pub async fn beats(&self, master: &dyn Master) {
        beats::run(&self.shared, master).await;
    }

    /// The runner over the worker's own rows: to sweep ([`Runner::maintain`]),
    /// watch, list, and shut down.
    #[must_use]
    pub fn runner(&self) -> &Runner {
        &self.shared.runner
    }

    /// Whether the master named this row; one that it didn't name has an id
    /// that only this worker knows.
    #[must_use]
    pub fn is_named(id: LifecycleId) -> bool {
        !id.is_unnamed()
    }
}

impl WorkerBuilder {
    /// Where it is kept what the master has heard. Without: in memory, so that
    /// a restart tells all ends again that the store still has.
    pub fn settled_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settled_file = Some(path.into());
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

    /// How long operations may take here.
    pub const fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = deadlines;
        self
    }

    /// Seeds the randomness in ids, for tests that replay. Without: random.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// How often it beats when nothing happens. Without: every 30 seconds.
    pub const fn beat_every(mut self, interval: Duration) -> Self {
        self.settings.beat_every = interval;
        self
    }

    /// How long closed rows are kept once the master has heard all. Without:
    /// seven days. An id that is no longer kept would be taken again.
    pub const fn keep_closed(mut self, keep: Duration) -> Self {
        self.settings.keep_closed = keep;
        self
    }

    /// The version that beats tell. Without: this crate's.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.settings.version = version.into();
        self
    }

    /// Where the compose file lies, as the status tells. Without: nowhere.
    pub fn compose_path(mut self, path: impl Into<String>) -> Self {
        self.settings.compose_path = path.into();
        self
    }

    /// The worker.
    ///
    /// # Errors
    /// [`BuildError`] says which part can't be.
    pub fn build(self) -> Result<Unrecovered<Worker>, BuildError> {
        if self.settings.beat_every.is_zero() {
            return Err(BuildError::Zero("the time between beats"));
        }
        let mut runner = Runner::builder(Arc::clone(&self.store), Arc::clone(&self.engine))
            .clock(Arc::clone(&self.clock))
            .progress(self.progress)
            // What is known of a decky is told in the next beat.
            .strategies(Strategies::ending(Ending::AsReported))
            .deadlines(self.deadlines)
            .master(crate::lifecycle::MasterName::parse(self.host.as_str())?);
        if let Some(seed) = self.seed {
            runner = runner.seed(seed);
        }
        let shared = Shared {
            host: self.host,
            runner: runner.runner()?,
            store: self.store,
            engine: self.engine,
            clock: self.clock,
            outbox: Outbox::new(self.settled_file),
            settings: self.settings,
            taking: AsyncMutex::new(()),
        };
        Ok(Unrecovered { inner: Worker { shared: Arc::new(shared) } })
    }
}

impl Unrecovered<Worker> {
    /// Ends what an earlier start left running: how far it came is unknown, so
    /// it failed, and the next beat says so. Gives back what was taken and not
    /// begun: spawn that, as any taken work. If the future is dropped, build
    /// anew: nothing is lost.
    ///
    /// # Errors
    /// [`RecoverError`] if the open rows can't be read.
    pub async fn recover(self) -> Result<(Worker, Recovered), RecoverError<Worker>> {
        match self.inner.shared.runner.recover().await {
            Ok(recovered) => Ok((self.inner, recovered)),
            Err(error) => Err(RecoverError { again: self, error }),
        }
    }
}
