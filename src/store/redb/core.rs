//! The synchronous core: batches in, one transaction, outcomes out.

use std::collections::BTreeMap;

use redb::{Database, Durability, ReadableTable, Table, WriteTransaction};

use crate::lifecycle::{LifecycleId, Record, Revision};
use crate::store::plan::{KeyEntry, Plan, plan};
use crate::store::{Batch, Entry, Outcome, Pruned, Retention, StoreError};

use super::tables::{
    BY_DECKY, DEADLINES, FEED, KEYS, META, META_HEAD, META_OLDEST, OPEN, ROWS, Tables, decode, decode_row,
    encode, head, number,
};

type RowsTable<'txn> = Table<'txn, u128, &'static [u8]>;
type IndexTable<'txn> = Table<'txn, (&'static str, u128), ()>;

/// Applies batches in one durable transaction: all decisions first, then the
/// writes.
pub(super) fn apply(db: &Database, batches: &[Batch]) -> Result<Vec<Vec<Outcome>>, StoreError> {
    let txn = begin(db)?;
    let outcomes = {
        let mut rows = txn.open_table(ROWS).map_err(not_begun)?;
        let mut open = txn.open_table(OPEN).map_err(not_begun)?;
        let mut keys = txn.open_table(KEYS).map_err(not_begun)?;
        let mut meta = txn.open_table(META).map_err(not_begun)?;
        let planned = plan(&Tables { rows: &rows, open: &open, keys: &keys }, head(&meta)?, batches)?;
        if planned.writes.is_empty() && planned.keys.is_empty() {
            return Ok(planned.outcomes);
        }
        for (key, entry) in &planned.keys {
            keys.insert(key.as_str(), encode(entry)?.as_slice()).map_err(not_written)?;
        }
        meta.insert(META_HEAD, planned.head.get()).map_err(not_written)?;
        write(&txn, &planned, &mut rows, &mut open)?;
        planned.outcomes
    };
    txn.commit().map_err(|error| StoreError::unknown("committing", error))?;
    Ok(outcomes)
}

fn write(
    txn: &WriteTransaction,
    planned: &Plan,
    rows: &mut RowsTable<'_>,
    open: &mut IndexTable<'_>,
) -> Result<(), StoreError> {
    let mut feed = txn.open_table(FEED).map_err(not_begun)?;
    let mut deadlines = txn.open_table(DEADLINES).map_err(not_begun)?;
    let mut by_decky = txn.open_table(BY_DECKY).map_err(not_begun)?;
    // A row that several batches of the group change is written once: from
    // how it first was to how it is at last.
    let mut net: BTreeMap<LifecycleId, (Option<&Record>, &Record)> = BTreeMap::new();
    for write in &planned.writes {
        let entry = encode(&Entry::of(&write.new))?;
        feed.insert(write.new.revision.get(), entry.as_slice()).map_err(not_written)?;
        net.entry(write.new.id)
            .and_modify(|(_, last)| *last = &write.new)
            .or_insert((write.old.as_ref(), &write.new));
    }
    for (id, (old, new)) in net {
        let id = id.as_u128();
        rows.insert(id, encode(new)?.as_slice()).map_err(not_written)?;
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

/// Removes closed rows and feed entries that the policy no longer wants.
pub(super) fn prune(db: &Database, policy: &Retention) -> Result<Pruned, StoreError> {
    let txn = begin(db)?;
    let pruned = {
        let mut rows = txn.open_table(ROWS).map_err(not_begun)?;
        let mut by_decky = txn.open_table(BY_DECKY).map_err(not_begun)?;
        let mut keys = txn.open_table(KEYS).map_err(not_begun)?;
        let old = closed_before(&rows, policy)?;
        for row in &old {
            rows.remove(row.id.as_u128()).map_err(not_written)?;
            by_decky.remove((row.decky.as_str(), row.id.as_u128())).map_err(not_written)?;
        }
        for key in old.iter().filter_map(|row| row.key.as_ref()) {
            let entry = match keys.get(key.as_str()).map_err(not_written)? {
                Some(bytes) => decode::<KeyEntry>(bytes.value(), "keys", key.as_str())?,
                None => continue,
            };
            let mut left = false;
            for id in entry.ids {
                left |= rows.get(id.as_u128()).map_err(not_written)?.is_some();
            }
            if !left {
                keys.remove(key.as_str()).map_err(not_written)?;
            }
        }
        let entries = compact(&txn, policy)?;
        let more = old.len() >= policy.limit || entries >= policy.limit;
        Pruned { rows: old.len(), entries, more }
    };
    if pruned.rows + pruned.entries > 0 {
        txn.commit().map_err(|error| StoreError::unknown("pruning", error))?;
    }
    Ok(pruned)
}

/// The oldest closed rows that the policy lets go. A row can't close before it
/// was made, so rows with ids from after the policy's time are not looked at,
/// save for a day of grace for clocks that stepped.
fn closed_before(rows: &RowsTable<'_>, policy: &Retention) -> Result<Vec<Record>, StoreError> {
    const GRACE: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);
    let last = LifecycleId::from_parts(policy.closed_before.plus(GRACE), [0xff; 10]);
    let mut old = Vec::new();
    for entry in rows.range(..=last.as_u128()).map_err(not_written)? {
        if old.len() >= policy.limit {
            break;
        }
        let (id, bytes) = entry.map_err(not_written)?;
        let record = decode_row(id.value(), bytes.value())?;
        if record.completed_at().is_some_and(|at| at < policy.closed_before) {
            old.push(record);
        }
    }
    Ok(old)
}

/// Removes the oldest feed entries, up to the first that is young enough.
fn compact(txn: &WriteTransaction, policy: &Retention) -> Result<usize, StoreError> {
    let mut feed = txn.open_table(FEED).map_err(not_begun)?;
    let mut meta = txn.open_table(META).map_err(not_begun)?;
    let mut stale = Vec::new();
    for entry in feed.iter().map_err(not_written)? {
        if stale.len() >= policy.limit {
            break;
        }
        let (revision, bytes) = entry.map_err(not_written)?;
        let entry: Entry = decode(bytes.value(), "feed", &revision.value().to_string())?;
        if entry.at >= policy.closed_before {
            break;
        }
        stale.push(revision.value());
    }
    for revision in &stale {
        feed.remove(revision).map_err(not_written)?;
    }
    if let Some(last) = stale.last() {
        let oldest = number(&meta, META_OLDEST)?.max(Revision::new(*last).next().get());
        meta.insert(META_OLDEST, oldest).map_err(not_written)?;
    }
    Ok(stale.len())
}

fn begin(db: &Database) -> Result<WriteTransaction, StoreError> {
    let mut txn = db.begin_write().map_err(not_begun)?;
    txn.set_two_phase_commit(true);
    txn.set_durability(Durability::Immediate).map_err(not_begun)?;
    Ok(txn)
}

fn not_begun(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::not_committed("beginning a transaction", error)
}

fn not_written(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::not_committed("writing a transaction", error)
}
