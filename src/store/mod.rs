//! Where rows live: the trait, what it speaks in, and the stores.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::decide::{Batch, Outcome};
use crate::lifecycle::{LifecycleId, Record, Revision};
use crate::placement::{Placed, Placement};

mod error;
mod feed;
mod health;
mod memory;
#[cfg(all(feature = "postgres", unix))]
mod postgres;
mod query;
#[cfg(feature = "redb")]
pub(crate) mod redb;

pub use error::StoreError;
pub use feed::{Entry, Feed};
pub use health::StoreHealth;
pub use memory::MemoryStore;
#[cfg(all(feature = "postgres", unix))]
pub use postgres::{PostgresError, PostgresSettings, PostgresStore};
pub use query::{Cursor, OpenOnly, Page, ParseCursorError, PlacementQuery, Pruned, Query, Retention};
#[cfg(feature = "redb")]
pub use redb::{Backup, BackupError, OpenError, RedbReader, RedbStore};

/// Keeps rows and placements: six methods, batch first.
///
/// Row, placement, indexes, feed entry and revision of a change are in one
/// transaction. A revision is assigned to every change of a row, rises by one,
/// is never reused, and is never seen before the change is durable. What a
/// batch does is no store's business: [`decide`](crate::decide) says what to
/// look up and what to write. `testkit::conformance` is the suite that every
/// store must pass.
///
/// A store of one's own looks up, asks, and writes; here one over maps:
///
/// ```
/// # use std::collections::{BTreeMap, BTreeSet};
/// # use std::sync::{Arc, Mutex};
/// # use decnet_lifecycle::decide::{Batch, KeyEntry, Needs, Outcome, Seen, decide};
/// # use decnet_lifecycle::{*, lifecycle::Revision, placement::Placement};
/// # use decnet_lifecycle::store::{Entry, Feed, Page, PlacementQuery, Pruned, Query, Retention, Store};
/// #[derive(Debug, Default)]
/// struct Maps {
///     rows: BTreeMap<LifecycleId, Record>,
///     placements: BTreeMap<DeckyName, Placement>,
///     keys: BTreeMap<RequestKey, KeyEntry>,
///     feed: BTreeMap<Revision, Entry>,
///     head: Revision,
/// }
///
/// #[derive(Debug, Default)]
/// struct OwnStore(Mutex<Maps>);
///
/// #[async_trait::async_trait]
/// impl Store for OwnStore {
///     async fn commit(&self, batch: Batch) -> Result<Vec<Outcome>, StoreError> {
///         batch.check()?;
///         let (batches, mut maps) = ([batch], self.0.lock().unwrap());
///         // Look up what the decision needs, and no more than you must:
///         let (needs, mut seen) = (Needs::of(&batches), Seen::default());
///         let open = |row: &Record| row.is_open() && needs.open_of.contains(&row.decky);
///         let rows = maps.rows.values().filter(|row| needs.rows.contains(&row.id) || open(row));
///         rows.for_each(|row| seen.row(row.clone()));
///         let keys = maps.keys.iter().filter(|(key, _)| needs.keys.contains(key));
///         keys.for_each(|(key, entry)| seen.key(key.clone(), entry.clone()));
///         let placements = maps.placements.values().filter(|placement| needs.wants(placement));
///         placements.for_each(|placement| seen.placement(placement.clone()));
///         // Decide, and write what comes of it, all in one transaction:
///         let mut done = decide(maps.head, &batches, &mut seen)?;
///         for write in done.writes {
///             maps.feed.insert(write.new.revision, Entry::of(&write.new));
///             maps.rows.insert(write.new.id, write.new);
///         }
///         for (decky, write) in done.placements {
///             match write.new {
///                 Some(placement) => drop(maps.placements.insert(decky, placement)),
///                 None => drop(maps.placements.remove(&decky)),
///             }
///         }
///         maps.keys.extend(done.keys);
///         maps.head = done.head;
///         Ok(done.outcomes.pop().unwrap_or_default())
///     }
///
///     async fn read(&self, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
///         let maps = self.0.lock().unwrap();
///         Ok(maps.rows.values().filter(|row| ids.contains(&row.id)).cloned().collect())
///     }
///
///     async fn query(&self, query: &Query) -> Result<Page, StoreError> {
///         let mut rows: Vec<Record> = self.0.lock().unwrap().rows.values().cloned().collect();
///         match query.due_by {
///             Some(_) => rows.sort_by_key(|row| (row.deadline(), row.id)),
///             None => rows.reverse(),
///         }
///         rows.retain(|row| query.matches(row) && query.is_past_cursor(row));
///         let more = rows.len() > query.page_size();
///         rows.truncate(query.page_size());
///         let next = rows.last().filter(|_| more).map(|last| query.cursor_at(last));
///         Ok(Page { records: rows, next, damaged: Vec::new() })
///     }
///
///     async fn changes(&self, after: Revision, limit: usize) -> Result<Feed, StoreError> {
///         let maps = self.0.lock().unwrap();
///         let oldest = maps.feed.keys().next().copied().unwrap_or(maps.head.next());
///         if after.next() < oldest {
///             return Ok(Feed::Compacted { oldest });
///         }
///         let newer = maps.feed.range(after.next()..).take(limit);
///         Ok(Feed::Entries { entries: newer.map(|(_, entry)| entry.clone()).collect(), head: maps.head })
///     }
///
///     async fn placements(&self, query: &PlacementQuery) -> Result<Vec<Placement>, StoreError> {
///         let maps = self.0.lock().unwrap();
///         Ok(maps.placements.values().filter(|placement| query.matches(placement)).cloned().collect())
///     }
///
///     async fn prune(&self, policy: &Retention) -> Result<Pruned, StoreError> {
///         let maps = &mut *self.0.lock().unwrap();
///         let named: BTreeSet<LifecycleId> = maps.placements.values().flat_map(Placement::rows).collect();
///         let old = |row: &&Record| row.completed_at().is_some_and(|at| at < policy.closed_before);
///         let rows = maps.rows.values().filter(old).map(|row| row.id).filter(|id| !named.contains(id));
///         let rows: Vec<LifecycleId> = rows.take(policy.limit).collect();
///         rows.iter().for_each(|id| drop(maps.rows.remove(id)));
///         maps.keys.retain(|_, entry| entry.ids.iter().any(|id| maps.rows.contains_key(id)));
///         let looked_at = maps.feed.values().take(policy.limit);
///         let stale = looked_at.filter(|entry| entry.at < policy.closed_before).next_back();
///         let before = maps.feed.len();
///         if let Some(last) = stale.map(|entry| entry.revision) {
///             maps.feed = maps.feed.split_off(&last.next());
///         }
///         let entries = before - maps.feed.len();
///         let more = rows.len() == policy.limit || entries == policy.limit;
///         Ok(Pruned { rows: rows.len(), entries, more })
///     }
/// }
/// # #[cfg(feature = "testkit")]
/// # {
/// # use decnet_lifecycle::testkit::conformance::{Fixture, self};
/// # struct Own;
/// # #[async_trait::async_trait]
/// # impl Fixture for Own {
/// #     async fn fresh(&self) -> Arc<dyn Store> {
/// #         Arc::new(OwnStore::default())
/// #     }
/// #     async fn reopen(&self, store: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
/// #         Some(store)
/// #     }
/// # }
/// # futures_lite::future::block_on(conformance::check(&Own)).unwrap();
/// # }
/// ```
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

    /// What ended rows took out of their deckies' placements, by row: what a row
    /// that failed was to bring up, and what was up before a mutate that
    /// succeeded; as [`Decision::set_aside`](crate::decide::Decision::set_aside)
    /// had it. Rows that took nothing are left out, and so are all of a store
    /// that keeps none of it: by default, this one. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be read.
    async fn set_aside(
        &self,
        rows: &[LifecycleId],
    ) -> Result<BTreeMap<LifecycleId, Arc<Placed>>, StoreError> {
        let _ = rows;
        Ok(BTreeMap::new())
    }

    /// Whether it can be written, as far as it knows without trying; for
    /// health checks, and for a program that is not to go on without it. Must
    /// be cheap. A store that can't tell is well.
    fn health(&self) -> StoreHealth {
        StoreHealth::Good
    }

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
