//! The face: accept, watch, wait, list, explain, cancel, sweep.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_lite::FutureExt;

use crate::beat::{Beat, BeatAnswer, Delta, Verdict, WorkerStatus};
use crate::fleet::{DeckyConfig, FleetConfig, Mode};
use crate::heartbeat;
use crate::journal::{InsertError, Inserted};
use crate::lifecycle::{
    DeckyName, HostId, LifecycleId, Operation, Owner, Phase, Record, Revision, Timestamp,
};
use crate::store::{Insert, KeyClaim, Page, Pruned, Query, Refusal, Retention, StoreError};
use crate::strategy::{self, Context, Job};
use crate::sweep::{self, Swept};

mod builder;
mod explain;
mod history;
mod ids;
mod request;
mod stop;
#[cfg(feature = "worker")]
mod take;
mod watch;

pub use builder::{BuildError, RunnerBuilder};
pub use explain::Explanation;
pub use history::{HistoryStep, history};
pub use request::{AcceptError, Accepted, DeployRequest, MutateRequest, TeardownRequest};
pub use stop::Cancelled;
#[cfg(feature = "worker")]
pub(crate) use take::Taking;
pub use watch::{Seen, Watch};

use explain::Liveness;
use ids::Ids;
use request::{Terms, claim};

/// Accepts work, drives it through the strategies, and answers questions
/// about it. Cheap to clone.
///
/// The runner spawns nothing: [`Accepted::run`] and [`Runner::maintain`] are
/// futures for the caller's runtime, whichever that is.
///
/// ```
/// use std::sync::Arc;
/// use decnet_lifecycle::{MemoryStore, Query, Runner};
/// # use decnet_lifecycle::testkit::FakeEngine;
///
/// # futures_lite::future::block_on(async {
/// let runner = Runner::builder(Arc::new(MemoryStore::new()), Arc::new(FakeEngine::new())).build()?;
/// runner.recover().await.unwrap();
/// assert!(runner.list(&Query::new()).await.unwrap().records.is_empty());
/// # Ok::<(), decnet_lifecycle::BuildError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Runner {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    context: Arc<Context>,
    owner: Owner,
    ids: Ids,
    maintenance: builder::Maintenance,
}

/// Numbers since the runner was built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Rows changed durably.
    pub steps: u64,
    /// Commits that changed at least one row.
    pub commits: u64,
    /// Steps refused because somebody else had changed the row.
    pub conflicts: u64,
    /// Commits that the store could not make, or is not sure of.
    pub store_errors: u64,
    /// Events that the bus dropped.
    pub events_dropped: u64,
    /// Rows that a future of this process drives now.
    pub active: usize,
}

impl Runner {
    /// Accepts a deploy: the rows are durable when this returns.
    ///
    /// # Errors
    /// [`AcceptError`]; no row was made.
    ///
    /// If the future is dropped, the rows may have been made all the same; the
    /// next sweep then fails them. A key makes it safe to ask again.
    pub async fn accept_deploy(&self, request: DeployRequest) -> Result<Accepted, AcceptError> {
        let DeployRequest { fleet, only, terms } = request;
        let deckies = only.unwrap_or_else(|| fleet.names().cloned().collect());
        self.fits(&fleet, &deckies)?;
        self.accept(Job::Deploy, Operation::Deploy, fleet, deckies, terms).await
    }

    /// Accepts a mutate: the row is durable when this returns.
    ///
    /// # Errors
    /// [`AcceptError`]; no row was made. Dropping: as for
    /// [`Runner::accept_deploy`].
    pub async fn accept_mutate(&self, request: MutateRequest) -> Result<Accepted, AcceptError> {
        let MutateRequest { fleet, decky, services, terms } = request;
        if fleet.decky(&decky).is_some() {
            let refused = |error| AcceptError::Services(Box::new(error));
            let mutated = fleet.with_services(&decky, services.clone()).map_err(refused)?;
            self.fits(&mutated, &BTreeSet::from([decky.clone()]))?;
        }
        let job = Job::Mutate { services };
        self.accept(job, Operation::Mutate, fleet, BTreeSet::from([decky]), terms).await
    }

    /// Accepts a teardown: the rows are durable when this returns.
    ///
    /// # Errors
    /// [`AcceptError`]; no row was made. Dropping: as for
    /// [`Runner::accept_deploy`].
    pub async fn accept_teardown(&self, request: TeardownRequest) -> Result<Accepted, AcceptError> {
        let TeardownRequest { fleet, deckies, terms } = request;
        self.accept(Job::Teardown, Operation::Teardown, fleet, deckies, terms).await
    }

    /// Whether the engine can work with those of the deckies that are the
    /// master's own.
    fn fits(&self, fleet: &FleetConfig, deckies: &BTreeSet<DeckyName>) -> Result<(), AcceptError> {
        let is_remote = |decky: &DeckyConfig| fleet.mode == Mode::Swarm && decky.host_uuid.is_some();
        if fleet.deckies.iter().any(|decky| deckies.contains(&decky.name) && !is_remote(decky)) {
            self.shared.context.engine.check(fleet).map_err(AcceptError::Unfit)?;
        }
        Ok(())
    }

    async fn accept(
        &self,
        job: Job,
        operation: Operation,
        fleet: FleetConfig,
        deckies: BTreeSet<DeckyName>,
        terms: Terms,
    ) -> Result<Accepted, AcceptError> {
        let context = &self.shared.context;
        if context.active.is_closing() {
            return Err(AcceptError::ShuttingDown);
        }
        if deckies.is_empty() {
            return Err(AcceptError::Empty);
        }
        let configs = fleet.by_name();
        if let Some(decky) = deckies.iter().find(|decky| !configs.contains_key(decky)) {
            let known = fleet.names().cloned().collect();
            return Err(AcceptError::UnknownDecky { decky: decky.clone(), known });
        }
        let services: &[_] = if let Job::Mutate { services } = &job { services } else { &[] };
        let asked = (operation == Operation::Deploy).then_some(&fleet);
        let key = claim(terms.key.as_ref(), operation.as_str(), asked, &deckies, services);
        let host_of = |decky| match fleet.mode {
            Mode::Swarm => configs.get(decky).and_then(|config| config.host_uuid.clone()),
            Mode::Unihost => None,
        };
        let now = context.deadline_base();
        let inserts: Vec<Insert> =
            deckies.iter().map(|decky| self.new_row(decky, host_of(decky), operation, now, &terms)).collect();
        drop(configs);
        // From here on a dropped future leaves its rows to the sweep.
        let guard = context.active.drive(inserts.iter().map(|insert| insert.record.id));
        match self.insert(inserts, key).await {
            Ok(Inserted::New { rows, superseded }) => {
                for id in &superseded {
                    context.active.cancel(*id);
                    context.heard.ended_anywhere(*id);
                }
                let ids = rows.iter().map(|row| (row.decky().clone(), row.id())).collect();
                let rows = rows.into_iter().map(|row| (row.decky().clone(), row)).collect();
                let work = strategy::run(Arc::clone(context), job, Arc::new(fleet), rows, guard);
                Ok(Accepted { ids, superseded, work: Some(Box::pin(work)) })
            }
            Ok(Inserted::Repeated(known)) => {
                guard.finish();
                let ids = deckies.into_iter().zip(known).collect();
                Ok(Accepted { ids, superseded: Vec::new(), work: None })
            }
            Err(error) => {
                // An insert of unknown fate may have left rows; the dropped
                // guard hands them to the sweep.
                if !matches!(&error, AcceptError::Store(error) if !error.is_unchanged()) {
                    guard.finish();
                }
                Err(error)
            }
        }
    }

    async fn insert(&self, inserts: Vec<Insert>, key: Option<KeyClaim>) -> Result<Inserted, AcceptError> {
        self.shared.context.journal.insert(inserts, key).await.map_err(|error| match error {
            InsertError::Store(error) => AcceptError::Store(error),
            InsertError::Refused(refusals) => why_refused(refusals),
        })
    }

    fn new_row(
        &self,
        decky: &DeckyName,
        host: Option<HostId>,
        operation: Operation,
        now: Timestamp,
        terms: &Terms,
    ) -> Insert {
        let context = &self.shared.context;
        let record = Record {
            id: self.shared.ids.next(now),
            decky: decky.clone(),
            host,
            operation,
            phase: Phase::Pending { deadline: now.plus(context.deadlines.queue) },
            owner: self.shared.owner.clone(),
            created_at: now,
            updated_at: now,
            cancel_requested_at: None,
            claimed_completion: None,
            key: terms.key.clone(),
            revision: Revision::ZERO,
        };
        Insert { record, overlap: terms.overlap }
    }

    /// Takes the deltas of one beat of a host, empty ones too: each beat is a
    /// sign of life. All that count end in one commit; there is a verdict for
    /// each, in order.
    ///
    /// `host` is who the caller has authenticated, never what a body says.
    /// Cancel-safe: what was not committed is sent again by the worker.
    ///
    /// # Errors
    /// [`StoreError`]: don't settle the beat, the worker sends it again.
    pub async fn apply_deltas(&self, host: &HostId, deltas: &[Delta]) -> Result<Vec<Verdict>, StoreError> {
        heartbeat::apply(&self.shared.context, host, deltas, &WorkerStatus::default()).await
    }

    /// Takes a whole beat of a host: its deltas as [`Runner::apply_deltas`]
    /// does, what runs there, and which rows it knows. A row that was handed
    /// to it and that it has not named for [`Deadlines::unknown`] fails as
    /// lost. Gives the answer for a worker that names rows.
    ///
    /// `host` is who the caller has authenticated, never what the body says.
    /// Dropping it loses no row's end: what was not committed is sent again by
    /// the worker. The fleet's state may then miss what was committed, so a
    /// server whose clients may hang up spawns it.
    ///
    /// # Errors
    /// [`StoreError`]: don't settle the beat, the worker sends it again.
    ///
    /// [`Deadlines::unknown`]: crate::Deadlines::unknown
    pub async fn take_beat(&self, host: &HostId, beat: &Beat) -> Result<BeatAnswer, StoreError> {
        heartbeat::take(&self.shared.context, host, beat).await
    }

    /// Ends what an earlier start of this master left open. Call it once,
    /// before the first accept. Rows that a worker is at work on stay.
    ///
    /// # Errors
    /// [`StoreError`] if the open rows can't be read; call it again.
    pub async fn recover(&self) -> Result<Swept, StoreError> {
        sweep::recover(&self.shared.context, &self.shared.owner).await
    }

    /// Fails rows past their deadline, rows whose future was dropped, and the
    /// running rows of hosts that fell silent. Costs as much as there is due.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if the due rows can't be read; the next sweep does.
    pub async fn sweep(&self) -> Result<Swept, StoreError> {
        sweep::sweep(&self.shared.context).await
    }

    /// Sweeps regularly, and prunes if the builder was told to, for as long
    /// as it is polled. Cancel-safe.
    pub async fn maintain(&self) {
        let context = &self.shared.context;
        loop {
            context.clock.sleep(self.shared.maintenance.sweep_every).await;
            if let Err(error) = self.sweep().await {
                log::error!(target: "decnet_lifecycle::sweep", error:% = error; "a sweep failed");
            }
            let Some(keep) = self.shared.maintenance.keep_closed else {
                continue;
            };
            let policy = Retention::closed_before(context.clock.now().minus(keep));
            if let Err(error) = self.prune(&policy).await {
                log::error!(target: "decnet_lifecycle::sweep", error:% = error; "a prune failed");
            }
        }
    }

    /// Removes closed rows and feed entries that the policy no longer wants,
    /// one bounded go; see [`Pruned::more`].
    ///
    /// # Errors
    /// [`StoreError`] as the store says.
    pub async fn prune(&self, policy: &Retention) -> Result<Pruned, StoreError> {
        self.shared.context.journal.store().prune(policy).await
    }

    /// The rows with these ids, oldest first; unknown ids are left out.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if the rows can't be read.
    pub async fn get(&self, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
        self.shared.context.journal.store().read(ids).await
    }

    /// One page of rows. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if the rows can't be read.
    pub async fn list(&self, query: &Query) -> Result<Page, StoreError> {
        self.shared.context.journal.store().query(query).await
    }

    /// The steps that a row has taken, oldest first; none if it is unknown.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if the row can't be read.
    pub async fn history(&self, id: LifecycleId) -> Result<Option<Vec<HistoryStep>>, StoreError> {
        Ok(self.get(&[id]).await?.pop().map(|record| history(&record)))
    }

    /// Why a row is where it is, in words; none if it is unknown. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if the row can't be read.
    pub async fn explain(&self, id: LifecycleId) -> Result<Option<Explanation>, StoreError> {
        let context = &self.shared.context;
        let record = self.get(&[id]).await?.pop();
        Ok(record.map(|record| {
            let stage = context.active.stage(id);
            let host = record.host.as_ref().map(|host| Liveness {
                silent_for: self.silent_for(host),
                runtime: context.heard.runtime(host, &record.decky),
                knows_row: !context.heard.is_missing(host, id),
            });
            Explanation::new(record, context.clock.now()).driven(stage).host(host)
        }))
    }

    /// Waits until all these rows have ended and gives them, oldest first;
    /// unknown ids are left out. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if the rows can't be read.
    pub async fn wait(&self, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
        let context = &self.shared.context;
        let waiter = context.journal.waiter(ids);
        loop {
            let woken = waiter.woken();
            let records = self.get(ids).await?;
            if records.iter().all(|record| !record.is_open()) {
                return Ok(records);
            }
            woken.or(context.clock.sleep(Duration::from_secs(1))).await;
        }
    }

    /// Follows the feed from after a revision; [`Revision::ZERO`] starts with
    /// the oldest change there is.
    #[must_use]
    pub fn watch(&self, after: Revision) -> Watch {
        let context = &self.shared.context;
        Watch::of_journal(context.journal.clone(), Arc::clone(&context.clock), after)
    }

    /// When a worker host was last heard; none if never since this start.
    #[must_use]
    pub fn silent_for(&self, host: &HostId) -> Option<Duration> {
        let context = &self.shared.context;
        context.heard.last(host).map(|at| context.clock.monotonic().saturating_sub(at))
    }

    /// Numbers since the runner was built.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let counts = self.shared.context.journal.counts();
        Counters {
            steps: counts.steps,
            commits: counts.commits,
            conflicts: counts.conflicts,
            store_errors: counts.store_errors,
            events_dropped: counts.events_dropped,
            active: self.shared.context.active.len(),
        }
    }
}

fn why_refused(refusals: Vec<Refusal>) -> AcceptError {
    let mut busy = BTreeMap::new();
    let mut other = None;
    for refusal in refusals {
        match refusal {
            Refusal::Busy { decky, open } => {
                busy.insert(decky, open);
            }
            Refusal::KeyTaken(key) => return AcceptError::KeyTaken(key),
            Refusal::Together => {}
            refusal => other = Some(format!("{refusal:?}")),
        }
    }
    match other {
        Some(other) if busy.is_empty() => AcceptError::Refused(other),
        _ => AcceptError::Busy(busy.into_iter().collect()),
    }
}
