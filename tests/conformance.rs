//! The stores pass the public conformance suite, and broken ones don't.

use std::sync::Arc;

use async_trait::async_trait;
use decnet_lifecycle::testkit::conformance::{self, Fixture};
use decnet_lifecycle::{Batch, Change, Insert, MemoryStore, Overlap, RedbStore, Store};
use futures_lite::future::block_on;
use toy::{Fault, Toy};

mod toy;

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

/// A toy store with something wrong in it, which may also forget on reopening.
struct Broken {
    fault: Fault,
    forgets: Option<Forgets>,
}

#[derive(Clone, Copy)]
enum Forgets {
    Everything,
    TheLastChange,
    Placements,
}

#[async_trait]
impl Fixture for Broken {
    async fn fresh(&self) -> Arc<dyn Store> {
        Arc::new(Toy::new(self.fault))
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        let reopened = Toy::new(self.fault);
        if matches!(self.forgets?, Forgets::Placements) {
            reopened.without_placements(&*store).await;
        }
        if matches!(self.forgets?, Forgets::TheLastChange) {
            // What an unsynced log gives: all inserts, none of the steps.
            let rows = store.query(&decnet_lifecycle::Query::new()).await.unwrap().records;
            for row in rows.into_iter().rev() {
                let phase = decnet_lifecycle::Phase::Pending { deadline: row.created_at };
                let record = decnet_lifecycle::Record { phase, updated_at: row.created_at, ..row };
                let insert = Insert::new(record, Overlap::Reject);
                let _ =
                    reopened.commit(Batch::per_row(vec![Change::Insert(Box::new(insert))])).await.unwrap();
            }
        }
        Some(Arc::new(reopened))
    }
}

#[test]
fn the_toy_store_conforms_while_nothing_is_wrong_with_it() {
    block_on(conformance::check(&Broken { fault: Fault::None, forgets: None })).unwrap();
}

#[test]
fn each_broken_store_is_caught_by_the_case_meant_for_it() {
    use Fault::*;
    let swap = "a step needs the revision that the row has";
    let together = "one refused change refuses an all-or-none batch";
    let keys = "a key repeats its answer and refuses another request";
    let feed = "the feed has every change once, in order";
    let prune = "prune leaves open rows and compacts the feed";
    let overlap = "one open row per decky, by policy";
    let reopen = "everything is there after reopening";
    let noted = "a row notes what it is to bring about, and that it was begun";
    let succeeds = "what succeeded is as tried, and names its row";
    let unknown = "what nobody knows the end of leaves its decky unsure";
    let superseded = "what was superseded leaves its decky unsure once it ran";
    let clash = "a clash refuses a request whole";
    let taken_over = "deckies are taken over and forgotten without a row";
    let found = "placements are found all, by decky, and by home";
    let cases = [
        (LostCompareAndSwap, Option::None, swap),
        (ClosedRowsMove, Option::None, "a closed row never changes"),
        (AnyStepIsLegal, Option::None, "only legal steps are taken"),
        (TornBatch, Option::None, together),
        (RefusedUsesRevisions, Option::None, together),
        (OneRefusedRefusesAll, Option::None, "each change of a per-row batch stands for itself"),
        (SecondOpenRow, Option::None, overlap),
        (SupersededStaysOpen, Option::None, overlap),
        (ForgetsKeys, Option::None, keys),
        (KeysIgnoreTheRequest, Option::None, keys),
        (KeyOutlivesItsRows, Option::None, keys),
        (SecondCancelCounts, Option::None, "a cancel is noted once and keeps the status"),
        (ReusedRevision, Option::None, feed),
        (GapInFeed, Option::None, feed),
        (FeedBackwards, Option::None, feed),
        (ClosedStaysInOpenIndex, Option::None, "queries filter, newest first"),
        (DeadlineIndexNotUpdated, Option::None, "due rows come by deadline"),
        (CursorRowTwice, Option::None, "pages are stable under writes"),
        (PruneTakesOpenRows, Option::None, prune),
        (PruneReusesRevisions, Option::None, prune),
        (PruneLeavesFeedUnmarked, Option::None, prune),
        (InsertNotReadable, Option::None, "an insert is readable and has the first revision"),
        (HalfABatchIfDropped, Option::None, "a dropped future lands wholly or not at all"),
        (LostUpdates, Option::None, "concurrent submitters get one revision each"),
        (CutsLongTexts, Option::None, "values at their bounds come back whole"),
        (NoBound, Option::None, "values at their bounds come back whole"),
        (NotesNothing, Option::None, noted),
        (NeverBegins, Option::None, noted),
        (SuccessChangesNothing, Option::None, succeeds),
        (UpNamesNoRow, Option::None, succeeds),
        (TornDownStays, Option::None, succeeds),
        (FailedIsAsTried, Option::None, "what failed for certain leaves all as it was"),
        (LostIsAsBefore, Option::None, unknown),
        (UnsureFreesItsAddress, Option::None, unknown),
        (SupersededIsUnsure, Option::None, superseded),
        (SupersededIsAsBefore, Option::None, superseded),
        (SharesAddresses, Option::None, clash),
        (PlacesTwice, Option::None, clash),
        (MixesEngines, Option::None, clash),
        (SplitsNetworks, Option::None, "a network changes with all of its deckies or not at all"),
        (MoveIsBusy, Option::None, "a decky moves in one batch"),
        (PlaceOverwrites, Option::None, taken_over),
        (PlacesForUnknownRows, Option::None, taken_over),
        (ForgetsTheBusy, Option::None, taken_over),
        (AtForgetsTheUnsure, Option::None, found),
        (PlacementsUnsorted, Option::None, found),
        (RefusedChangesPlacements, Option::None, "a refused batch leaves placements as they were"),
        (PruneTakesPlacedRows, Option::None, "prune leaves rows that placements name"),
        (EffectWithoutRevision, Option::None, "a row and its effect share a revision"),
        (Fault::None, Some(Forgets::Placements), "placements are there after reopening"),
        (Fault::None, Some(Forgets::Everything), reopen),
        (Fault::None, Some(Forgets::TheLastChange), reopen),
    ];
    let mut escaped = Vec::new();
    for (fault, forgets, case) in cases {
        let caught = match block_on(conformance::check(&Broken { fault, forgets })) {
            Ok(()) => Vec::new(),
            Err(violations) => violations.0.iter().map(|violation| violation.case).collect(),
        };
        if !caught.contains(&case) {
            escaped.push(format!("{fault:?} was not caught by {case:?}, only by {caught:?}"));
        }
    }
    assert!(escaped.is_empty(), "{}", escaped.join("\n"));
}
