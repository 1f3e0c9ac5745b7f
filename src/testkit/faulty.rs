//! A store around another one, that fails as it is told.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::decide::{Batch, Outcome};
use crate::lifecycle::{LifecycleId, Record, Revision};
use crate::placement::{Placed, Placement};
use crate::store::{Feed, Page, PlacementQuery, Pruned, Query, Retention, Store, StoreError};

/// What happens to one commit of a [`FaultyStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreFault {
    /// It goes well.
    None,
    /// Nothing is written, and the store says so.
    NotCommitted,
    /// It is written, but the store doesn't know.
    UnknownLanded,
    /// It is lost, but the store doesn't know.
    UnknownLost,
    /// The store doesn't know whether it is written, and can't be asked: the
    /// next reads fail.
    UnknownThenBlind {
        /// Whether it is written.
        landed: bool,
        /// How many reads fail.
        reads: usize,
    },
}

/// A store that fails as it is told, and that makes its callers wait.
///
/// ```
/// use std::sync::Arc;
/// use decnet_lifecycle::testkit::{FaultyStore, StoreFault};
/// use decnet_lifecycle::{StoreError, decide::Batch, store::{MemoryStore, Store}};
///
/// let store = FaultyStore::new(Arc::new(MemoryStore::new()));
/// store.fail_commits([StoreFault::NotCommitted]);
/// let failed = futures_lite::future::block_on(store.commit(Batch::per_row(vec![])));
/// assert!(matches!(failed, Err(StoreError::NotCommitted { .. })));
/// ```
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    plan: Mutex<FaultPlan>,
}

#[derive(Debug, Default)]
struct FaultPlan {
    commits: VecDeque<StoreFault>,
    failing_reads: usize,
    waits: usize,
}

impl FaultyStore {
    /// A store that does what `inner` does, until it is told otherwise.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, plan: Mutex::default() }
    }

    /// What happens to the next commits and prunes, in order; after them all
    /// goes well.
    pub fn fail_commits(&self, faults: impl IntoIterator<Item = StoreFault>) {
        self.plan().commits.extend(faults);
    }

    /// The next so many reads of any kind fail.
    pub fn fail_reads(&self, reads: usize) {
        self.plan().failing_reads = reads;
    }

    /// From now on each call is pending this often before it is made, and
    /// again before it answers.
    pub fn wait(&self, polls: usize) {
        self.plan().waits = polls;
    }

    /// Whether a fault has yet to come to pass.
    #[must_use]
    pub fn is_faulty(&self) -> bool {
        let plan = self.plan();
        plan.failing_reads > 0 || !plan.commits.is_empty()
    }

    /// Forgets every fault that has not come to pass, and the waiting.
    pub fn heal(&self) {
        *self.plan() = FaultPlan::default();
    }

    fn plan(&self) -> MutexGuard<'_, FaultPlan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pause(&self) {
        let waits = self.plan().waits;
        for _ in 0..waits {
            futures_lite::future::yield_now().await;
        }
    }

    async fn writing<T>(
        &self,
        write: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.pause().await;
        let fault = self.plan().commits.pop_front().unwrap_or(StoreFault::None);
        let injected = || Arc::new(io::Error::other("injected"));
        let unknown = || StoreError::Unknown { doing: "committing", error: injected() };
        let answer = match fault {
            StoreFault::None => write.await,
            StoreFault::NotCommitted => {
                Err(StoreError::NotCommitted { doing: "committing", error: injected() })
            }
            StoreFault::UnknownLost => Err(unknown()),
            StoreFault::UnknownLanded => write.await.and_then(|_| Err(unknown())),
            StoreFault::UnknownThenBlind { landed, reads } => {
                let written = if landed { write.await.map(drop) } else { Ok(()) };
                self.plan().failing_reads = reads;
                written.and_then(|()| Err(unknown()))
            }
        };
        self.pause().await;
        answer
    }

    async fn reading<T>(
        &self,
        read: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.pause().await;
        let fails = {
            let mut plan = self.plan();
            let fails = plan.failing_reads > 0;
            plan.failing_reads = plan.failing_reads.saturating_sub(1);
            fails
        };
        if fails {
            let error = Arc::new(io::Error::other("injected"));
            return Err(StoreError::NotCommitted { doing: "reading the store", error });
        }
        let answer = read.await;
        self.pause().await;
        answer
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn commit(&self, batch: Batch) -> Result<Vec<Outcome>, StoreError> {
        self.writing(self.inner.commit(batch)).await
    }

    async fn read(&self, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
        self.reading(self.inner.read(ids)).await
    }

    async fn query(&self, query: &Query) -> Result<Page, StoreError> {
        self.reading(self.inner.query(query)).await
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Feed, StoreError> {
        self.reading(self.inner.changes(after, limit)).await
    }

    async fn placements(&self, query: &PlacementQuery) -> Result<Vec<Placement>, StoreError> {
        self.reading(self.inner.placements(query)).await
    }

    async fn set_aside(
        &self,
        rows: &[LifecycleId],
    ) -> Result<BTreeMap<LifecycleId, Arc<Placed>>, StoreError> {
        self.reading(self.inner.set_aside(rows)).await
    }

    async fn prune(&self, policy: &Retention) -> Result<Pruned, StoreError> {
        self.writing(self.inner.prune(policy)).await
    }
}
