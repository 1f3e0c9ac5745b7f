//! The engine: what really brings deckies up, changes them and takes them down.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::fleet::{DeckyRuntime, FleetConfig, Problems};
use crate::lifecycle::text::without_secrets;
use crate::lifecycle::{DeckyName, EngineName, Failure, FailureKind, LifecycleId, Secrets};

mod cancel;
#[cfg(all(feature = "compose", unix))]
pub mod compose;
mod logs;
#[cfg(all(feature = "process", unix))]
pub mod process;

pub use cancel::CancelToken;
pub use logs::{LogLine, LogQuery};

/// The most characters of a note.
const NOTE: usize = 500;

/// Brings deckies up, changes their services, takes them down.
///
/// One call is about [`Work::deckies`]; the rest of [`Work::fleet`] is context
/// and stays untouched. An engine answers with a [`Report`] that names each
/// decky, because `succeeded` needs positive evidence: a decky that the report
/// does not name counts as failed.
///
/// A call may be dropped at any await (deadline, shutdown); it must then leave
/// no process of its own behind. A panic is caught and fails the rows.
#[async_trait]
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// Its name, by which a decky is known to be this engine's: one that
    /// another engine brought up is refused before anything is done. Without a
    /// name nothing is compared.
    fn name(&self) -> Option<EngineName> {
        None
    }

    /// Which of its calls have to wait for one another. Two calls about one
    /// decky always do.
    fn turns(&self) -> Turns {
        Turns::OneCall
    }

    /// Whether the engine can work with this fleet at all; asked before a
    /// request is accepted, so it must be quick. Deckies of worker hosts are
    /// not its business.
    ///
    /// # Errors
    /// All that it can't work with, such as services it doesn't know.
    fn check(&self, fleet: &FleetConfig) -> Result<(), Problems> {
        let _ = fleet;
        Ok(())
    }

    /// What this engine knows that nobody may see: of its own settings, and of
    /// this fleet's. It is kept from rows, events, notes and the log, beside
    /// what the fleet's own settings call secret ([`Secrets::of`]).
    fn secrets(&self, fleet: &FleetConfig) -> Secrets {
        let _ = fleet;
        Secrets::default()
    }

    /// What really runs of this fleet; a worker tells it in its beats. It may
    /// leave out what it can't see.
    ///
    /// # Errors
    /// Why nothing can be seen now.
    async fn runtime(&self, fleet: &FleetConfig) -> Result<BTreeMap<DeckyName, DeckyRuntime>, Failure> {
        let _ = fleet;
        Ok(BTreeMap::new())
    }

    /// Every decky of which this engine finds something, whether a fleet names
    /// it or not; so that what nobody names any more is seen, and can be taken
    /// down. An engine that can't look finds nothing.
    ///
    /// # Errors
    /// Why nothing can be seen now.
    async fn found(&self) -> Result<BTreeMap<DeckyName, DeckyRuntime>, Failure> {
        Ok(BTreeMap::new())
    }

    /// Waits until what runs may have changed by itself, as when a service has
    /// died: whoever watches looks then, and not only every minute. An engine
    /// that can't tell waits for ever.
    async fn changed(&self) {
        std::future::pending().await
    }

    /// Tells what services have said: the last lines of each, oldest first, and
    /// then, if it is asked to follow, what they say from then on, for as long
    /// as the future is polled or there is something to follow. Bounded by the
    /// query; `hear` must return at once. Who asks sees to it that the words are
    /// fit to be shown ([`Runner::logs`](crate::Runner::logs)).
    ///
    /// # Errors
    /// Why there is nothing to be told.
    async fn logs(&self, query: &LogQuery, hear: &(dyn Fn(LogLine) + Send + Sync)) -> Result<(), Failure> {
        let _ = hear;
        Err(Failure::new(FailureKind::Engine, &format!("the engine of {} keeps no logs", query.decky)))
    }

    /// Brings the deckies up as the fleet describes them.
    ///
    /// # Errors
    /// One failure that holds for every decky of the call.
    async fn deploy(&self, work: &Work) -> Result<Report, Failure>;

    /// Gives the deckies the services that the fleet now lists for them. If it
    /// fails, the services from before should still be there.
    ///
    /// # Errors
    /// One failure that holds for every decky of the call.
    async fn mutate(&self, work: &Work) -> Result<Report, Failure>;

    /// Takes the deckies down. A decky that isn't up counts as taken down; one
    /// that the fleet doesn't name goes by what is found of it.
    ///
    /// # Errors
    /// One failure that holds for every decky of the call.
    async fn teardown(&self, work: &Work) -> Result<Report, Failure>;
}

/// Which calls of an engine have to wait for one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Turns {
    /// All: each call works on something that they share, as a compose project
    /// and its file. [`Work::fleet`] holds all that is up when a call begins.
    OneCall,
    /// Only calls about the same decky. Others may go on at the same time, and
    /// [`Work::fleet`] may lack what they are bringing up.
    OneCallPerDecky,
}

/// What an engine call is about.
#[derive(Debug, Clone)]
pub struct Work {
    /// The whole fleet as it shall be; on a mutate with the new services.
    pub fleet: Arc<FleetConfig>,
    /// The deckies to work on, with the lifecycle and the cancel token of each.
    pub deckies: BTreeMap<DeckyName, Task>,
    /// Time, injected: engines wait only through it.
    pub clock: Arc<dyn Clock>,
    /// Who is told of progress.
    pub progress: Arc<dyn Progress>,
}

/// One decky of a call.
#[derive(Debug, Clone)]
pub struct Task {
    /// The row that tracks it.
    pub id: LifecycleId,
    /// Raised when somebody asks for it to stop.
    pub cancel: CancelToken,
}

impl Work {
    /// Whether this decky's operation was asked to stop.
    #[must_use]
    pub fn is_cancelled(&self, decky: &DeckyName) -> bool {
        self.deckies.get(decky).is_some_and(|task| task.cancel.is_cancelled())
    }

    /// Waits until this decky's operation is asked to stop; for a decky that
    /// the work does not name, for ever.
    pub async fn cancelled(&self, decky: &DeckyName) {
        match self.deckies.get(decky) {
            Some(task) => task.cancel.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Tells how a decky is coming along, in a few words. Words of a tool may
    /// be among them: they are made fit to be shown, and what is written like a
    /// secret is taken out.
    pub fn note(&self, decky: &DeckyName, text: &str) {
        self.progress.note(decky, &without_secrets(text, NOTE));
    }

    /// Tells how a decky has ended as soon as that is certain, while others of
    /// the call are still under way. The report of the call says it again; what
    /// it says of a decky that was told of already counts for nothing.
    pub fn report(&self, decky: &DeckyName, outcome: &Result<(), Failure>) {
        self.progress.ended(decky, outcome);
    }
}

/// Hears how deckies are coming along. Must return at once.
pub trait Progress: fmt::Debug + Send + Sync + 'static {
    /// A few words on one decky.
    fn note(&self, decky: &DeckyName, text: &str);

    /// How a decky has ended, told before the call that it is of has.
    fn ended(&self, decky: &DeckyName, outcome: &Result<(), Failure>) {
        let _ = (decky, outcome);
    }
}

/// Progress that nobody listens to.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn note(&self, _decky: &DeckyName, _text: &str) {}
}

/// How a call ended, decky by decky.
///
/// ```
/// use decnet_lifecycle::{DeckyName, Failure, FailureKind, engine::Report};
///
/// let (up, down, forgotten) = (DeckyName::parse("up")?, DeckyName::parse("down")?, DeckyName::parse("x")?);
/// let mut report = Report::new();
/// report.succeeded(up.clone());
/// report.failed(down.clone(), Failure::new(FailureKind::Engine, "port 22 is in use"));
/// assert!(report.outcome(&up).is_ok());
/// assert!(report.outcome(&down).is_err());
/// assert_eq!(report.outcome(&forgotten).unwrap_err().kind(), FailureKind::Engine);
/// # Ok::<(), decnet_lifecycle::lifecycle::NameError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    outcomes: BTreeMap<DeckyName, Result<(), Failure>>,
}

impl Report {
    /// A report that names no decky yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// There is evidence that this decky is as asked.
    pub fn succeeded(&mut self, decky: DeckyName) {
        self.outcomes.insert(decky, Ok(()));
    }

    /// This decky is not as asked.
    pub fn failed(&mut self, decky: DeckyName, failure: Failure) {
        self.outcomes.insert(decky, Err(failure));
    }

    /// How it ended for this decky; a decky that was never named failed.
    ///
    /// # Errors
    /// Why it failed.
    pub fn outcome(&self, decky: &DeckyName) -> Result<(), Failure> {
        self.outcomes.get(decky).cloned().unwrap_or_else(|| {
            Err(Failure::new(FailureKind::Engine, "unverified: the engine's report does not name this decky"))
        })
    }
}
