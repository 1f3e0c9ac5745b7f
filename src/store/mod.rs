//! Where rows live: the trait, what it speaks in, and the stores.

use std::fmt;

use async_trait::async_trait;

use crate::lifecycle::LifecycleId;
use crate::lifecycle::{Record, Revision};

mod batch;
mod error;
mod feed;
mod memory;
mod plan;
mod query;
#[cfg(feature = "redb")]
pub(crate) mod redb;

pub use batch::{Annotate, Batch, Change, Insert, KeyClaim, Outcome, Overlap, Refusal, Step, Together};
pub use error::StoreError;
pub use feed::{Entry, Feed};
pub use memory::MemoryStore;
pub use query::{Cursor, OpenOnly, Page, ParseCursorError, Pruned, Query, Retention};
#[cfg(feature = "redb")]
pub use redb::{OpenError, RedbReader, RedbStore};

/// Keeps rows: five methods, batch first.
///
/// Row, indexes, feed entry and revision of a change are in one transaction. A
/// revision is assigned to every change, rises by one, is never reused, and is
/// never seen before the change is durable. `testkit::conformance` is the suite
/// that every store must pass.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Commits a batch durably, as a whole or row by row as it says, and gives
    /// one outcome for each change, in order.
    ///
    /// Dropping the future never half-applies a batch: it lands or it doesn't.
    ///
    /// # Errors
    /// [`StoreError::NotCommitted`] if nothing was written,
    /// [`StoreError::Unknown`] if that can't be said: read the rows again.
    async fn commit(&self, batch: Batch) -> Result<Vec<Outcome>, StoreError>;

    /// The rows with these ids, oldest first; unknown ids are left out.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if the rows can't be read.
    async fn read(&self, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError>;

    /// One page of rows; see [`Query`]. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if the rows can't be read.
    async fn query(&self, query: &Query) -> Result<Page, StoreError>;

    /// The changes after this revision, in order and without a gap, at most
    /// `limit` of them; or the word that they have been compacted away.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if the feed can't be read.
    async fn changes(&self, after: Revision, limit: usize) -> Result<Feed, StoreError>;

    /// Removes closed rows and feed entries that the policy no longer wants,
    /// at most as many as it allows in one go. Open rows stay, always.
    ///
    /// # Errors
    /// As [`Store::commit`].
    async fn prune(&self, policy: &Retention) -> Result<Pruned, StoreError>;
}

const _: fn() = || {
    fn usable<T: Send + Sync + ?Sized>() {}
    usable::<dyn Store>();
};
