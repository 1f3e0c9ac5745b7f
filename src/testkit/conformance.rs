//! The suite that every store must pass.
//!
//! Implement [`Fixture`] for a store and call [`check`]; each case gets an
//! empty store. `tests/conformance.rs` of this crate is the example.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::lifecycle::{
    DeckyName, Failure, FailureKind, HostId, LifecycleId, MasterName, NameError, Operation, Owner, Phase,
    Record, RequestKey, Revision, Status, Timestamp,
};
use crate::store::{
    Annotate, Batch, Change, Entry, Feed, Insert, KeyClaim, Outcome, Overlap, Query, Refusal, Retention,
    Step, Store, StoreError,
};

/// Makes the stores that the suite checks.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// An empty store.
    async fn fresh(&self) -> Arc<dyn Store>;

    /// The same store, closed and opened again; none if it keeps nothing.
    async fn reopen(&self, store: Arc<dyn Store>) -> Option<Arc<dyn Store>>;
}

/// A case that a store did not pass.
#[derive(Debug, thiserror::Error)]
#[error("{case}: {what}")]
pub struct Violation {
    /// The case.
    pub case: &'static str,
    /// What was seen.
    pub what: String,
}

/// What a case came to.
type Checked<'f> = Pin<Box<dyn Future<Output = Result<(), Wrong>> + 'f>>;
type Case = for<'f> fn(&'f dyn Fixture) -> Checked<'f>;

/// Why a case did not pass.
struct Wrong(String);

impl From<StoreError> for Wrong {
    fn from(error: StoreError) -> Self {
        Self(format!("the store failed: {error}"))
    }
}

impl From<NameError> for Wrong {
    fn from(error: NameError) -> Self {
        Self(error.to_string())
    }
}

macro_rules! ensure {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(Wrong(format!($($what)+)));
        }
    };
}

/// Every case by its name.
const CASES: &[(&str, Case)] = &[
    ("an insert is readable and has the first revision", |f| Box::pin(inserts(f))),
    ("a step needs the revision that the row has", |f| Box::pin(compare_and_swap(f))),
    ("a closed row never changes", |f| Box::pin(terminal(f))),
    ("only legal steps are taken", |f| Box::pin(legal(f))),
    ("one refused change refuses an all-or-none batch", |f| Box::pin(all_or_none(f))),
    ("each change of a per-row batch stands for itself", |f| Box::pin(per_row(f))),
    ("one open row per decky, by policy", |f| Box::pin(overlap(f))),
    ("a key repeats its answer and refuses another request", |f| Box::pin(keys(f))),
    ("a cancel is noted once and keeps the status", |f| Box::pin(annotate(f))),
    ("the feed has every change once, in order", |f| Box::pin(feed(f))),
    ("queries filter, newest first", |f| Box::pin(queries(f))),
    ("due rows come by deadline", |f| Box::pin(due(f))),
    ("pages are stable under writes", |f| Box::pin(paging(f))),
    ("prune leaves open rows and compacts the feed", |f| Box::pin(prune(f))),
    ("everything is there after reopening", |f| Box::pin(reopens(f))),
    ("concurrent submitters get one revision each", |f| Box::pin(concurrent(f))),
    ("a dropped future lands wholly or not at all", |f| Box::pin(dropped(f))),
    ("values at their bounds come back whole", |f| Box::pin(bounds(f))),
];

/// The names of all cases.
pub fn case_names() -> impl Iterator<Item = &'static str> {
    CASES.iter().map(|(name, _)| *name)
}

/// Runs every case, each on an empty store, and gives all violations.
///
/// # Errors
/// The cases that the store did not pass.
pub async fn check(fixture: &dyn Fixture) -> Result<(), Violations> {
    let mut violations = Vec::new();
    for (case, run) in CASES {
        if let Err(Wrong(what)) = run(fixture).await {
            violations.push(Violation { case, what });
        }
    }
    if violations.is_empty() { Ok(()) } else { Err(Violations(violations)) }
}

/// All cases that a store did not pass.
#[derive(Debug)]
pub struct Violations(pub Vec<Violation>);

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|violation| writeln!(f, "{violation}"))
    }
}

impl std::error::Error for Violations {}

const T0: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

fn at(seconds: u64) -> Timestamp {
    T0.plus(Duration::from_secs(seconds))
}

fn decky(number: usize) -> Result<DeckyName, NameError> {
    DeckyName::parse(&format!("decky-{number:03}"))
}

/// A pending row made `number` seconds after the start, due an hour later.
fn row(number: usize, decky_number: usize) -> Result<Record, NameError> {
    let seconds = u64::try_from(number).unwrap_or(0);
    let mut tail = [0; 10];
    tail[2..].copy_from_slice(&seconds.to_be_bytes());
    Ok(Record {
        id: LifecycleId::from_parts(at(seconds), tail),
        decky: decky(decky_number)?,
        host: None,
        operation: Operation::Deploy,
        phase: Phase::Pending { deadline: at(seconds + 3_600) },
        owner: Owner { master: MasterName::parse("master")?, epoch: 1 },
        created_at: at(seconds),
        updated_at: at(seconds),
        cancel_requested_at: None,
        claimed_completion: None,
        key: None,
        revision: Revision::ZERO,
    })
}

fn insert(record: Record, overlap: Overlap) -> Change {
    Change::Insert(Box::new(Insert { record, overlap }))
}

fn started(record: &Record, seconds: u64) -> Record {
    let since = at(seconds);
    Record {
        phase: Phase::Running { since, deadline: at(seconds + 60) },
        updated_at: since,
        ..record.clone()
    }
}

fn ended(record: &Record, seconds: u64) -> Record {
    let since = record.running_since().unwrap_or(record.created_at);
    Record { phase: Phase::Succeeded { since, at: at(seconds) }, updated_at: at(seconds), ..record.clone() }
}

fn failed(record: &Record, seconds: u64, message: &str) -> Record {
    let failure = Failure::new(FailureKind::Engine, message);
    let phase = Phase::Failed { since: record.running_since(), at: at(seconds), failure };
    Record { phase, updated_at: at(seconds), ..record.clone() }
}

fn step(expected: Revision, next: Record) -> Change {
    Change::Step(Box::new(Step { expected, next }))
}

async fn one(store: &dyn Store, change: Change) -> Result<Outcome, Wrong> {
    let mut outcomes = store.commit(Batch::per_row(vec![change])).await?;
    ensure!(outcomes.len() == 1, "{} outcomes for one change", outcomes.len());
    outcomes.pop().ok_or_else(|| Wrong("no outcome".into()))
}

async fn applied(store: &dyn Store, change: Change) -> Result<Record, Wrong> {
    match one(store, change).await? {
        Outcome::Applied { record, .. } => Ok(*record),
        other => Err(Wrong(format!("a sound change gave {other:?}"))),
    }
}

async fn inserted(store: &dyn Store, number: usize, decky: usize) -> Result<Record, Wrong> {
    applied(store, insert(row(number, decky)?, Overlap::Reject)).await
}

async fn read_one(store: &dyn Store, id: LifecycleId) -> Result<Option<Record>, Wrong> {
    Ok(store.read(&[id]).await?.pop())
}

async fn entries(store: &dyn Store) -> Result<Vec<Entry>, Wrong> {
    match store.changes(Revision::ZERO, usize::MAX).await? {
        Feed::Entries { entries, .. } => Ok(entries),
        Feed::Compacted { oldest } => {
            Err(Wrong(format!("nothing was pruned, but the feed starts at {oldest}")))
        }
    }
}

async fn inserts(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let record = inserted(&*store, 1, 1).await?;
    ensure!(record.revision == Revision::new(1), "the first change has revision {}", record.revision);
    ensure!(read_one(&*store, record.id).await?.as_ref() == Some(&record), "the row reads back differently");
    let again = one(&*store, insert(record.clone(), Overlap::Allow)).await?;
    ensure!(
        matches!(again, Outcome::Refused(Refusal::Duplicate(id)) if id == record.id),
        "inserted twice: {again:?}"
    );
    let unknown = store.read(&[LifecycleId::from_u128(7), record.id]).await?;
    ensure!(unknown.len() == 1, "an unknown id was not left out");
    let running = store.commit(Batch::per_row(vec![insert(started(&row(2, 2)?, 3), Overlap::Reject)])).await;
    ensure!(matches!(running, Err(StoreError::Refused { .. })), "a running row was inserted: {running:?}");
    Ok(())
}

async fn compare_and_swap(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = inserted(&*store, 1, 1).await?;
    let second = applied(&*store, step(first.revision, started(&first, 2))).await?;
    ensure!(second.status() == Status::Running, "started, but {}", second.status());
    match one(&*store, step(first.revision, failed(&second, 3, "late"))).await? {
        Outcome::Refused(Refusal::Conflict(current)) => {
            ensure!(*current == second, "the conflict shows another row than the current one");
        }
        other => return Err(Wrong(format!("a step from an old revision gave {other:?}"))),
    }
    let missing = one(&*store, step(Revision::new(1), started(&row(9, 9)?, 10))).await?;
    ensure!(matches!(missing, Outcome::Refused(Refusal::Missing(_))), "a step of no row gave {missing:?}");
    Ok(())
}

async fn terminal(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = inserted(&*store, 1, 1).await?;
    let closed = applied(&*store, step(first.revision, failed(&first, 2, "no"))).await?;
    let back = Record { phase: started(&first, 3).phase, ..closed.clone() };
    for next in [back, failed(&closed, 4, "other"), ended(&closed, 5)] {
        let outcome = one(&*store, step(closed.revision, next)).await?;
        ensure!(
            matches!(outcome, Outcome::Refused(Refusal::Conflict(_))),
            "a closed row took a step: {outcome:?}"
        );
    }
    let note = Annotate { id: closed.id, cancel_requested_at: at(6) };
    let outcome = one(&*store, Change::Annotate(note)).await?;
    ensure!(
        matches!(outcome, Outcome::Refused(Refusal::Conflict(_))),
        "a closed row was annotated: {outcome:?}"
    );
    ensure!(read_one(&*store, closed.id).await?.as_ref() == Some(&closed), "a closed row has changed");
    Ok(())
}

async fn legal(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = inserted(&*store, 1, 1).await?;
    let moved = Record { decky: decky(2)?, ..started(&first, 2) };
    let early = Record { updated_at: at(0), ..started(&first, 2) };
    let other = Record { operation: Operation::Mutate, ..started(&first, 2) };
    for next in [ended(&first, 2), moved, early, other, first.clone()] {
        let outcome = one(&*store, step(first.revision, next.clone())).await?;
        ensure!(
            matches!(outcome, Outcome::Refused(Refusal::Conflict(_))),
            "an illegal step was taken: {next:?}"
        );
    }
    Ok(())
}

async fn all_or_none(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let held = inserted(&*store, 1, 1).await?;
    let changes = vec![insert(row(2, 2)?, Overlap::Reject), insert(row(3, 1)?, Overlap::Reject)];
    let outcomes = store.commit(Batch::all_or_none(changes)).await?;
    ensure!(
        matches!(
            outcomes.as_slice(),
            [Outcome::Refused(Refusal::Together), Outcome::Refused(Refusal::Busy { .. })]
        ),
        "a torn all-or-none batch gave {outcomes:?}"
    );
    ensure!(store.query(&Query::new()).await?.records == [held], "part of a refused batch is in the store");
    ensure!(entries(&*store).await?.len() == 1, "part of a refused batch is in the feed");
    let next = inserted(&*store, 4, 2).await?;
    ensure!(
        next.revision == Revision::new(2),
        "a refused batch used up revisions: next is {}",
        next.revision
    );
    Ok(())
}

async fn per_row(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    inserted(&*store, 1, 1).await?;
    let changes = vec![insert(row(2, 1)?, Overlap::Reject), insert(row(3, 2)?, Overlap::Reject)];
    let outcomes = store.commit(Batch::per_row(changes)).await?;
    ensure!(
        matches!(outcomes.as_slice(), [Outcome::Refused(Refusal::Busy { .. }), Outcome::Applied { .. }]),
        "a per-row batch gave {outcomes:?}"
    );
    ensure!(store.query(&Query::new()).await?.records.len() == 2, "the good change did not count");
    Ok(())
}

async fn overlap(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = inserted(&*store, 1, 1).await?;
    match one(&*store, insert(row(2, 1)?, Overlap::Reject)).await? {
        Outcome::Refused(Refusal::Busy { open, .. }) => ensure!(open == [first.id], "busy names {open:?}"),
        other => return Err(Wrong(format!("a second open row: {other:?}"))),
    }
    let both = vec![insert(row(3, 7)?, Overlap::Reject), insert(row(4, 7)?, Overlap::Reject)];
    let outcomes = store.commit(Batch::per_row(both)).await?;
    ensure!(matches!(outcomes.last(), Some(Outcome::Refused(_))), "two open rows in one batch: {outcomes:?}");
    match one(&*store, insert(row(5, 1)?, Overlap::Supersede)).await? {
        Outcome::Applied { superseded, .. } => {
            let kinds: Vec<_> =
                superseded.iter().filter_map(|row| row.failure().map(Failure::kind)).collect();
            ensure!(kinds == [FailureKind::Superseded], "superseding gave {superseded:?}");
            let read = read_one(&*store, first.id).await?;
            ensure!(read.as_ref() == superseded.first(), "the superseded row reads back differently");
        }
        other => return Err(Wrong(format!("superseding gave {other:?}"))),
    }
    applied(&*store, insert(row(6, 1)?, Overlap::Allow)).await?;
    let open = store.query(&Query::new().decky(decky(1)?).open()).await?.records;
    ensure!(open.len() == 2, "allow leaves {} open rows", open.len());
    Ok(())
}

async fn keys(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let claim =
        |hash| -> Result<_, Wrong> { Ok(Some(KeyClaim { key: RequestKey::parse("k")?, hash: [hash; 32] })) };
    let keyed = |number| -> Result<_, Wrong> {
        let record = Record { key: Some(RequestKey::parse("k")?), ..row(number, number)? };
        Ok(vec![insert(record, Overlap::Reject)])
    };
    let first = store.commit(Batch::all_or_none(keyed(1)?).with_key(claim(1)?)).await?;
    let [Outcome::Applied { record, .. }] = first.as_slice() else {
        return Err(Wrong(format!("a keyed insert gave {first:?}")));
    };
    let again = store.commit(Batch::all_or_none(keyed(2)?).with_key(claim(1)?)).await?;
    ensure!(
        matches!(again.as_slice(), [Outcome::Repeated(id)] if *id == record.id),
        "a repeat gave {again:?}"
    );
    let other = store.commit(Batch::all_or_none(keyed(3)?).with_key(claim(2)?)).await?;
    ensure!(
        matches!(other.as_slice(), [Outcome::Refused(Refusal::KeyTaken(_))]),
        "another request under the key gave {other:?}"
    );
    ensure!(store.query(&Query::new()).await?.records.len() == 1, "a repeat made a row");
    applied(&*store, step(record.revision, failed(record, 5, "x"))).await?;
    store.prune(&Retention::closed_before(at(1_000))).await?;
    let anew = store.commit(Batch::all_or_none(keyed(4)?).with_key(claim(2)?)).await?;
    ensure!(matches!(anew.as_slice(), [Outcome::Applied { .. }]), "the key outlived its last row: {anew:?}");
    Ok(())
}

async fn annotate(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = inserted(&*store, 1, 1).await?;
    let note = |seconds| Change::Annotate(Annotate { id: first.id, cancel_requested_at: at(seconds) });
    let noted = applied(&*store, note(5)).await?;
    ensure!(noted.cancel_requested_at == Some(at(5)), "the note is not kept");
    ensure!(noted.status() == Status::Pending && noted.revision > first.revision, "the note gave {noted:?}");
    let twice = applied(&*store, note(6)).await?;
    ensure!(twice == noted, "a second note changed the row: {twice:?}");
    let old = one(&*store, step(first.revision, started(&first, 7))).await?;
    ensure!(matches!(old, Outcome::Refused(Refusal::Conflict(_))), "a step missed the note: {old:?}");
    applied(&*store, step(noted.revision, started(&noted, 7))).await?;
    Ok(())
}

async fn feed(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let mut records = Vec::new();
    for number in 1..=10 {
        records.push(inserted(&*store, number, number).await?);
    }
    for record in records {
        applied(&*store, step(record.revision, started(&record, 20))).await?;
    }
    let all = entries(&*store).await?;
    let revisions: Vec<u64> = all.iter().map(|entry| entry.revision.get()).collect();
    ensure!(revisions == (1..=20).collect::<Vec<u64>>(), "the feed has revisions {revisions:?}");
    match store.changes(Revision::new(5), 3).await? {
        Feed::Entries { entries, head } => {
            ensure!(all.get(5..8) == Some(&entries[..]), "a stretch of the feed is {entries:?}");
            ensure!(head == Revision::new(20), "the head is {head}");
        }
        Feed::Compacted { oldest } => return Err(Wrong(format!("compacted to {oldest} without a prune"))),
    }
    let last = all.last().map(|entry| (entry.status, entry.at));
    ensure!(last == Some((Status::Running, at(20))), "the last entry says {last:?}");
    ensure!(
        matches!(store.changes(Revision::new(20), 9).await?, Feed::Entries { entries, .. } if entries.is_empty()),
        "there is something after the head"
    );
    Ok(())
}

async fn queries(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let host = HostId::parse("worker-1")?;
    let mut ids = Vec::new();
    for number in 1..=6 {
        let mut record = row(number, number.div_ceil(2))?;
        record.host = (number % 2 == 0).then(|| host.clone());
        let record = applied(&*store, insert(record, Overlap::Allow)).await?;
        if number <= 3 {
            applied(&*store, step(record.revision, failed(&record, 50, "x"))).await?;
        }
        ids.push(record.id);
    }
    let cases = [
        (Query::new(), vec![5, 4, 3, 2, 1, 0]),
        (Query::new().open(), vec![5, 4, 3]),
        (Query::new().decky(decky(2)?), vec![3, 2]),
        (Query::new().decky(decky(2)?).open(), vec![3]),
        (Query::new().host(host), vec![5, 3, 1]),
        (Query::new().status(Status::Failed), vec![2, 1, 0]),
        (Query::new().status(Status::Pending), vec![5, 4, 3]),
        (Query::new().operation(Operation::Mutate), vec![]),
    ];
    for (query, wanted) in cases {
        let found: Vec<LifecycleId> = store.query(&query).await?.records.iter().map(|row| row.id).collect();
        let wanted: Vec<LifecycleId> =
            wanted.into_iter().filter_map(|place: usize| ids.get(place).copied()).collect();
        ensure!(found == wanted, "{query:?} gave {found:?} instead of {wanted:?}");
    }
    Ok(())
}

async fn due(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let late = inserted(&*store, 1, 1).await?;
    let early = inserted(&*store, 2, 2).await?;
    let early = applied(&*store, step(early.revision, started(&early, 3))).await?;
    let closed = inserted(&*store, 3, 3).await?;
    applied(&*store, step(closed.revision, failed(&closed, 4, "x"))).await?;
    let found = |seconds| {
        let (store, query) = (Arc::clone(&store), Query::new().due_by(at(seconds)));
        async move { Ok::<_, Wrong>(store.query(&query).await?.records.iter().map(|r| r.id).collect::<Vec<_>>()) }
    };
    ensure!(found(62).await?.is_empty(), "something is due before its deadline");
    ensure!(found(63).await? == [early.id], "a row is not due at its deadline");
    ensure!(found(10_000).await? == [early.id, late.id], "due rows are not in the order of their deadlines");
    let first = store.query(&Query::new().due_by(at(10_000)).limit(1)).await?;
    let second = store.query(&Query::new().due_by(at(10_000)).limit(1).after(first.next)).await?;
    ensure!(second.records.iter().map(|row| row.id).eq([late.id]), "the second page of due rows is wrong");
    ensure!(second.next.is_none(), "the last page of due rows has a next one");
    Ok(())
}

async fn paging(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    for number in 10..30 {
        inserted(&*store, number, number).await?;
    }
    for query in [Query::new().limit(7), Query::new().open().limit(7)] {
        let mut seen = Vec::new();
        let mut after = None;
        let newer = store.query(&Query::new()).await?.records.len();
        loop {
            let page = store.query(&query.clone().after(after)).await?;
            seen.extend(page.records.iter().map(|row| row.id));
            // A newer row may not shift what comes after the cursor.
            inserted(&*store, 100 + newer + seen.len(), 100 + newer + seen.len()).await?;
            after = page.next;
            if after.is_none() {
                break;
            }
            let text = after.map(|cursor| cursor.to_string()).unwrap_or_default();
            ensure!(text.parse().ok() == after, "a cursor does not survive as text: {text}");
        }
        ensure!(seen.len() == newer, "{} rows seen of {newer}", seen.len());
        ensure!(seen.is_sorted_by(|a, b| a > b), "pages are not newest first");
    }
    Ok(())
}

async fn prune(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let open = inserted(&*store, 1, 1).await?;
    for number in 2..=6 {
        let record = inserted(&*store, number, number).await?;
        applied(
            &*store,
            step(record.revision, failed(&record, 10 * u64::try_from(number).unwrap_or(0), "x")),
        )
        .await?;
    }
    let head = entries(&*store).await?.len();
    let pruned = store.prune(&Retention::closed_before(at(40)).limit(1)).await?;
    ensure!(pruned.rows == 1 && pruned.more, "a bounded prune gave {pruned:?}");
    let pruned = store.prune(&Retention::closed_before(at(40))).await?;
    ensure!(pruned.rows == 1 && !pruned.more, "rows closed at 20 and 30 of 20..=60: {pruned:?}");
    let left = store.query(&Query::new()).await?.records;
    ensure!(left.len() == 4 && left.iter().any(|row| row.id == open.id), "prune left {left:?}");
    match store.changes(Revision::ZERO, 100).await? {
        Feed::Compacted { oldest } => {
            let before = Revision::new(oldest.get() - 1);
            let Feed::Entries { entries, .. } = store.changes(before, 100).await? else {
                return Err(Wrong("the feed can't be read from its oldest entry".into()));
            };
            ensure!(
                entries.first().map(|entry| entry.revision) == Some(oldest),
                "the oldest entry is missing"
            );
            ensure!(
                entries.iter().all(|entry| entry.at >= at(40) || entry.revision > oldest),
                "pruned too little"
            );
        }
        Feed::Entries { .. } => return Err(Wrong("pruned entries are read as if there were none".into())),
    }
    let all = store.prune(&Retention::closed_before(at(10_000))).await?;
    ensure!(all.rows == 3, "the closed rows left were {}", all.rows);
    ensure!(read_one(&*store, open.id).await?.is_some(), "an open row was pruned");
    let next = inserted(&*store, 200, 200).await?;
    ensure!(
        next.revision.get() == u64::try_from(head).unwrap_or(0) + 1,
        "pruning reused revision {}",
        next.revision
    );
    Ok(())
}

async fn reopens(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = inserted(&*store, 1, 1).await?;
    let second = inserted(&*store, 2, 2).await?;
    applied(&*store, step(second.revision, started(&second, 3))).await?;
    let rows = store.query(&Query::new()).await?;
    let feed = entries(&*store).await?;
    let Some(store) = fixture.reopen(store).await else {
        return Ok(());
    };
    ensure!(store.query(&Query::new()).await? == rows, "other rows after reopening");
    ensure!(entries(&*store).await? == feed, "another feed after reopening");
    let open = store.query(&Query::new().decky(first.decky.clone()).open()).await?.records;
    ensure!(open.len() == 1, "the index of open rows is lost");
    let next = inserted(&*store, 3, 3).await?;
    ensure!(next.revision == Revision::new(4), "reopening changed the next revision to {}", next.revision);
    Ok(())
}

async fn concurrent(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let mut submitted = Vec::new();
    for number in 0..200 {
        let store = Arc::clone(&store);
        let batch = Batch::all_or_none(vec![insert(row(number, number % 50)?, Overlap::Reject)]);
        submitted.push(Box::pin(async move { store.commit(batch).await }));
    }
    let mut outcomes = Vec::new();
    std::future::poll_fn(|cx| {
        submitted.retain_mut(|commit| match commit.as_mut().poll(cx) {
            std::task::Poll::Ready(result) => {
                outcomes.push(result);
                false
            }
            std::task::Poll::Pending => true,
        });
        if submitted.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    let mut applied = 0;
    for outcome in outcomes {
        applied += outcome?.iter().filter(|outcome| matches!(outcome, Outcome::Applied { .. })).count();
    }
    ensure!(applied == 50, "{applied} open rows for 50 deckies");
    let revisions: Vec<u64> = entries(&*store).await?.iter().map(|entry| entry.revision.get()).collect();
    ensure!(revisions == (1..=50).collect::<Vec<u64>>(), "revisions are {revisions:?}");
    Ok(())
}

async fn dropped(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    for number in 0..40 {
        let pair = vec![
            insert(row(2 * number, 2 * number)?, Overlap::Reject),
            insert(row(2 * number + 1, 2 * number + 1)?, Overlap::Reject),
        ];
        let mut commit = Box::pin(store.commit(Batch::all_or_none(pair)));
        // One poll at most hands the batch over; then nobody waits for it.
        let _ = futures_lite::future::poll_once(&mut commit).await;
    }
    inserted(&*store, 900, 900).await?;
    let rows = store.query(&Query::new().limit(1_000)).await?.records;
    ensure!(rows.len() % 2 == 1, "half of a batch is in the store: {} rows", rows.len());
    let revisions: Vec<u64> = entries(&*store).await?.iter().map(|entry| entry.revision.get()).collect();
    let dense: Vec<u64> = (1..=u64::try_from(rows.len()).unwrap_or(0)).collect();
    ensure!(revisions == dense, "dropped futures left a gap in the feed: {revisions:?}");
    Ok(())
}

async fn bounds(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let mut record = row(1, 1)?;
    record.decky = DeckyName::parse(&"d".repeat(64))?;
    record.host = Some(HostId::parse(&"h".repeat(64))?);
    record.key = Some(RequestKey::parse(&"k".repeat(128))?);
    record.owner.epoch = u64::MAX;
    let first = applied(&*store, insert(record, Overlap::Reject)).await?;
    let message = "\u{1f41d}".repeat(10_000);
    let closed = applied(&*store, step(first.revision, failed(&first, 2, &message))).await?;
    ensure!(
        read_one(&*store, closed.id).await?.as_ref() == Some(&closed),
        "a large row reads back differently"
    );
    let many: Result<Vec<Change>, NameError> =
        (0..=Batch::MAX_CHANGES).map(|_| Ok(insert(row(2, 2)?, Overlap::Allow))).collect();
    let refused = store.commit(Batch::per_row(many?)).await;
    ensure!(matches!(refused, Err(StoreError::Refused { .. })), "a batch over the bound was taken");
    Ok(())
}
