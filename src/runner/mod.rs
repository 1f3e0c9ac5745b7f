//! The face: accept, watch, wait, list, explain, cancel, sweep.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::FutureExt;

use crate::beat::{Beat, BeatAnswer, Delta, Verdict};
use crate::heartbeat;
use crate::journal::Journal;
use crate::lifecycle::{DeckyName, HostId, LifecycleId, Owner, Record, Revision, Secrets};
use crate::master::Master;
use crate::store::{self, Page, Pruned, Query, Retention, StoreError, StoreHealth};
use crate::strategy::Strategies;
use crate::sweep;

mod accept;
mod backoff;
mod builder;
mod deckies;
mod drift;
mod enlist;
mod explain;
mod heal;
mod history;
mod ids;
mod logs;
mod recover;
mod request;
mod spawn;
mod stop;
#[cfg(feature = "worker")]
mod take;
mod watch;

pub use backoff::{Backoff, Healing};
pub use builder::{BuildError, RunnerBuilder};
pub use deckies::{DeckyStatus, Health};
pub use drift::Drift;
pub use enlist::{Enlisted, Prepared, StartError};
pub use explain::Explanation;
pub use heal::Restored;
pub use history::{HistoryStep, history};
pub use recover::{RecoverError, Recovered, Unrecovered};
pub use request::{AcceptError, Accepted, DeployRequest, MutateRequest, TeardownRequest};
pub use spawn::{BoxWork, Underway};
pub use stop::Cancelled;
#[cfg(feature = "worker")]
pub(crate) use take::Taking;
pub use watch::{Seen, Watch};

pub use crate::master::{Deadlines, Limits};
pub use crate::sweep::Swept;

use explain::Liveness;
use ids::Ids;

/// Accepts work, drives it through the strategies, and answers questions
/// about it. Cheap to clone.
///
/// The runner spawns nothing: [`Accepted::run`] and [`Runner::maintain`] are
/// futures for the caller's runtime, whichever that is.
///
/// ```
/// use std::sync::Arc;
/// use decnet_lifecycle::{Runner, store::{MemoryStore, Query}};
/// # use decnet_lifecycle::testkit::FakeEngine;
///
/// # futures_lite::future::block_on(async {
/// let (runner, _) = Runner::builder(Arc::new(MemoryStore::new()), Arc::new(FakeEngine::new()))
///     .build()?
///     .recover()
///     .await?;
/// assert!(runner.list(&Query::new()).await?.records.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Runner {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    master: Arc<Master>,
    strategies: Arc<Strategies>,
    spawner: Option<spawn::Spawner>,
    owner: Owner,
    ids: Ids,
    maintenance: builder::Maintenance,
    drifting: drift::Drifting,
    /// Deckies that are brought back, by the back-off.
    patients: Mutex<BTreeMap<DeckyName, heal::Patient>>,
    heals: AtomicU64,
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
    /// Deckies that did not run as they are placed at the last look, or ran and
    /// were not placed; see [`Runner::drift`].
    pub drifted: usize,
    /// How often a decky was seen to begin to drift.
    pub drifts: u64,
    /// Rows that were made to bring deckies back; see [`Runner::heal`].
    pub heals: u64,
}

/// The store is gone for good, and nobody looks after open rows any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store is gone: {why}; put it back, or start anew without it")]
#[must_use]
#[non_exhaustive]
pub struct StoreGone {
    /// What became of it.
    pub why: String,
}

impl Runner {
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
        heartbeat::apply(&self.shared.master, host, deltas, None).await
    }

    /// Takes a whole beat of a host: its deltas as [`Runner::apply_deltas`]
    /// does, what runs there, and which rows it knows. A row that was handed
    /// to it and that it has not named for [`Deadlines::unknown`] fails as
    /// lost. Of a worker that names no rows, what its beats show ends rows too:
    /// a lost word locks no decky out. Gives the answer for a worker that names
    /// rows.
    ///
    /// `host` is who the caller has authenticated, never what the body says.
    /// Cancel-safe: what was not committed is sent again by the worker.
    ///
    /// # Errors
    /// [`StoreError`]: don't settle the beat, the worker sends it again.
    ///
    /// [`Deadlines::unknown`]: crate::runner::Deadlines::unknown
    pub async fn take_beat(&self, host: &HostId, beat: &Beat) -> Result<BeatAnswer, StoreError> {
        heartbeat::take(&self.shared.master, host, beat).await
    }

    /// Fails rows past their deadline, rows whose future was dropped, and the
    /// running rows of hosts that fell silent. Costs as much as there is due.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if the due rows can't be read; the next sweep does.
    pub async fn sweep(&self) -> Result<Swept, StoreError> {
        sweep::sweep(&self.shared.master).await
    }

    /// Sweeps regularly, and prunes if the builder was told to, for as long
    /// as it is polled and the store is there. Cancel-safe.
    ///
    /// It ends once the store is [gone](StoreHealth::Gone), and says so: open
    /// rows stay open from then on, and a program that goes on as if they
    /// didn't tells its callers untrue things. A store that fails for now is
    /// waited for.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use decnet_lifecycle::{Runner, store::MemoryStore, testkit::FakeEngine};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (store, engine) = (Arc::new(MemoryStore::new()), Arc::new(FakeEngine::new()));
    /// # let (runner, _) = Runner::builder(store, engine).build()?.recover().await?;
    /// # let serving = async {};
    /// tokio::select! {
    ///     () = serving => {}
    ///     gone = runner.maintain() => return Err(gone.into()),
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn maintain(&self) -> StoreGone {
        let master = &self.shared.master;
        let every = self.shared.maintenance.sweep_every;
        // Also a pause in the middle of a sweep or a prune is seen: by the next
        // look.
        let mut looked = master.time.clock.monotonic();
        loop {
            if let StoreHealth::Gone { why } = master.journal.store().health() {
                log::error!(target: "decnet_lifecycle::sweep", why:% = why; "the store is gone; nobody looks after open rows any more");
                return StoreGone { why };
            }
            master.time.clock.sleep(every).await;
            let now = master.time.clock.monotonic();
            let since = now.saturating_sub(std::mem::replace(&mut looked, now));
            // A master that was paused could not hear anybody.
            if since > every.saturating_mul(2) {
                log::warn!(target: "decnet_lifecycle::sweep", seconds = since.as_secs(); "this master was paused; every host has its whole silence anew");
                master.swarm.heard.fresh_grace(now);
            }
            if let Err(error) = sweep::sweep_at(master, now).await {
                log::error!(target: "decnet_lifecycle::sweep", error:% = error; "a sweep failed");
            }
            let Some(keep) = self.shared.maintenance.keep_closed else {
                continue;
            };
            let policy = Retention::closed_before(master.time.clock.now().minus(keep));
            loop {
                match self.prune(&policy).await {
                    Ok(Pruned { more: true, .. }) => futures_lite::future::yield_now().await,
                    Ok(_) => break,
                    Err(error) => {
                        log::error!(target: "decnet_lifecycle::sweep", error:% = error; "a prune failed");
                        break;
                    }
                }
            }
        }
    }

    /// Removes closed rows and feed entries that the policy no longer wants,
    /// one bounded go; see [`Pruned::more`].
    ///
    /// # Errors
    /// [`StoreError`] as the store says.
    pub async fn prune(&self, policy: &Retention) -> Result<Pruned, StoreError> {
        self.shared.master.journal.store().prune(policy).await
    }

    /// The rows with these ids, oldest first; unknown ids are left out.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if the rows can't be read.
    pub async fn get(&self, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
        self.shared.master.journal.store().read(ids).await
    }

    /// One page of rows. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if the rows can't be read.
    pub async fn list(&self, query: &Query) -> Result<Page, StoreError> {
        self.shared.master.journal.store().query(query).await
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
        let master = &self.shared.master;
        let record = self.get(&[id]).await?.pop();
        Ok(record.map(|record| {
            let stage = master.active.stage(id);
            let host = record.host.as_ref().map(|host| Liveness {
                silent_for: self.silent_for(host),
                runtime: master.swarm.heard.runtime(host, &record.decky),
                knows_row: !master.swarm.heard.is_missing(host, id),
                doubt: master.swarm.heard.doubt(host, id, master.time.clock.monotonic()),
            });
            Explanation::new(record, master.time.clock.now()).driven(stage).host(host)
        }))
    }

    /// Waits until all these rows have ended and gives them, oldest first;
    /// unknown ids are left out. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if the rows can't be read.
    pub async fn wait(&self, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
        let master = &self.shared.master;
        let waiter = master.journal.waiter(ids);
        loop {
            let woken = waiter.woken();
            let records = self.get(ids).await?;
            if records.iter().all(|record| !record.is_open()) {
                return Ok(records);
            }
            woken.or(master.time.clock.sleep(Duration::from_secs(1))).await;
        }
    }

    /// Follows the feed from after a revision; [`Revision::ZERO`] starts with
    /// the oldest change there is.
    #[must_use]
    pub fn watch(&self, after: Revision) -> Watch {
        let master = &self.shared.master;
        Watch::of_journal(master.journal.clone(), Arc::clone(&master.time.clock), after)
    }

    /// Follows the feed from now on. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if the feed can't be read.
    pub async fn watch_from_now(&self) -> Result<Watch, StoreError> {
        Ok(self.watch(self.head().await?))
    }

    /// For how long a worker host has not been heard; none if never since this
    /// start.
    #[must_use]
    pub fn silent_for(&self, host: &HostId) -> Option<Duration> {
        let master = &self.shared.master;
        master.swarm.heard.last(host).map(|at| master.time.clock.monotonic().saturating_sub(at))
    }

    /// What this master knows to be secret: of every decky that is placed or
    /// was asked for, and of its engine. It stands in no row, event, note or log
    /// record of the master's; pass through [`Secrets::hide`] whatever else is
    /// told of its work.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// use decnet_lifecycle::{DeployRequest, FleetConfig, Runner, store::MemoryStore};
    /// # use decnet_lifecycle::testkit::FakeEngine as MyEngine;
    ///
    /// # futures_lite::future::block_on(async {
    /// # let (store, engine) = (Arc::new(MemoryStore::new()), Arc::new(MyEngine::new()));
    /// let (runner, _) = Runner::builder(store, engine).build()?.recover().await?;
    /// let fleet = br#"{"mode": "unihost", "interface": "eth0", "subnet": "192.0.2.0/24", "gateway": "192.0.2.1",
    ///   "deckies": [{"name": "decky-01", "ip": "192.0.2.10", "services": ["ssh"], "distro": "debian",
    ///                "base_image": "debian:12", "hostname": "srv-1",
    ///                "service_config": {"ssh": {"root_password": "toor-2026"}}}]}"#;
    /// runner.accept_deploy(DeployRequest::new(FleetConfig::from_json(fleet)?)).await?;
    /// assert_eq!(runner.secrets().hide("chpasswd: toor-2026"), "chpasswd: [scrubbed]");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn secrets(&self) -> Secrets {
        self.shared.master.discretion.secrets()
    }

    /// The newest revision of the store: [`Runner::watch`] from here sees what
    /// comes from now on. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if the feed can't be read.
    pub async fn head(&self) -> Result<Revision, StoreError> {
        store::head(self.shared.master.journal.store()).await
    }

    /// The journal that all of this runner's commits go through: what is
    /// committed with it wakes whoever waits here. For rows that the caller
    /// drives itself, see [`Accepted::into_rows`].
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.shared.master.journal
    }

    /// Numbers since the runner was built.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let counts = self.shared.master.journal.counts();
        let (drifted, drifts) = self.shared.drifting.counts();
        Counters {
            steps: counts.steps,
            commits: counts.commits,
            conflicts: counts.conflicts,
            store_errors: counts.store_errors,
            events_dropped: counts.events_dropped,
            active: self.shared.master.active.len(),
            drifted,
            drifts,
            heals: self.shared.heals.load(Ordering::Relaxed),
        }
    }
}
