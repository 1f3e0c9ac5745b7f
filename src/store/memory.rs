//! Rows and placements in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::decide::{Batch, KeyEntry, Needs, Outcome, Seen, decide};
use crate::lifecycle::{DeckyName, LifecycleId, Record, RequestKey, Revision, Timestamp};
use crate::placement::{Placed, Placement, Placements};

use super::{Entry, Feed, Page, PlacementQuery, Pruned, Query, Retention, Store, StoreError};

/// Rows in memory: for tests, and for masters that may forget.
///
/// ```
/// use decnet_lifecycle::store::{MemoryStore, Query, Store};
///
/// let store = MemoryStore::new();
/// let page = futures_lite::future::block_on(store.query(&Query::new()))?;
/// assert!(page.records.is_empty());
/// # Ok::<(), decnet_lifecycle::StoreError>(())
/// ```
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    rows: BTreeMap<LifecycleId, Record>,
    open: BTreeMap<DeckyName, BTreeSet<LifecycleId>>,
    deadlines: BTreeSet<(Timestamp, LifecycleId)>,
    feed: BTreeMap<Revision, Entry>,
    keys: BTreeMap<RequestKey, KeyEntry>,
    placements: Placements,
    set_aside: BTreeMap<LifecycleId, Arc<Placed>>,
    head: Revision,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Nothing below panics between two writes, so a poisoned lock only
        // says that some caller's thread died elsewhere.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// What a decision needs of all this.
    fn see(&self, needs: &Needs) -> Seen {
        let mut seen = Seen::default();
        let open = needs.open_of.iter().filter_map(|decky| self.open.get(decky)).flatten();
        for id in needs.rows.iter().chain(open) {
            if let Some(row) = self.rows.get(id) {
                seen.row(row.clone());
            }
        }
        for key in &needs.keys {
            if let Some(entry) = self.keys.get(key) {
                seen.key(key.clone(), entry.clone());
            }
        }
        let named = needs.deckies.iter().filter_map(|decky| self.placements.get(decky));
        let there = needs.homes.iter().flat_map(|home| self.placements.at(home));
        let having = needs.addresses.iter().flat_map(|address| self.placements.having(*address));
        for placement in named.chain(there).chain(having) {
            seen.placement(placement.clone());
        }
        seen
    }

    fn write(&mut self, old: Option<&Record>, new: Record) {
        if let Some(key) = old.and_then(deadline_key) {
            self.deadlines.remove(&key);
        }
        if let Some(key) = deadline_key(&new) {
            self.deadlines.insert(key);
            self.open.entry(new.decky.clone()).or_default().insert(new.id);
        } else if let Some(open) = self.open.get_mut(&new.decky) {
            open.remove(&new.id);
            if open.is_empty() {
                self.open.remove(&new.decky);
            }
        }
        self.feed.insert(new.revision, Entry::of(&new));
        self.rows.insert(new.id, new);
    }

    /// The ids that a query has to look at, in its order.
    fn candidates<'t>(&'t self, query: &Query) -> Box<dyn Iterator<Item = LifecycleId> + 't> {
        if let Some(due_by) = query.due_by {
            let from = query.after.and_then(|cursor| cursor.deadline.map(|deadline| (deadline, cursor.id)));
            let due = self
                .deadlines
                .iter()
                .copied()
                .skip_while(move |key| from.is_some_and(|from| *key <= from))
                .take_while(move |(deadline, _)| *deadline <= due_by);
            return Box::new(due.map(|(_, id)| id));
        }
        let before = query.after.map(|cursor| cursor.id);
        if query.wants_open() {
            let mut open: Vec<LifecycleId> = match &query.decky {
                Some(decky) => self.open.get(decky).into_iter().flatten().copied().collect(),
                None => self.open.values().flatten().copied().collect(),
            };
            open.sort_unstable_by(|a, b| b.cmp(a));
            return Box::new(open.into_iter().filter(move |id| before.is_none_or(|before| *id < before)));
        }
        match before {
            Some(before) => Box::new(self.rows.range(..before).rev().map(|(id, _)| *id)),
            None => Box::new(self.rows.keys().rev().copied()),
        }
    }
}

/// The deadline index entry of a row: open rows only.
fn deadline_key(record: &Record) -> Option<(Timestamp, LifecycleId)> {
    record.deadline().map(|deadline| (deadline, record.id))
}

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, batch: Batch) -> Result<Vec<Outcome>, StoreError> {
        batch.check()?;
        let mut tables = self.tables();
        let batches = [batch];
        let mut seen = tables.see(&Needs::of(&batches));
        let mut done = decide(tables.head, &batches, &mut seen)?;
        for write in done.writes {
            tables.write(write.old.as_ref(), write.new);
        }
        for (decky, write) in done.placements {
            match write.new {
                Some(placement) => drop(tables.placements.set(placement)),
                None => drop(tables.placements.remove(&decky)),
            }
        }
        tables.keys.extend(done.keys);
        tables.set_aside.extend(done.set_aside);
        tables.head = done.head;
        Ok(done.outcomes.pop().unwrap_or_default())
    }

    async fn read(&self, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
        let wanted: BTreeSet<LifecycleId> = ids.iter().copied().collect();
        let tables = self.tables();
        Ok(wanted.iter().filter_map(|id| tables.rows.get(id).cloned()).collect())
    }

    async fn query(&self, query: &Query) -> Result<Page, StoreError> {
        let tables = self.tables();
        let mut matching =
            tables.candidates(query).filter_map(|id| tables.rows.get(&id)).filter(|row| query.matches(row));
        let records: Vec<Record> = matching.by_ref().take(query.page_size()).cloned().collect();
        let more = matching.next().is_some();
        let next = records.last().filter(|_| more).map(|row| query.cursor_at(row));
        Ok(Page { records, next, damaged: Vec::new() })
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Feed, StoreError> {
        let tables = self.tables();
        let oldest = tables.feed.keys().next().copied().unwrap_or(tables.head.next());
        if after.next() < oldest {
            return Ok(Feed::Compacted { oldest });
        }
        let entries = tables.feed.range(after.next()..).take(limit).map(|(_, entry)| entry.clone()).collect();
        Ok(Feed::Entries { entries, head: tables.head })
    }

    async fn placements(&self, query: &PlacementQuery) -> Result<Vec<Placement>, StoreError> {
        let tables = self.tables();
        Ok(match query {
            PlacementQuery::All => tables.placements.iter().cloned().collect(),
            PlacementQuery::Of(deckies) => {
                let deckies: BTreeSet<&DeckyName> = deckies.iter().collect();
                deckies.into_iter().filter_map(|decky| tables.placements.get(decky).cloned()).collect()
            }
            PlacementQuery::At(home) => tables.placements.at(home).cloned().collect(),
        })
    }

    async fn set_aside(
        &self,
        rows: &[LifecycleId],
    ) -> Result<BTreeMap<LifecycleId, Arc<Placed>>, StoreError> {
        let tables = self.tables();
        let found = rows.iter().filter_map(|id| Some((*id, Arc::clone(tables.set_aside.get(id)?))));
        Ok(found.collect())
    }

    async fn prune(&self, policy: &Retention) -> Result<Pruned, StoreError> {
        let mut tables = self.tables();
        let placed: BTreeSet<LifecycleId> = tables.placements.iter().flat_map(Placement::rows).collect();
        let old: Vec<Record> = tables
            .rows
            .values()
            .filter(|row| row.completed_at().is_some_and(|at| at < policy.closed_before))
            .filter(|row| !placed.contains(&row.id))
            .take(policy.limit)
            .cloned()
            .collect();
        for row in &old {
            tables.rows.remove(&row.id);
            tables.set_aside.remove(&row.id);
            let Some(key) = &row.key else { continue };
            let rows = &tables.rows;
            let gone =
                tables.keys.get(key).is_some_and(|entry| entry.ids.iter().all(|id| !rows.contains_key(id)));
            if gone {
                tables.keys.remove(key);
            }
        }
        let looked_at = tables.feed.values().take(policy.limit);
        let gone = looked_at.filter(|entry| entry.at < policy.closed_before);
        let last = gone.map(|entry| entry.revision).next_back();
        let stale: Vec<Revision> = match last {
            Some(last) => tables.feed.range(..=last).map(|(revision, _)| *revision).collect(),
            None => Vec::new(),
        };
        for revision in &stale {
            tables.feed.remove(revision);
        }
        let more = old.len() == policy.limit || stale.len() == policy.limit;
        Ok(Pruned { rows: old.len(), entries: stale.len(), more })
    }
}
