//! A store of one's own on the decision core: all that it holds is one value,
//! swapped for the next if nobody was quicker. `Snapshots` knows no rule; the
//! conformance suite holds it to all of them (`tests/examples.rs`).
//!
//! `cargo run --example own_store`

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use decnet_lifecycle::decide::{Batch, KeyEntry, Needs, Outcome, Seen, decide};
use decnet_lifecycle::lifecycle::Revision;
use decnet_lifecycle::placement::Placement;
use decnet_lifecycle::store::{Entry, Feed, Page, PlacementQuery, Pruned, Query, Retention, Store};
use decnet_lifecycle::{
    DeckyName, DeployRequest, FleetConfig, LifecycleId, Record, RequestKey, Runner, StoreError,
};

#[path = "own_engine.rs"]
mod own_engine;

#[derive(Debug, Clone, Default)]
struct Snapshot {
    rows: BTreeMap<LifecycleId, Record>,
    placements: BTreeMap<DeckyName, Placement>,
    keys: BTreeMap<RequestKey, KeyEntry>,
    feed: BTreeMap<Revision, Entry>,
    head: Revision,
}

/// All that a store holds, behind one compare-and-swap.
#[derive(Debug, Default)]
pub struct Snapshots(Mutex<Arc<Snapshot>>);

impl Snapshots {
    fn now(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The compare-and-swap. A store that lasts makes `to` durable in here.
    fn swap(&self, from: &Arc<Snapshot>, to: Snapshot) -> bool {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = Arc::ptr_eq(&now, from);
        if is_first {
            *now = Arc::new(to);
        }
        is_first
    }
}

impl Snapshot {
    /// What the decision depends on. To see more than it needs does no harm.
    fn see(&self, needs: &Needs) -> Seen {
        let mut seen = Seen::default();
        let is_needed = |row: &&Record| {
            needs.rows.contains(&row.id) || (row.is_open() && needs.open_of.contains(&row.decky))
        };
        self.rows.values().filter(is_needed).for_each(|row| seen.row(row.clone()));
        for key in &needs.keys {
            self.keys.get(key).into_iter().for_each(|entry| seen.key(key.clone(), entry.clone()));
        }
        let is_needed = |placement: &&Placement| needs.wants(placement);
        self.placements.values().filter(is_needed).for_each(|placement| seen.placement(placement.clone()));
        seen
    }
}

#[async_trait]
impl Store for Snapshots {
    async fn commit(&self, batch: Batch) -> Result<Vec<Outcome>, StoreError> {
        batch.check()?;
        let batches = [batch];
        loop {
            let from = self.now();
            let mut done = decide(from.head, &batches, &mut from.see(&Needs::of(&batches)))?;
            let mut to = Snapshot { head: done.head, ..Snapshot::clone(&from) };
            for write in done.writes {
                to.feed.insert(write.new.revision, Entry::of(&write.new));
                to.rows.insert(write.new.id, write.new);
            }
            for (decky, write) in done.placements {
                to.placements.remove(&decky);
                to.placements.extend(write.new.map(|placement| (decky, placement)));
            }
            to.keys.extend(done.keys);
            if self.swap(&from, to) {
                return Ok(done.outcomes.pop().unwrap_or_default());
            }
        }
    }

    async fn read(&self, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
        Ok(self.now().rows.values().filter(|row| ids.contains(&row.id)).cloned().collect())
    }

    async fn query(&self, query: &Query) -> Result<Page, StoreError> {
        let now = self.now();
        let mut rows: Vec<&Record> = now.rows.values().rev().collect();
        if query.due_by.is_some() {
            rows.sort_by_key(|row| (row.deadline(), row.id));
        }
        rows.retain(|row| query.matches(row) && query.is_past_cursor(row));
        let records: Vec<Record> = rows.iter().take(query.page_size()).map(|row| (*row).clone()).collect();
        let next = records.last().filter(|_| rows.len() > records.len()).map(|last| query.cursor_at(last));
        Ok(Page { records, next, damaged: Vec::new() })
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Feed, StoreError> {
        let now = self.now();
        let oldest = now.feed.keys().next().copied().unwrap_or(now.head.next());
        if after.next() < oldest {
            return Ok(Feed::Compacted { oldest });
        }
        let entries = now.feed.range(after.next()..).take(limit).map(|(_, entry)| entry.clone()).collect();
        Ok(Feed::Entries { entries, head: now.head })
    }

    async fn placements(&self, query: &PlacementQuery) -> Result<Vec<Placement>, StoreError> {
        Ok(self.now().placements.values().filter(|placement| query.matches(placement)).cloned().collect())
    }

    async fn prune(&self, policy: &Retention) -> Result<Pruned, StoreError> {
        loop {
            let from = self.now();
            let mut to = Snapshot::clone(&from);
            let named: BTreeSet<LifecycleId> = from.placements.values().flat_map(Placement::rows).collect();
            let is_old = |row: &&Record| row.completed_at().is_some_and(|at| at < policy.closed_before);
            let old = from.rows.values().filter(is_old).filter(|row| !named.contains(&row.id));
            let rows = old.take(policy.limit).map(|row| to.rows.remove(&row.id)).count();
            to.keys.retain(|_, entry| entry.ids.iter().any(|id| to.rows.contains_key(id)));
            let mut looked_at = from.feed.values().take(policy.limit);
            if let Some(last) = looked_at.rfind(|entry| entry.at < policy.closed_before) {
                to.feed = to.feed.split_off(&last.revision.next());
            }
            let entries = from.feed.len() - to.feed.len();
            if self.swap(&from, to) {
                return Ok(Pruned { rows, entries, more: rows == policy.limit || entries == policy.limit });
            }
        }
    }
}

#[allow(dead_code, reason = "a test takes the store from here")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let engine = Arc::new(own_engine::Directory(dir.path().to_owned()));
    smol::block_on(async {
        let (runner, _) = Runner::builder(Arc::new(Snapshots::default()), engine).build()?.recover().await?;
        let fleet = FleetConfig::from_json(include_bytes!("fleet.json"))?;
        runner.accept_deploy(DeployRequest::new(fleet)).await?.run().await;
        for row in runner.list(&Query::new()).await?.records {
            println!("{} {} {}", row.revision, row.decky, row.status());
        }
        Ok(())
    })
}
