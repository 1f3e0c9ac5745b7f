use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::lifecycle::{DeckyName, LifecycleId, Operation, Record, Revision, Status, Timestamp};
use crate::store::{Entry, Feed, Query, Store, StoreError};

use super::Witness;
use super::placed::{PlacementsSeen, Standings};

/// What must hold of a store after every step, checked from outside.
///
/// Keep one for as long as the store lives, and call [`check`](Self::check)
/// as often as you like while nothing writes. It remembers what it saw:
///
/// - every revision is in the feed once, in order; the feed has no gap and is
///   not compacted before it was seen;
/// - each row takes legal steps only, and a closed row never changes;
/// - a row says what the feed last said of it, and open rows don't vanish;
/// - one open row for each decky, or a teardown and the deploy that it makes
///   room for;
/// - open, due, by decky and by id: every way to a row agrees with the rows;
/// - a placement names only rows that there are: what is up, one that
///   succeeded, what is unsure, one that failed, what is tried, open ones;
/// - each address belongs to one decky, or to one that is being taken down and
///   its heir;
/// - a row and what it made of its decky are one change, and all ways to a
///   placement agree.
///
/// With a [`Witness`] also what went in and out of the store: see there.
///
/// ```
/// use decnet_lifecycle::{MemoryStore, testkit::Invariants};
///
/// let store = MemoryStore::new();
/// let mut invariants = Invariants::new();
/// futures_lite::future::block_on(invariants.check(&store))?;
/// # Ok::<(), decnet_lifecycle::testkit::Breach>(())
/// ```
#[derive(Debug, Default)]
pub struct Invariants {
    after: Revision,
    last: BTreeMap<LifecycleId, Entry>,
    closed: BTreeMap<LifecycleId, Record>,
    overlaps: bool,
    shared_addresses: bool,
    placements: PlacementsSeen,
    witness: Option<Arc<Witness>>,
}

/// An invariant that does not hold, or a store that could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Breach(pub String);

impl From<StoreError> for Breach {
    fn from(error: StoreError) -> Self {
        Self(format!("the store could not be read: {error}"))
    }
}

macro_rules! hold {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err($crate::testkit::Breach(format!($($what)+)));
        }
    };
}
pub(super) use hold;

impl Invariants {
    /// Of a store that is looked at for the first time. Nothing may have been
    /// pruned from it yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a decky have several open rows: for stores whose callers insert
    /// with [`Overlap::Allow`](crate::Overlap::Allow).
    #[must_use]
    pub const fn allowing_overlap(mut self) -> Self {
        self.overlaps = true;
        self
    }

    /// Lets two deckies stand on one address: for stores whose callers let
    /// deckies of one batch exchange addresses, and then end them one by one.
    #[must_use]
    pub const fn allowing_shared_addresses(mut self) -> Self {
        self.shared_addresses = true;
        self
    }

    /// Also checks what this witness saw.
    #[must_use]
    pub fn with_witness(mut self, witness: Arc<Witness>) -> Self {
        self.witness = Some(witness);
        self
    }

    /// Checks everything, against what earlier checks saw.
    ///
    /// # Errors
    /// The first [`Breach`] found.
    pub async fn check(&mut self, store: &dyn Store) -> Result<(), Breach> {
        let steps = self.follow_feed(store).await?;
        let rows = all(store, &Query::new()).await?;
        self.check_rows(&rows)?;
        check_indexes(store, &rows).await?;
        let standing = Standings { rows: &rows, steps: &steps, share: self.shared_addresses };
        self.placements.check(store, &standing).await?;
        if let Some(witness) = &self.witness {
            for entry in &steps {
                if entry.status == Status::Succeeded {
                    hold!(witness.has_evidence(entry), "row {} succeeded without evidence", entry.id);
                }
            }
            hold!(witness.breaches().is_empty(), "{}", witness.breaches().join("; "));
        }
        Ok(())
    }

    /// Checks that no open row is due at this time; for right after a sweep
    /// that left nothing.
    ///
    /// # Errors
    /// A [`Breach`] that names the first such row.
    pub async fn check_swept(&self, store: &dyn Store, now: Timestamp) -> Result<(), Breach> {
        for row in all(store, &Query::new().open()).await? {
            let due = row.deadline().is_some_and(|deadline| deadline <= now);
            hold!(!due, "row {} is {} and past its deadline after a sweep", row.id, row.status());
        }
        Ok(())
    }

    async fn follow_feed(&mut self, store: &dyn Store) -> Result<Vec<Entry>, Breach> {
        let mut steps = Vec::new();
        loop {
            let (entries, head) = match store.changes(self.after, 1_000).await? {
                Feed::Entries { entries, head } => (entries, head),
                Feed::Compacted { oldest } => {
                    return Err(Breach(format!(
                        "the feed starts at {oldest}, seen was up to {}",
                        self.after
                    )));
                }
            };
            hold!(head >= self.after, "the head went back from {} to {head}", self.after);
            if entries.is_empty() {
                hold!(head == self.after, "the feed ends at {}, its head is {head}", self.after);
                return Ok(steps);
            }
            for entry in entries {
                let next = self.after.next();
                hold!(entry.revision == next, "revision {} follows {}", entry.revision, self.after);
                legal(self.last.get(&entry.id), &entry)?;
                self.after = next;
                self.last.insert(entry.id, entry.clone());
                steps.push(entry);
            }
        }
    }

    fn check_rows(&mut self, rows: &[Record]) -> Result<(), Breach> {
        let mut ids = BTreeSet::new();
        let mut open: BTreeMap<&DeckyName, &Record> = BTreeMap::new();
        for row in rows {
            hold!(ids.insert(row.id), "row {} is listed twice", row.id);
            let Some(entry) = self.last.get(&row.id) else {
                return Err(Breach(format!("row {} was never in the feed", row.id)));
            };
            hold!(*entry == Entry::of(row), "the feed last said {entry:?} of {row:?}");
            if row.is_open() {
                hold!(!self.closed.contains_key(&row.id), "row {} is open again", row.id);
                // Newest first: a decky that moves is taken down first.
                if let Some(newer) = open.insert(&row.decky, row) {
                    let moves = (row.operation, newer.operation) == (Operation::Teardown, Operation::Deploy);
                    let (decky, newer) = (&row.decky, newer.id);
                    hold!(self.overlaps || moves, "decky {decky} has two open rows, {} and {newer}", row.id);
                }
            } else {
                let before = self.closed.entry(row.id).or_insert_with(|| row.clone());
                hold!(before == row, "closed row {before:?} has become {row:?}");
            }
        }
        for (id, entry) in &self.last {
            hold!(!entry.status.is_open() || ids.contains(id), "open row {id} has vanished");
        }
        // What was pruned is not to be remembered for ever.
        self.last.retain(|id, _| ids.contains(id));
        self.closed.retain(|id, _| ids.contains(id));
        Ok(())
    }
}

/// Whether an entry may follow the last one of the same row.
fn legal(before: Option<&Entry>, entry: &Entry) -> Result<(), Breach> {
    use Status::{Failed, Pending, Running, Succeeded};
    let Some(before) = before else {
        hold!(entry.status == Pending, "row {} starts as {}", entry.id, entry.status);
        return Ok(());
    };
    let noted = before.status.is_open() && !before.cancel_requested && entry.cancel_requested;
    let legal = match (before.status, entry.status) {
        (Pending, Pending) | (Running, Running) => noted,
        (Pending, Running | Failed) | (Running, Succeeded | Failed) => {
            before.cancel_requested == entry.cancel_requested
        }
        _ => false,
    };
    hold!(legal, "row {} went from {before:?} to {entry:?}", entry.id);
    let same = before.decky == entry.decky
        && before.host == entry.host
        && before.operation == entry.operation
        && before.at <= entry.at;
    hold!(same, "row {} has changed what it is: {before:?}, {entry:?}", entry.id);
    hold!(
        (entry.status == Failed) == entry.failure.is_some(),
        "row {} is {} with failure {:?}",
        entry.id,
        entry.status,
        entry.failure
    );
    Ok(())
}

/// Whether every way to a row leads to the rows that there are.
async fn check_indexes(store: &dyn Store, rows: &[Record]) -> Result<(), Breach> {
    hold!(rows.is_sorted_by(|a, b| a.id > b.id), "rows are not listed newest first");
    let open: Vec<Record> = rows.iter().filter(|row| row.is_open()).cloned().collect();
    let listed = all(store, &Query::new().open()).await?;
    hold!(listed == open, "the open rows are {open:?}, listed are {listed:?}");
    let mut due = open;
    due.sort_by_key(|row| (row.deadline(), row.id));
    let listed = all(store, &Query::new().due_by(Timestamp::from_micros(i64::MAX))).await?;
    hold!(listed == due, "by deadline the open rows are {due:?}, listed are {listed:?}");
    let deckies: BTreeSet<&DeckyName> = rows.iter().map(|row| &row.decky).collect();
    for decky in deckies {
        let own: Vec<Record> = rows.iter().filter(|row| row.decky == *decky).cloned().collect();
        let listed = all(store, &Query::new().decky(decky.clone())).await?;
        hold!(listed == own, "the rows of {decky} are {own:?}, listed are {listed:?}");
        let open: Vec<Record> = own.into_iter().filter(Record::is_open).collect();
        let listed = all(store, &Query::new().decky(decky.clone()).open()).await?;
        hold!(listed == open, "the open rows of {decky} are {open:?}, listed are {listed:?}");
    }
    let ids: Vec<LifecycleId> = rows.iter().map(|row| row.id).collect();
    let mut read = store.read(&ids).await?;
    read.reverse();
    hold!(read == rows, "rows read by id differ from those listed");
    Ok(())
}

/// Every row of a query, page by page.
pub(super) async fn all(store: &dyn Store, query: &Query) -> Result<Vec<Record>, Breach> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = store.query(&query.clone().limit(Query::MAX_LIMIT).after(after)).await?;
        rows.extend(page.records);
        after = page.next;
        if after.is_none() {
            return Ok(rows);
        }
    }
}
