//! The stores pass the public conformance suite, and broken ones don't.

use std::sync::Arc;

use async_trait::async_trait;
use decnet_lifecycle::placement::{Aim, Placed};
use decnet_lifecycle::testkit::conformance::{self, Fixture};
use decnet_lifecycle::testkit::{Breach, Invariants};
use decnet_lifecycle::{
    decide::{Batch, Change, Insert, Outcome, Step},
    lifecycle::{MasterName, Owner, Phase, Revision},
    placement::{Placement, Standing},
    store::{MemoryStore, Query, RedbStore, Retention, Store},
    *,
};
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
            let rows = store.query(&Query::new()).await.unwrap().records;
            for row in rows.into_iter().rev() {
                let phase = Phase::Pending { deadline: row.created_at };
                let record = Record { phase, updated_at: row.created_at, ..row };
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
        (
            AcceptsOnWhatWas,
            Option::None,
            "a row that was decided on what is placed is refused once that is otherwise",
        ),
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

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_767_225_600_000_000).plus(std::time::Duration::from_secs(seconds))
}

fn placed(decky: &str, ip: u8) -> Arc<Placed> {
    let fleet = serde_json::json!({
        "mode": "swarm", "interface": "eth0", "subnet": "192.0.2.0/24", "gateway": "192.0.2.1",
        "deckies": [{
            "name": decky, "ip": format!("192.0.2.{ip}"), "services": ["ssh"], "distro": "debian",
            "base_image": "debian:12", "hostname": "srv", "host_uuid": "w1",
        }],
    });
    let fleet = FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap();
    Arc::new(Placed::new(&fleet, &fleet.deckies[0], &MasterName::parse("m").unwrap(), None))
}

/// Brings deckies up, loses one, and asks for what can't be; checks after each
/// step.
async fn some_work(store: &dyn Store) -> Result<(), Breach> {
    let mut invariants = Invariants::new();
    for (number, (decky, ip, end)) in
        (1..).zip([("b", 11, true), ("a", 12, true), ("c", 11, true), ("d", 13, false)])
    {
        let mut record = Record {
            id: LifecycleId::from_parts(at(number), [7; 10]),
            decky: DeckyName::parse(decky).unwrap(),
            host: Some(HostId::parse("w1").unwrap()),
            operation: Operation::Deploy,
            phase: Phase::Pending { deadline: at(900) },
            owner: Owner { master: MasterName::parse("m").unwrap(), epoch: 1 },
            created_at: at(number),
            updated_at: at(number),
            cancel_requested_at: None,
            claimed_completion: None,
            key: None,
            revision: Revision::ZERO,
        };
        let since = at(number + 1);
        let lost = Failure::new(FailureKind::WorkerLost, "no beat");
        let ended = match end {
            true => Phase::Succeeded { since, at: since },
            false => Phase::Failed { since: Some(since), at: since, failure: lost },
        };
        let insert = Insert::new(record.clone(), Overlap::Reject).aim(Aim::Up(placed(decky, ip)));
        let mut change = Change::Insert(Box::new(insert));
        for phase in [Phase::Running { since, deadline: at(900) }, ended.clone(), ended] {
            if let Some(Outcome::Applied { record: now, .. }) =
                store.commit(Batch::per_row(vec![change])).await?.pop()
            {
                record = *now;
            }
            invariants.check(store).await?;
            let next = Record { phase, updated_at: since, ..record.clone() };
            change = Change::Step(Box::new(Step::new(record.revision, next)));
        }
    }
    while store.prune(&Retention::closed_before(at(9_000))).await?.more {}
    invariants.check(store).await?;
    let standing = Standing::Up { placed: placed("e", 15), row: Some(LifecycleId::from_u128(5)) };
    let decky = DeckyName::parse("e").unwrap();
    let unknown = Placement::from_parts(decky, standing, std::collections::BTreeMap::new(), Revision::ZERO);
    let _ = store.commit(Batch::per_row(vec![Change::Place(Box::new(unknown))])).await?;
    invariants.check(store).await
}

#[test]
fn the_invariants_see_what_is_wrong_with_placements() {
    for store in [&MemoryStore::new() as &dyn Store, &Toy::new(Fault::None)] {
        block_on(some_work(store)).unwrap();
    }
    for (fault, says) in [
        (Fault::NeverBegins, "its placement says begun"),
        (Fault::SuccessChangesNothing, "is not placed"),
        (Fault::SharesAddresses, "192.0.2.11 is that of"),
        (Fault::EffectWithoutRevision, "no row of it changed with it"),
        (Fault::AtForgetsTheUnsure, "At(Host("),
        (Fault::PlacementsUnsorted, "not listed by name"),
        (Fault::PruneTakesPlacedRows, "which is not there"),
        (Fault::PlacesForUnknownRows, "which is not there"),
    ] {
        let seen = block_on(some_work(&Toy::new(fault))).err().map(|breach| breach.to_string());
        assert!(seen.as_ref().is_some_and(|seen| seen.contains(says)), "{fault:?}: {seen:?}");
    }
}
