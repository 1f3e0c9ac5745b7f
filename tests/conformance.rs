//! Both stores pass the public conformance suite.

use std::sync::Arc;

use async_trait::async_trait;
use decnet_lifecycle::testkit::conformance::{self, Fixture};
use decnet_lifecycle::{MemoryStore, RedbStore, Store};
use futures_lite::future::block_on;

struct Memory;

#[async_trait]
impl Fixture for Memory {
    async fn fresh(&self) -> Arc<dyn Store> {
        Arc::new(MemoryStore::new())
    }

    async fn reopen(&self, _store: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        None
    }
}

/// One directory for the suite; each store is the newest file in it.
struct Redb {
    dir: tempfile::TempDir,
    files: std::sync::atomic::AtomicU32,
}

impl Redb {
    fn path(&self) -> std::path::PathBuf {
        let number = self.files.load(std::sync::atomic::Ordering::SeqCst);
        self.dir.path().join(format!("{number}.redb"))
    }
}

#[async_trait]
impl Fixture for Redb {
    async fn fresh(&self) -> Arc<dyn Store> {
        self.files.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Arc::new(RedbStore::open(self.path()).unwrap())
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        drop(store);
        Some(Arc::new(RedbStore::open(self.path()).unwrap()))
    }
}

#[test]
fn memory_conforms() {
    block_on(conformance::check(&Memory)).unwrap();
}

#[test]
fn redb_conforms() {
    let dir = tempfile::tempdir().unwrap();
    block_on(conformance::check(&Redb { dir, files: 0.into() })).unwrap();
}

/// A store that forgets to compare revisions, to see that the suite would.
mod careless {
    use super::*;
    use decnet_lifecycle::{
        Batch, Change, Feed, LifecycleId, Outcome, Page, Pruned, Query, Record, Retention, Revision,
        StoreError,
    };

    #[derive(Debug, Default)]
    pub struct Careless(MemoryStore);

    #[async_trait]
    impl Store for Careless {
        async fn commit(&self, mut batch: Batch) -> Result<Vec<Outcome>, StoreError> {
            for change in &mut batch.changes {
                if let Change::Step(step) = change
                    && let Some(current) = self.0.read(&[step.next.id]).await?.pop()
                {
                    step.expected = current.revision;
                }
            }
            self.0.commit(batch).await
        }

        async fn read(&self, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
            self.0.read(ids).await
        }

        async fn query(&self, query: &Query) -> Result<Page, StoreError> {
            self.0.query(query).await
        }

        async fn changes(&self, after: Revision, limit: usize) -> Result<Feed, StoreError> {
            self.0.changes(after, limit).await
        }

        async fn prune(&self, policy: &Retention) -> Result<Pruned, StoreError> {
            self.0.prune(policy).await
        }
    }

    pub struct Fixture;

    #[async_trait]
    impl super::Fixture for Fixture {
        async fn fresh(&self) -> Arc<dyn Store> {
            Arc::new(Careless::default())
        }

        async fn reopen(&self, _store: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
            None
        }
    }
}

#[test]
fn a_store_without_compare_and_swap_is_caught() {
    let violations = block_on(conformance::check(&careless::Fixture)).unwrap_err();
    let cases: Vec<&str> = violations.0.iter().map(|violation| violation.case).collect();
    assert_eq!(cases, ["a step needs the revision that the row has"]);
}
