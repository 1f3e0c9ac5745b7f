//! What must hold of any store after every step, checked from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::lifecycle::{DeckyName, LifecycleId, Operation, Record, Revision, Status, Timestamp};
use crate::placement::Standing;
use crate::store::{Entry, Feed, PlacementQuery, Query, Store};

use super::breach::hold;
use super::placed::{PlacementsSeen, Standings};
use super::{Breach, Witness};

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
/// use decnet_lifecycle::{store::MemoryStore, testkit::Invariants};
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
    any_batch: bool,
    placements: PlacementsSeen,
    witness: Option<Arc<Witness>>,
}

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

    /// Lets two deckies stand on one address, and a decky be gone whose row
    /// succeeded: for stores whose callers let deckies exchange addresses and
    /// end them one by one, or forget a decky as soon as it is up.
    #[must_use]
    pub const fn allowing_any_batch(mut self) -> Self {
        self.any_batch = true;
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
        self.check_all(store).await.map(drop)
    }

    /// [`check`](Self::check), and the rows it saw, newest first.
    pub(super) async fn check_all(&mut self, store: &dyn Store) -> Result<Vec<Record>, Breach> {
        let rows = self.check_listed(store).await?;
        check_other_ways(store, &rows).await?;
        Ok(rows)
    }

    /// All of [`check`](Self::check) but the ways to a row by decky and by id.
    pub(super) async fn check_listed(&mut self, store: &dyn Store) -> Result<Vec<Record>, Breach> {
        let steps = self.follow_feed(store).await?;
        let rows = all(store, &Query::new()).await?;
        self.check_rows(&rows)?;
        check_open(store, &rows).await?;
        self.check_placements(store, &rows, &steps).await?;
        self.check_witness(&steps)?;
        Ok(rows)
    }

    /// Checks what the feed says has changed since the last check: much
    /// cheaper than [`check`](Self::check) where most rows rest. What changed
    /// without the feed's knowing is for `check` to find, at the end or after a
    /// crash.
    ///
    /// Gives the rows that have changed, oldest first.
    ///
    /// ```
    /// use decnet_lifecycle::{store::MemoryStore, testkit::Invariants};
    ///
    /// let store = MemoryStore::new();
    /// let mut invariants = Invariants::new();
    /// let changed = futures_lite::future::block_on(invariants.check_changes(&store))?;
    /// assert!(changed.is_empty());
    /// # Ok::<(), decnet_lifecycle::testkit::Breach>(())
    /// ```
    ///
    /// # Errors
    /// The first [`Breach`] found.
    pub async fn check_changes(&mut self, store: &dyn Store) -> Result<Vec<Record>, Breach> {
        let steps = self.follow_feed(store).await?;
        if steps.is_empty() {
            self.check_witness(&steps)?;
            return Ok(Vec::new());
        }
        let ids: BTreeSet<LifecycleId> = steps.iter().map(|entry| entry.id).collect();
        let rows = store.read(&ids.iter().copied().collect::<Vec<_>>()).await?;
        let found: BTreeMap<LifecycleId, &Record> = rows.iter().map(|row| (row.id, row)).collect();
        for id in &ids {
            let open = self.last.get(id).is_some_and(|entry| entry.status.is_open());
            hold!(!open || found.contains_key(id), "open row {id} has vanished");
        }
        for row in &rows {
            self.check_row(row)?;
        }
        let deckies: BTreeSet<&DeckyName> = steps.iter().map(|entry| &entry.decky).collect();
        for decky in deckies {
            let open = all(store, &Query::new().decky(decky.clone()).open()).await?;
            for (newer, older) in open.iter().zip(open.iter().skip(1)) {
                self.check_two(older, newer)?;
            }
            hold!(open.len() < 3 || self.overlaps, "decky {decky} has {} open rows: {open:?}", open.len());
            for row in rows.iter().filter(|row| row.decky == *decky) {
                let listed = open.iter().any(|other| other == row);
                hold!(listed == row.is_open(), "among the open rows of {decky}: {listed}, but it is {row:?}");
            }
        }
        let named = named_rows(store).await?;
        let rows_and_named = store.read(&named.union(&ids).copied().collect::<Vec<_>>()).await?;
        self.check_placements(store, &rows_and_named, &steps).await?;
        self.check_witness(&steps)?;
        Ok(rows)
    }

    /// Checks the placements against all rows that they name and that changed.
    async fn check_placements(
        &mut self,
        store: &dyn Store,
        rows: &[Record],
        steps: &[Entry],
    ) -> Result<(), Breach> {
        let standing = Standings { rows, steps, any_batch: self.any_batch };
        self.placements.check(store, &standing).await
    }

    /// A decky that moves is taken down first; else it has one open row.
    fn check_two(&self, older: &Record, newer: &Record) -> Result<(), Breach> {
        let moves = (older.operation, newer.operation) == (Operation::Teardown, Operation::Deploy);
        let (decky, older, newer) = (&older.decky, older.id, newer.id);
        hold!(self.overlaps || moves, "decky {decky} has two open rows, {older} and {newer}");
        Ok(())
    }

    /// Whether a row was in the feed, and was there still when all were last
    /// looked at.
    #[cfg(feature = "redb")]
    pub(super) fn knows(&self, id: LifecycleId) -> bool {
        self.last.contains_key(&id)
    }

    fn check_witness(&self, steps: &[Entry]) -> Result<(), Breach> {
        let Some(witness) = &self.witness else { return Ok(()) };
        for entry in steps.iter().filter(|entry| entry.status == Status::Succeeded) {
            hold!(witness.has_evidence(entry), "row {} succeeded without evidence: {entry:?}", entry.id);
        }
        let breaches = witness.breaches();
        hold!(breaches.is_empty(), "{}", breaches.join("; "));
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
            self.check_row(row)?;
            // Newest first.
            if row.is_open()
                && let Some(newer) = open.insert(&row.decky, row)
            {
                self.check_two(row, newer)?;
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

    /// Whether a row is what the feed last said of it, and stays closed.
    fn check_row(&mut self, row: &Record) -> Result<(), Breach> {
        let Some(entry) = self.last.get(&row.id) else {
            return Err(Breach(format!("row {} was never in the feed", row.id)));
        };
        hold!(*entry == Entry::of(row), "the feed last said {entry:?} of {row:?}");
        if row.is_open() {
            hold!(!self.closed.contains_key(&row.id), "row {} is open again", row.id);
        } else {
            let before = self.closed.entry(row.id).or_insert_with(|| row.clone());
            hold!(before == row, "closed row {before:?} has become {row:?}");
        }
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

/// Whether the lists of open rows and by deadline have the rows that there are.
async fn check_open(store: &dyn Store, rows: &[Record]) -> Result<(), Breach> {
    hold!(rows.is_sorted_by(|a, b| a.id > b.id), "rows are not listed newest first");
    let open: Vec<Record> = rows.iter().filter(|row| row.is_open()).cloned().collect();
    let listed = all(store, &Query::new().open()).await?;
    hold!(listed == open, "the open rows are {open:?}, listed are {listed:?}");
    let mut due = open;
    due.sort_by_key(|row| (row.deadline(), row.id));
    let listed = all(store, &Query::new().due_by(Timestamp::from_micros(i64::MAX))).await?;
    hold!(listed == due, "by deadline the open rows are {due:?}, listed are {listed:?}");
    Ok(())
}

/// Whether by decky and by id the rows are those that there are.
async fn check_other_ways(store: &dyn Store, rows: &[Record]) -> Result<(), Breach> {
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

/// The rows that placements name.
async fn named_rows(store: &dyn Store) -> Result<BTreeSet<LifecycleId>, Breach> {
    let mut named = BTreeSet::new();
    for placement in store.placements(&PlacementQuery::All).await? {
        named.extend(placement.tried.into_keys());
        if let Standing::Up { row: Some(row), .. } | Standing::Unsure { row, .. } = placement.standing {
            named.insert(row);
        }
    }
    Ok(named)
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
