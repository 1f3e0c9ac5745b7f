//! What a start owes to the start before it.

use std::fmt;

use crate::engine::{LogLine, LogQuery};
use crate::lifecycle::{Failure, LifecycleId};
use crate::placement::Plan;
use crate::store::{Pruned, Retention, StoreError};
use crate::sweep::{self, Swept};

use super::{AcceptError, Accepted, Cancelled, DeckyStatus, DeployRequest, Runner};

/// A master, or a worker, that has not yet seen to what an earlier start left.
/// It takes no work before it has: there is no method for that.
///
/// ```compile_fail
/// # use std::sync::Arc;
/// # use decnet_lifecycle::{Runner, TeardownRequest, store::MemoryStore, testkit::FakeEngine};
/// let unrecovered = Runner::builder(Arc::new(MemoryStore::new()), Arc::new(FakeEngine::new())).build()?;
/// unrecovered.accept_teardown(TeardownRequest::all()); // no such method
/// # Ok::<(), decnet_lifecycle::runner::BuildError>(())
/// ```
#[derive(Debug)]
#[must_use = "`recover()` gives the runner"]
pub struct Unrecovered<T = Runner> {
    pub(crate) inner: T,
}

/// What an earlier start of this master left.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Recovered {
    /// Rows that were running here, and have been failed: how far they came is
    /// unknown.
    pub failed: usize,
    /// Rows that could not be ended now; the next sweep tries again.
    pub left: usize,
    /// What was accepted and not begun: what a 202 has promised. Run it;
    /// dropped, its rows fail at the next sweep.
    pub accepted: Vec<Accepted>,
}

/// The open rows of an earlier start can't be read.
#[derive(thiserror::Error)]
#[error("what an earlier start left can't be read, so nothing is accepted, try again: {error}")]
pub struct RecoverError<T = Runner> {
    /// To try again with.
    pub again: Unrecovered<T>,
    /// What the store said.
    pub error: StoreError,
}

impl<T> fmt::Debug for RecoverError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoverError").field("error", &self.error).finish_non_exhaustive()
    }
}

impl Unrecovered {
    /// Ends what an earlier start of this master left running, and gives back
    /// what it had accepted and not begun: spawn that, as any accepted work.
    /// Rows that a worker is at work on stay. If the future is dropped, build
    /// anew: nothing is lost.
    ///
    /// # Errors
    /// [`RecoverError`] if the open rows can't be read.
    pub async fn recover(self) -> Result<(Runner, Recovered), RecoverError> {
        match self.inner.recover().await {
            Ok(recovered) => Ok((self.inner, recovered)),
            Err(error) => Err(RecoverError { again: self, error }),
        }
    }

    /// See [`Runner::plan`]: a master that only looks need not recover.
    ///
    /// # Errors
    /// As there.
    pub async fn plan(&self, request: &DeployRequest) -> Result<Plan, AcceptError> {
        self.inner.plan(request).await
    }

    /// See [`Runner::deckies`].
    ///
    /// # Errors
    /// As there.
    pub async fn deckies(&self) -> Result<Vec<DeckyStatus>, StoreError> {
        self.inner.deckies().await
    }

    /// See [`Runner::logs`].
    ///
    /// # Errors
    /// As there.
    pub async fn logs(
        &self,
        query: &LogQuery,
        hear: &(dyn Fn(LogLine) + Send + Sync),
    ) -> Result<(), Failure> {
        self.inner.logs(query, hear).await
    }

    /// See [`Runner::cancel`]: rows that an earlier start left can be asked to
    /// stop before they are failed as its.
    ///
    /// # Errors
    /// As there.
    pub async fn cancel(&self, id: LifecycleId) -> Result<Cancelled, StoreError> {
        self.inner.cancel(id).await
    }

    /// See [`Runner::prune`]: it touches closed rows only.
    ///
    /// # Errors
    /// As there.
    pub async fn prune(&self, policy: &Retention) -> Result<Pruned, StoreError> {
        self.inner.prune(policy).await
    }
}

impl Runner {
    pub(crate) async fn recover(&self) -> Result<Recovered, StoreError> {
        let found = sweep::recover(&self.shared.master, &self.shared.owner).await?;
        let Swept { failed, left } = found.swept;
        Ok(Recovered { failed, left, accepted: self.again(found.pending) })
    }
}
