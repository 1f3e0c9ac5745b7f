//! Where rows live: the trait, what it speaks in, and the stores.

use std::fmt;

use async_trait::async_trait;

use crate::decide::{Batch, Outcome};
use crate::lifecycle::{LifecycleId, Record, Revision};
use crate::placement::Placement;

mod error;
mod feed;
mod memory;
mod query;
#[cfg(feature = "redb")]
pub(crate) mod redb;

pub use error::StoreError;
pub use feed::{Entry, Feed};
pub use memory::MemoryStore;
pub use query::{Cursor, OpenOnly, Page, ParseCursorError, PlacementQuery, Pruned, Query, Retention};
#[cfg(feature = "redb")]
pub use redb::{OpenError, RedbReader, RedbStore};

/// Keeps rows and placements: six methods, batch first.
///
/// Row, placement, indexes, feed entry and revision of a change are in one
/// transaction. A revision is assigned to every change of a row, rises by one,
/// is never reused, and is never seen before the change is durable. What a
/// batch does is no store's business: [`decide`](crate::decide) says what to
/// look up and what to write. `testkit::conformance` is the suite that every
/// store must pass.
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

    /// The placements asked for, by name; deckies without one are left out.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if they can't be read.
    async fn placements(&self, query: &PlacementQuery) -> Result<Vec<Placement>, StoreError>;

    /// Removes closed rows and feed entries that the policy no longer wants,
    /// at most as many as it allows in one go. Open rows stay, always, and so
    /// do rows that a placement names. The feed is compacted from its oldest
    /// entry up to the last one looked at that the policy lets go: one that is
    /// dated later than those after it, by a clock that was wrong, holds
    /// nothing back.
    ///
    /// # Errors
    /// As [`Store::commit`].
    async fn prune(&self, policy: &Retention) -> Result<Pruned, StoreError>;
}

/// The newest revision that a store has.
///
/// # Errors
/// [`StoreError`] if the feed can't be read.
pub async fn head(store: &dyn Store) -> Result<Revision, StoreError> {
    Ok(match store.changes(Revision::new(u64::MAX - 1), 1).await? {
        Feed::Entries { head, .. } => head,
        Feed::Compacted { oldest } => Revision::new(oldest.get().saturating_sub(1)),
    })
}

const _: fn() = || {
    fn usable<T: Send + Sync + ?Sized>() {}
    usable::<dyn Store>();
};
