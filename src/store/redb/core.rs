//! The synchronous core: batches in, one transaction, outcomes out.

use std::collections::BTreeMap;

use redb::{Database, Durability, ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::decide::{Batch, Change, Decision, KeyEntry, Needs, Outcome, Seen, decide};
use crate::lifecycle::{LifecycleId, Record, Revision};
use crate::placement::{Aim, Placement};
use crate::store::StoreError;

use super::events::seal_event;
use super::forms::{seal_placement, seal_row, seal_set_aside, unseal_placement, unseal_row};
use super::tables::{
    BY_DECKY, BY_HOME, DEADLINES, FEED, KEYS, Kind, META, META_HEAD, META_PLACINGS, OPEN, PLACEMENTS, ROWS,
    SET_ASIDE, head, seal, unreadable, unseal,
};

/// What a store that failed must be able to take before it is trusted again.
const ROOM: usize = 64 << 10;
const PROBE: TableDefinition<'_, (), &[u8]> = TableDefinition::new("decnet-lifecycle/probe");

/// What the writer knows of the file without reading: all open rows and all
/// placements. It is the only writer; where a program that shares the file has
/// written past it, the mark tells, and all is read anew.
#[derive(Debug, Default)]
pub(super) struct Known {
    seen: Seen,
    /// The mark that it was read at; none if nothing has been read.
    mark: Option<Mark>,
    /// Deckies of which an open row can't be read.
    damaged: BTreeMap<String, StoreError>,
    /// Deckies whose placement can't be read.
    unplaced: BTreeMap<String, StoreError>,
}

/// What is raised whenever rows or placements change: placements may change
/// without any row, and then have no revision of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    head: Revision,
    placings: u64,
}

impl Known {
    /// Forgets all: what was written may not be what is known.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Applies batches in one durable transaction: all decisions first, then the
/// writes.
pub(super) fn apply(
    db: &Database,
    known: &mut Known,
    batches: &[Batch],
) -> Result<Vec<Vec<Outcome>>, StoreError> {
    let txn = begin(db)?;
    let applied = apply_in(&txn, known, batches);
    let done = match applied {
        Ok(Applied { outcomes, wrote: false }) => return Ok(outcomes),
        Ok(Applied { outcomes, .. }) => {
            txn.commit().map(|()| outcomes).map_err(|error| StoreError::unknown("committing", error))
        }
        Err(error) => Err(error),
    };
    if done.is_err() {
        known.forget();
    }
    done
}

/// Whether there is room to write, and some more: a store that takes small
/// commits and fails at the next is no help to anybody.
pub(super) fn probe(db: &Database) -> Result<(), StoreError> {
    let room = vec![0_u8; ROOM];
    for room in [Some(room.as_slice()), None] {
        let txn = begin(db)?;
        {
            let mut table = txn.open_table(PROBE).map_err(not_begun)?;
            match room {
                Some(room) => drop(table.insert((), room).map_err(not_written)?),
                None => drop(table.remove(()).map_err(not_written)?),
            }
        }
        txn.commit().map_err(|error| StoreError::unknown("committing", error))?;
    }
    Ok(())
}

/// What was done to a transaction that is still open.
pub(super) struct Applied {
    pub(super) outcomes: Vec<Vec<Outcome>>,
    /// Whether there is anything to commit.
    pub(super) wrote: bool,
}

/// Applies batches to a transaction, and leaves the commit to the caller.
pub(super) fn apply_in(
    txn: &WriteTransaction,
    known: &mut Known,
    batches: &[Batch],
) -> Result<Applied, StoreError> {
    let mut rows = txn.open_table(ROWS).map_err(not_begun)?;
    let mut open = txn.open_table(OPEN).map_err(not_begun)?;
    let mut keys = txn.open_table(KEYS).map_err(not_begun)?;
    let mut meta = txn.open_table(META).map_err(not_begun)?;
    let mut placements = txn.open_table(PLACEMENTS).map_err(not_begun)?;
    let now = head(&meta)?;
    let mut placings = meta.get(META_PLACINGS).map_err(unreadable)?.map_or(0, |count| count.value());
    let mark = Mark { head: now, placings };
    if known.mark != Some(mark) {
        known.forget();
        read_all(known, &rows, &open, &placements)?;
        known.mark = Some(mark);
    }
    let needs = Needs::of(batches);
    look_up(known, &needs, &rows, &keys)?;
    can_place(known, batches)?;
    let decision = match decide(now, batches, &mut known.seen) {
        Ok(decision) => decision,
        Err(error) => {
            known.forget();
            return Err(error.into());
        }
    };
    let unreadable_gone = unreadable_forgotten(known, batches, &decision);
    let wrote = !decision.is_empty() || !unreadable_gone.is_empty();
    if wrote {
        for (key, entry) in &decision.keys {
            let entry = seal(Kind::Key, key.as_str().as_bytes(), entry)?;
            keys.insert(key.as_str(), entry.as_slice()).map_err(not_written)?;
        }
        meta.insert(META_HEAD, decision.head.get()).map_err(not_written)?;
        if !decision.placements.is_empty() || !unreadable_gone.is_empty() {
            placings = placings.wrapping_add(1);
            meta.insert(META_PLACINGS, placings).map_err(not_written)?;
        }
        write_rows(txn, &decision, &mut rows, &mut open)?;
        write_placements(txn, &decision, &mut placements)?;
        write_set_aside(txn, &decision)?;
        for decky in unreadable_gone {
            placements.remove(decky.as_str()).map_err(not_written)?;
            let mut by_home = txn.open_table(BY_HOME).map_err(not_begun)?;
            by_home.retain(|(_, name), ()| name != decky).map_err(not_written)?;
            known.unplaced.remove(&decky);
        }
    }
    known.seen.keep_open_only();
    known.mark = Some(Mark { head: decision.head, placings });
    Ok(Applied { outcomes: decision.outcomes, wrote })
}

type RowsTable<'txn> = Table<'txn, u128, &'static [u8]>;
type IndexTable<'txn> = Table<'txn, (&'static str, u128), ()>;
type NamesTable<'txn> = Table<'txn, &'static str, &'static [u8]>;

/// Reads all open rows and all placements. One that is damaged is noted, so
/// that it is in nobody's way but its own decky's.
fn read_all(
    known: &mut Known,
    rows: &RowsTable<'_>,
    open: &IndexTable<'_>,
    placements: &NamesTable<'_>,
) -> Result<(), StoreError> {
    for entry in open.iter().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let (decky, id) = entry.0.value();
        let row = match rows.get(id).map_err(unreadable)? {
            Some(bytes) => unseal_row(id, bytes.value()),
            None => Err(StoreError::Corrupt {
                what: format!("table open, {decky}: row {} is not there", LifecycleId::from_u128(id)),
            }),
        };
        match row {
            Ok(row) => known.seen.row(row),
            Err(error) => drop(known.damaged.insert(decky.to_owned(), error)),
        }
    }
    for entry in placements.iter().map_err(unreadable)? {
        let (decky, bytes) = entry.map_err(unreadable)?;
        match unseal_placement(decky.value(), bytes.value()) {
            Ok(placement) => known.seen.placement(placement),
            Err(error) => drop(known.unplaced.insert(decky.value().to_owned(), error)),
        }
    }
    Ok(())
}

/// Adds what is needed and not known: closed rows, and keys.
fn look_up(
    known: &mut Known,
    needs: &Needs,
    rows: &RowsTable<'_>,
    keys: &NamesTable<'_>,
) -> Result<(), StoreError> {
    for decky in needs.open_of.iter().chain(&needs.deckies) {
        if let Some(error) = known.damaged.get(decky.as_str()) {
            return Err(error.clone());
        }
    }
    for id in &needs.rows {
        if !known.seen.has_row(*id)
            && let Some(bytes) = rows.get(id.as_u128()).map_err(unreadable)?
        {
            known.seen.row(unseal_row(id.as_u128(), bytes.value())?);
        }
    }
    for key in &needs.keys {
        if let Some(bytes) = keys.get(key.as_str()).map_err(unreadable)? {
            let entry: KeyEntry = unseal(Kind::Key, key.as_str().as_bytes(), key, bytes.value())?;
            known.seen.key(key.clone(), entry);
        }
    }
    Ok(())
}

/// Nothing new is made of a decky whose placement can't be read, nor of one
/// beside it that might want its address. Its rows may end, and it may be
/// forgotten.
fn can_place(known: &Known, batches: &[Batch]) -> Result<(), StoreError> {
    let Some(error) = known.unplaced.values().next() else { return Ok(()) };
    for change in batches.iter().flat_map(|batch| &batch.changes) {
        let own = match change {
            Change::Insert(insert) => known.unplaced.get(insert.record.decky.as_str()),
            Change::Place(placement) => known.unplaced.get(placement.decky.as_str()),
            Change::Step(_) | Change::Annotate(_) | Change::Forget(_) => None,
        };
        let takes_an_address = match change {
            Change::Insert(insert) => matches!(insert.aim, Some(Aim::Up(_))),
            Change::Place(_) => true,
            Change::Step(_) | Change::Annotate(_) | Change::Forget(_) => false,
        };
        if let Some(error) = own.or_else(|| takes_an_address.then_some(error)) {
            return Err(error.clone());
        }
    }
    Ok(())
}

/// Deckies that were forgotten, and whose placement can't be read: what is to
/// be removed of them is not known to the decision.
fn unreadable_forgotten(known: &Known, batches: &[Batch], decision: &Decision) -> Vec<String> {
    let asked = batches.iter().zip(&decision.outcomes).flat_map(|(batch, outcomes)| {
        batch.changes.iter().zip(outcomes).filter(|(_, outcome)| matches!(outcome, Outcome::Placed(_)))
    });
    asked
        .filter_map(|(change, _)| match change {
            Change::Forget(decky) if known.unplaced.contains_key(decky.as_str()) => Some(decky.to_string()),
            _ => None,
        })
        .collect()
}

fn write_rows(
    txn: &WriteTransaction,
    decision: &Decision,
    rows: &mut RowsTable<'_>,
    open: &mut IndexTable<'_>,
) -> Result<(), StoreError> {
    if decision.writes.is_empty() {
        return Ok(());
    }
    let mut feed = txn.open_table(FEED).map_err(not_begun)?;
    let mut deadlines = txn.open_table(DEADLINES).map_err(not_begun)?;
    let mut by_decky = txn.open_table(BY_DECKY).map_err(not_begun)?;
    // A row that several batches of the group change is written once: from
    // how it first was to how it is at last.
    let mut net: BTreeMap<LifecycleId, (Option<&Record>, &Record)> = BTreeMap::new();
    for write in &decision.writes {
        let event = seal_event(&write.new)?;
        feed.insert(write.new.revision.get(), event.as_slice()).map_err(not_written)?;
        net.entry(write.new.id)
            .and_modify(|(_, last)| *last = &write.new)
            .or_insert((write.old.as_ref(), &write.new));
    }
    for (id, (old, new)) in net {
        let id = id.as_u128();
        rows.insert(id, seal_row(new)?.as_slice()).map_err(not_written)?;
        if old.is_none() {
            by_decky.insert((new.decky.as_str(), id), ()).map_err(not_written)?;
        }
        let before = old.and_then(Record::deadline);
        let after = new.deadline();
        if before != after {
            if let Some(deadline) = before {
                deadlines.remove((deadline.as_micros(), id)).map_err(not_written)?;
            }
            if let Some(deadline) = after {
                deadlines.insert((deadline.as_micros(), id), ()).map_err(not_written)?;
            }
        }
        match (before.is_some(), after.is_some()) {
            (false, true) => drop(open.insert((new.decky.as_str(), id), ()).map_err(not_written)?),
            (true, false) => drop(open.remove((new.decky.as_str(), id)).map_err(not_written)?),
            _ => {}
        }
    }
    Ok(())
}

fn write_placements(
    txn: &WriteTransaction,
    decision: &Decision,
    placements: &mut NamesTable<'_>,
) -> Result<(), StoreError> {
    if decision.placements.is_empty() {
        return Ok(());
    }
    let mut by_home = txn.open_table(BY_HOME).map_err(not_begun)?;
    for (decky, write) in &decision.placements {
        let name = decky.as_str();
        let (before, after) = (homes(write.old.as_ref()), homes(write.new.as_ref()));
        for gone in before.iter().filter(|home| !after.contains(home)) {
            by_home.remove((gone.as_str(), name)).map_err(not_written)?;
        }
        for new in after.iter().filter(|home| !before.contains(home)) {
            by_home.insert((new.as_str(), name), ()).map_err(not_written)?;
        }
        match &write.new {
            Some(placement) => {
                placements.insert(name, seal_placement(placement)?.as_slice()).map_err(not_written)?;
            }
            None => drop(placements.remove(name).map_err(not_written)?),
        }
    }
    Ok(())
}

fn write_set_aside(txn: &WriteTransaction, decision: &Decision) -> Result<(), StoreError> {
    if decision.set_aside.is_empty() {
        return Ok(());
    }
    let mut table = txn.open_table(SET_ASIDE).map_err(not_begun)?;
    for (row, placed) in &decision.set_aside {
        table.insert(row.as_u128(), seal_set_aside(*row, placed)?.as_slice()).map_err(not_written)?;
    }
    Ok(())
}

/// The keys of the homes where a decky is, may be, or is to be.
pub(super) fn homes(placement: Option<&Placement>) -> Vec<String> {
    let mut homes: Vec<String> =
        placement.into_iter().flat_map(Placement::possibilities).map(|placed| placed.home.key()).collect();
    homes.sort_unstable();
    homes.dedup();
    homes
}

/// Begins a transaction that commits in two phases: the new pages are synced
/// before the header that points to them is written and synced. In one phase
/// redb syncs once, and tells by a checksum after a crash whether the last
/// commit is whole. That is about 1.5 times as fast, but other processes read
/// the file while it is written, which redb allows in two phases only.
pub(super) fn begin(db: &Database) -> Result<WriteTransaction, StoreError> {
    let mut txn = db.begin_write().map_err(not_begun)?;
    txn.set_two_phase_commit(true);
    txn.set_durability(Durability::Immediate).map_err(not_begun)?;
    Ok(txn)
}

pub(super) fn not_begun(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::not_committed("beginning a transaction", error)
}

pub(super) fn not_written(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::not_committed("writing a transaction", error)
}
