//! Looks through a file that is not as redb wrote it. A damaged value is in
//! nobody's way but its own; where keys or indexes are damaged, nobody can say
//! what is missing.

use std::collections::BTreeSet;

use redb::{Database, Key, ReadableTable, ReadableTableMetadata, Table, Value, WriteTransaction};

use crate::decide::KeyEntry;
use crate::lifecycle::LifecycleId;
use crate::store::StoreError;

use super::core::{begin, homes, not_begun, not_written};
use super::events::unseal_event;
use super::forms::{unseal_placement, unseal_row, unseal_set_aside};
use super::tables::{
    BY_DECKY, BY_HOME, DEADLINES, FEED, KEYS, Kind, META, META_OLDEST, OPEN, PLACEMENTS, ROWS, SET_ASIDE,
    head, number, unseal,
};

/// Gives how many values are damaged, if nothing else is. They are written
/// once more as they are: the pages that they lie in are sound from then on,
/// and the next repair after a crash finds them so.
pub(super) fn examine(db: &Database) -> Result<usize, StoreError> {
    let txn = begin(db)?;
    let damaged = rows(&txn)? + feed(&txn)? + placements(&txn)? + keys(&txn)? + set_aside(&txn)?;
    txn.commit().map_err(|error| StoreError::unknown("writing damaged values anew", error))?;
    Ok(damaged)
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt { what: what.to_owned() }
}

/// Every entry of a table, its keys in order, each found by its key, and as
/// many as the table says that it has.
fn each<K: Key + 'static, V: Value + 'static>(
    table: &Table<'_, K, V>,
    name: &str,
    mut entry: impl FnMut(&K::SelfType<'_>, &V::SelfType<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut last: Option<Vec<u8>> = None;
    let mut found = 0;
    for next in table.iter().map_err(not_written)? {
        let (key, value) = next.map_err(not_written)?;
        let key = key.value();
        let bytes = K::as_bytes(&key).as_ref().to_vec();
        if last.is_some_and(|last| K::compare(&last, &bytes).is_ge()) {
            return Err(corrupt(&format!("the keys of table {name} are out of order")));
        }
        if table.get(&key).map_err(not_written)?.is_none() {
            return Err(corrupt(&format!("table {name} does not find what it holds")));
        }
        entry(&key, &value.value())?;
        last = Some(bytes);
        found += 1;
    }
    if table.len().map_err(not_written)? != found {
        return Err(corrupt(&format!("table {name} holds more or less than it says")));
    }
    Ok(())
}

/// An index must hold what it should, and beyond that only entries of values
/// that can't be read.
fn same<E: Ord>(
    found: &BTreeSet<E>,
    wanted: &BTreeSet<E>,
    is_damaged: impl Fn(&E) -> bool,
    name: &str,
) -> Result<(), StoreError> {
    if wanted.is_subset(found) && found.difference(wanted).all(is_damaged) {
        return Ok(());
    }
    Err(corrupt(&format!("table {name} is not what the rows and placements say")))
}

fn rows(txn: &WriteTransaction) -> Result<usize, StoreError> {
    let mut table = txn.open_table(ROWS).map_err(not_begun)?;
    let mut damaged = Vec::new();
    let (mut open, mut due, mut by_decky) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    each(&table, "rows", |id, bytes| {
        let Ok(row) = unseal_row(*id, bytes) else {
            damaged.push((*id, bytes.to_vec()));
            return Ok(());
        };
        let entry = (row.decky.as_str().to_owned(), *id);
        if let Some(deadline) = row.deadline() {
            open.insert(entry.clone());
            due.insert((deadline.as_micros(), *id));
        }
        by_decky.insert(entry);
        Ok(())
    })?;
    let ids: BTreeSet<u128> = damaged.iter().map(|(id, _)| *id).collect();
    for (definition, name, wanted) in [(OPEN, "open", &open), (BY_DECKY, "by-decky", &by_decky)] {
        let mut found = BTreeSet::new();
        each(&txn.open_table(definition).map_err(not_begun)?, name, |(decky, id), ()| {
            found.insert(((*decky).to_owned(), *id));
            Ok(())
        })?;
        same(&found, wanted, |(_, id)| ids.contains(id), name)?;
    }
    let mut found = BTreeSet::new();
    each(&txn.open_table(DEADLINES).map_err(not_begun)?, "deadlines", |key, ()| {
        found.insert(*key);
        Ok(())
    })?;
    same(&found, &due, |(_, id)| ids.contains(id), "deadlines")?;
    for (id, bytes) in &damaged {
        table.insert(id, bytes.as_slice()).map_err(not_written)?;
    }
    Ok(damaged.len())
}

fn feed(txn: &WriteTransaction) -> Result<usize, StoreError> {
    let mut table = txn.open_table(FEED).map_err(not_begun)?;
    let meta = txn.open_table(META).map_err(not_begun)?;
    let (mut next, head) = (number(&meta, META_OLDEST)?.max(1), head(&meta)?);
    let mut damaged = Vec::new();
    each(&table, "feed", |revision, bytes| {
        if *revision != next {
            return Err(corrupt("the feed has a gap"));
        }
        next = next.saturating_add(1);
        if unseal_event(*revision, bytes).is_err() {
            damaged.push((*revision, bytes.to_vec()));
        }
        Ok(())
    })?;
    if next != head.next().get() {
        return Err(corrupt("the feed does not end at the newest revision"));
    }
    for (revision, bytes) in &damaged {
        table.insert(revision, bytes.as_slice()).map_err(not_written)?;
    }
    Ok(damaged.len())
}

fn placements(txn: &WriteTransaction) -> Result<usize, StoreError> {
    let mut table = txn.open_table(PLACEMENTS).map_err(not_begun)?;
    let mut damaged = Vec::new();
    let mut wanted = BTreeSet::new();
    each(&table, "placements", |decky, bytes| {
        match unseal_placement(decky, bytes) {
            Ok(placement) => {
                wanted.extend(homes(Some(&placement)).into_iter().map(|home| (home, (*decky).to_owned())));
            }
            Err(_) => damaged.push(((*decky).to_owned(), bytes.to_vec())),
        }
        Ok(())
    })?;
    let mut found = BTreeSet::new();
    each(&txn.open_table(BY_HOME).map_err(not_begun)?, "by-home", |(home, decky), ()| {
        found.insert(((*home).to_owned(), (*decky).to_owned()));
        Ok(())
    })?;
    same(&found, &wanted, |(_, decky)| damaged.iter().any(|(name, _)| name == decky), "by-home")?;
    for (decky, bytes) in &damaged {
        table.insert(decky.as_str(), bytes.as_slice()).map_err(not_written)?;
    }
    Ok(damaged.len())
}

fn keys(txn: &WriteTransaction) -> Result<usize, StoreError> {
    let mut table = txn.open_table(KEYS).map_err(not_begun)?;
    let mut damaged = Vec::new();
    each(&table, "keys", |key, bytes| {
        if unseal::<KeyEntry>(Kind::Key, key.as_bytes(), key, bytes).is_err() {
            damaged.push(((*key).to_owned(), bytes.to_vec()));
        }
        Ok(())
    })?;
    for (key, bytes) in &damaged {
        table.insert(key.as_str(), bytes.as_slice()).map_err(not_written)?;
    }
    Ok(damaged.len())
}

fn set_aside(txn: &WriteTransaction) -> Result<usize, StoreError> {
    let mut table = txn.open_table(SET_ASIDE).map_err(not_begun)?;
    let mut damaged = Vec::new();
    each(&table, "set-aside", |row, bytes| {
        if unseal_set_aside(LifecycleId::from_u128(*row), bytes).is_err() {
            damaged.push((*row, bytes.to_vec()));
        }
        Ok(())
    })?;
    for (row, bytes) in &damaged {
        table.insert(row, bytes.as_slice()).map_err(not_written)?;
    }
    Ok(damaged.len())
}
