//! A store over something remote that knows compare-and-swap only, as etcd
//! does: async, and no rule of ours in it. All that a store of one's own needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use decnet_lifecycle::decide::{KeyEntry, Needs, Seen, decide};
use decnet_lifecycle::testkit::Invariants;
use decnet_lifecycle::testkit::conformance::{self, Fixture};
use decnet_lifecycle::{
    decide::{Batch, Change, Insert, Outcome},
    lifecycle::Revision,
    placement::Placement,
    store::{Entry, Feed, Page, PlacementQuery, Pruned, Query, Retention, Store},
    *,
};
use futures_lite::future::block_on;

mod rows;

use rows::row;

/// A value here is whatever was put: how a store writes its values down is its
/// own affair.
#[derive(Debug, Clone)]
enum Value {
    Head(Revision),
    Row(Box<Record>),
    Entry(Entry),
    Key(RequestKey, KeyEntry),
    Placement(Placement),
}

/// What stands for etcd: keys, values, and when each was last put.
#[derive(Debug, Default)]
struct Remote(Mutex<(u64, Values)>);

type Values = BTreeMap<String, (u64, Value)>;

impl Remote {
    /// All values under a prefix.
    async fn range(&self, prefix: &str) -> Vec<(String, u64, Value)> {
        futures_lite::future::yield_now().await;
        let all = self.0.lock().unwrap();
        let from = all.1.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        from.map(|(key, (at, value))| (key.clone(), *at, value.clone())).collect()
    }

    /// Puts and removes, if the key was last put at this time.
    async fn swap(&self, key: &str, at: u64, puts: Vec<(String, Option<Value>)>) -> bool {
        futures_lite::future::yield_now().await;
        let (now, all) = &mut *self.0.lock().unwrap();
        if all.get(key).map_or(0, |(at, _)| *at) != at {
            return false;
        }
        *now += 1;
        for (key, value) in puts {
            match value {
                Some(value) => drop(all.insert(key, (*now, value))),
                None => drop(all.remove(&key)),
            }
        }
        true
    }
}

#[derive(Debug, Default)]
struct CasStore(Remote);

fn row_key(id: impl fmt::Display) -> String {
    format!("row/{id}")
}

fn open_key(row: &Record) -> String {
    format!("open/{}/{}", row.decky, row.id)
}

fn feed_key(revision: Revision) -> String {
    format!("feed/{:020}", revision.get())
}

impl CasStore {
    async fn head(&self) -> (u64, Revision) {
        match self.0.range("head").await.pop() {
            Some((_, at, Value::Head(head))) => (at, head),
            _ => (0, Revision::ZERO),
        }
    }

    async fn rows(&self, prefix: &str) -> Vec<Record> {
        let all = self.0.range(prefix).await.into_iter();
        all.filter_map(|(_, _, value)| if let Value::Row(row) = value { Some(*row) } else { None }).collect()
    }

    async fn feed(&self) -> Vec<Entry> {
        let all = self.0.range("feed/").await.into_iter();
        all.filter_map(|(_, _, value)| if let Value::Entry(entry) = value { Some(entry) } else { None })
            .collect()
    }

    async fn all_placements(&self) -> Vec<Placement> {
        let all = self.0.range("placed/").await.into_iter();
        all.filter_map(|(_, _, value)| if let Value::Placement(at) = value { Some(at) } else { None })
            .collect()
    }

    async fn see(&self, needs: &Needs) -> Seen {
        let mut seen = Seen::default();
        for id in &needs.rows {
            self.rows(&row_key(id)).await.into_iter().for_each(|row| seen.row(row));
        }
        for decky in &needs.open_of {
            self.rows(&format!("open/{decky}/")).await.into_iter().for_each(|row| seen.row(row));
        }
        for key in &needs.keys {
            if let Some((_, _, Value::Key(key, entry))) = self.0.range(&format!("key/{key}\n")).await.pop() {
                seen.key(key, entry);
            }
        }
        let wanted = |placement: &Placement| needs.wants(placement);
        self.all_placements()
            .await
            .into_iter()
            .filter(wanted)
            .for_each(|placement| seen.placement(placement));
        seen
    }
}

#[async_trait]
impl Store for CasStore {
    async fn commit(&self, batch: Batch) -> Result<Vec<Outcome>, StoreError> {
        batch.check()?;
        let batches = [batch];
        loop {
            let (at, head) = self.head().await;
            let mut seen = self.see(&Needs::of(&batches)).await;
            let mut done = decide(head, &batches, &mut seen)?;
            let mut puts = vec![("head".to_owned(), Some(Value::Head(done.head)))];
            for write in &done.writes {
                let row = Value::Row(Box::new(write.new.clone()));
                puts.push((open_key(&write.new), write.new.is_open().then(|| row.clone())));
                puts.push((row_key(write.new.id), Some(row)));
                puts.push((feed_key(write.new.revision), Some(Value::Entry(Entry::of(&write.new)))));
            }
            for (decky, write) in &done.placements {
                puts.push((format!("placed/{decky}\n"), write.new.clone().map(Value::Placement)));
            }
            for (key, entry) in &done.keys {
                puts.push((format!("key/{key}\n"), Some(Value::Key(key.clone(), entry.clone()))));
            }
            if done.is_empty() || self.0.swap("head", at, puts).await {
                return Ok(done.outcomes.pop().unwrap_or_default());
            }
        }
    }

    async fn read(&self, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
        let mut rows = Vec::new();
        for id in ids.iter().collect::<BTreeSet<_>>() {
            rows.extend(self.rows(&row_key(id)).await);
        }
        Ok(rows)
    }

    async fn query(&self, query: &Query) -> Result<Page, StoreError> {
        let mut rows = self.rows("row/").await;
        match query.due_by {
            Some(_) => rows.sort_by_key(|row| (row.deadline(), row.id)),
            None => rows.reverse(),
        }
        let mut matching = rows.into_iter().filter(|row| query.matches(row) && query.is_past_cursor(row));
        let records: Vec<Record> = matching.by_ref().take(query.page_size()).collect();
        let more = matching.next().is_some();
        let next = records.last().filter(|_| more).map(|last| query.cursor_at(last));
        Ok(Page { records, next, damaged: Vec::new() })
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Feed, StoreError> {
        let oldest = match self.0.range("oldest").await.pop() {
            Some((_, _, Value::Head(oldest))) => oldest,
            _ => Revision::new(1),
        };
        if after.next() < oldest {
            return Ok(Feed::Compacted { oldest });
        }
        let head = self.head().await.1;
        let newer =
            self.feed().await.into_iter().filter(|entry| after < entry.revision && entry.revision <= head);
        Ok(Feed::Entries { entries: newer.take(limit).collect(), head })
    }

    async fn placements(&self, query: &PlacementQuery) -> Result<Vec<Placement>, StoreError> {
        Ok(self.all_placements().await.into_iter().filter(|placement| query.matches(placement)).collect())
    }

    async fn prune(&self, policy: &Retention) -> Result<Pruned, StoreError> {
        loop {
            let (at, head) = self.head().await;
            let named: BTreeSet<LifecycleId> =
                self.all_placements().await.iter().flat_map(Placement::rows).collect();
            let rows = self.rows("row/").await;
            let old =
                rows.iter().filter(|row| row.completed_at().is_some_and(|at| at < policy.closed_before));
            let old: BTreeSet<LifecycleId> =
                old.map(|row| row.id).filter(|id| !named.contains(id)).take(policy.limit).collect();
            let feed = self.feed().await;
            let looked_at = feed.iter().take(policy.limit);
            let last = looked_at
                .filter(|entry| entry.at < policy.closed_before)
                .map(|entry| entry.revision)
                .next_back();
            let stale = feed.iter().filter(|entry| Some(entry.revision) <= last).count();
            let mut puts = vec![("head".to_owned(), Some(Value::Head(head)))];
            puts.extend(old.iter().map(|id| (row_key(id), None)));
            puts.extend(feed.iter().take(stale).map(|entry| (feed_key(entry.revision), None)));
            if let Some(last) = last {
                puts.push(("oldest".to_owned(), Some(Value::Head(last.next()))));
            }
            for (name, _, value) in self.0.range("key/").await {
                let Value::Key(_, entry) = value else { continue };
                let is_left = |id: &LifecycleId| !old.contains(id) && rows.iter().any(|row| row.id == *id);
                if !entry.ids.iter().any(is_left) {
                    puts.push((name, None));
                }
            }
            if self.0.swap("head", at, puts).await {
                let more = old.len() == policy.limit || stale == policy.limit;
                return Ok(Pruned { rows: old.len(), entries: stale, more });
            }
        }
    }
}

struct Cas;

#[async_trait]
impl Fixture for Cas {
    async fn fresh(&self) -> Arc<dyn Store> {
        Arc::new(CasStore::default())
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        Some(store)
    }
}

#[test]
fn a_compare_and_swap_store_conforms() {
    block_on(conformance::check(&Cas)).unwrap();
}

/// Many at once on one decky: one is first, and every invariant holds.
#[test]
fn of_those_that_race_for_a_decky_one_is_first() {
    let store = Arc::new(CasStore::default());
    let insert = |number: u128| {
        let decky = DeckyName::parse("a").unwrap();
        let record = Record { id: LifecycleId::from_u128(number), decky, ..row(0) };
        let insert = Change::Insert(Box::new(Insert::new(record, Overlap::Reject)));
        store.commit(Batch::all_or_none(vec![insert]))
    };
    let executor = smol::LocalExecutor::new();
    let outcomes: Vec<Outcome> = block_on(executor.run(async {
        let racing: Vec<_> = (1..=20).map(|number| executor.spawn(insert(number))).collect();
        let mut outcomes = Vec::new();
        for one in racing {
            outcomes.extend(one.await.unwrap());
        }
        outcomes
    }));
    let first = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Applied { .. })).count();
    assert_eq!((first, outcomes.len()), (1, 20), "{outcomes:?}");
    block_on(Invariants::new().check(&*store)).unwrap();
}
