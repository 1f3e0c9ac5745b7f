//! Takes a file of schema 1 over into this version's, in one transaction: a
//! crash leaves the one or the other.

use redb::{Database, ReadableTable, TableDefinition, TableError, WriteTransaction};

use crate::lifecycle::Revision;
use crate::store::StoreError;

use super::core::{begin, not_begun, not_written};
use super::events::Event;
use super::forms::seal_row;
use super::schema1;
use super::tables::{
    BY_DECKY, BY_HOME, DEADLINES, FEED, KEYS, Kind, META, META_OLDEST, META_SCHEMA, OPEN, PLACEMENTS, ROWS,
    SCHEMA, number, seal,
};

/// Rows of schema 1 that could not be read, as they were: nothing is thrown
/// away.
pub(super) const DAMAGED: TableDefinition<'_, u128, &[u8]> =
    TableDefinition::new("decnet-lifecycle/damaged-in-schema-1");

/// Writes this version's schema from schema 1's. A row that can't be read is
/// put aside as it is, and is in nobody's way.
pub(super) fn from_schema_1(db: &Database) -> Result<(), StoreError> {
    let txn = begin(db)?;
    let damaged = rows(&txn)?;
    feed(&txn)?;
    keys(&txn)?;
    txn.open_table(PLACEMENTS).map_err(not_begun)?;
    txn.open_table(BY_HOME).map_err(not_begun)?;
    txn.open_table(META).map_err(not_begun)?.insert(META_SCHEMA, SCHEMA).map_err(not_written)?;
    for deleted in [
        txn.delete_table(schema1::ROWS),
        txn.delete_table(schema1::OPEN),
        txn.delete_table(schema1::DEADLINES),
        txn.delete_table(schema1::BY_DECKY),
        txn.delete_table(schema1::FEED),
        txn.delete_table(schema1::KEYS),
    ] {
        match deleted {
            Ok(_) | Err(TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(not_written(error)),
        }
    }
    txn.commit().map_err(|error| StoreError::unknown("taking the store over from schema 1", error))?;
    match damaged {
        0 => log::info!(target: "decnet_lifecycle::store", "the store was taken over from schema 1"),
        _ => {
            log::error!(target: "decnet_lifecycle::store", damaged = damaged; "the store was taken over from schema 1; damaged rows were put aside")
        }
    }
    Ok(())
}

/// Gives how many rows were put aside.
fn rows(txn: &WriteTransaction) -> Result<usize, StoreError> {
    let old = txn.open_table(schema1::ROWS).map_err(not_begun)?;
    let mut rows = txn.open_table(ROWS).map_err(not_begun)?;
    let mut open = txn.open_table(OPEN).map_err(not_begun)?;
    let mut deadlines = txn.open_table(DEADLINES).map_err(not_begun)?;
    let mut by_decky = txn.open_table(BY_DECKY).map_err(not_begun)?;
    let mut damaged = 0;
    for entry in old.iter().map_err(not_written)? {
        let (id, bytes) = entry.map_err(not_written)?;
        let id = id.value();
        let Some(row) = schema1::row(id, bytes.value()) else {
            damaged += 1;
            txn.open_table(DAMAGED).map_err(not_begun)?.insert(id, bytes.value()).map_err(not_written)?;
            continue;
        };
        rows.insert(id, seal_row(&row)?.as_slice()).map_err(not_written)?;
        by_decky.insert((row.decky.as_str(), id), ()).map_err(not_written)?;
        if let Some(deadline) = row.deadline() {
            open.insert((row.decky.as_str(), id), ()).map_err(not_written)?;
            deadlines.insert((deadline.as_micros(), id), ()).map_err(not_written)?;
        }
    }
    Ok(damaged)
}

/// The feed up to the last entry that can't be told any more, because its row
/// was pruned or is damaged, is compacted: its readers are told so.
fn feed(txn: &WriteTransaction) -> Result<(), StoreError> {
    let old = txn.open_table(schema1::FEED).map_err(not_begun)?;
    let rows = txn.open_table(ROWS).map_err(not_begun)?;
    let mut feed = txn.open_table(FEED).map_err(not_begun)?;
    let mut meta = txn.open_table(META).map_err(not_begun)?;
    let mut lost = None;
    for entry in old.iter().map_err(not_written)? {
        let (revision, bytes) = entry.map_err(not_written)?;
        let revision = revision.value();
        let event = schema1::event(bytes.value());
        let event = match event {
            Some(event) if rows.get(event.id.as_u128()).map_err(not_written)?.is_some() => event,
            _ => {
                lost = Some(revision);
                continue;
            }
        };
        let event = Event::new(Revision::new(revision), event.id, event.status, event.cancel_requested);
        feed.insert(revision, event.seal()?.as_slice()).map_err(not_written)?;
    }
    if let Some(lost) = lost {
        let stale: Vec<u64> = feed
            .range(..=lost)
            .map_err(not_written)?
            .map(|entry| entry.map(|(revision, _)| revision.value()).map_err(not_written))
            .collect::<Result<_, _>>()?;
        for revision in stale {
            feed.remove(revision).map_err(not_written)?;
        }
        let oldest = number(&meta, META_OLDEST)?.max(lost.saturating_add(1));
        meta.insert(META_OLDEST, oldest).map_err(not_written)?;
    }
    Ok(())
}

fn keys(txn: &WriteTransaction) -> Result<(), StoreError> {
    let old = txn.open_table(schema1::KEYS).map_err(not_begun)?;
    let mut keys = txn.open_table(KEYS).map_err(not_begun)?;
    for entry in old.iter().map_err(not_written)? {
        let (key, bytes) = entry.map_err(not_written)?;
        let Some(entry) = schema1::key(bytes.value()) else { continue };
        let sealed = seal(Kind::Key, key.value().as_bytes(), &entry)?;
        keys.insert(key.value(), sealed.as_slice()).map_err(not_written)?;
    }
    Ok(())
}
