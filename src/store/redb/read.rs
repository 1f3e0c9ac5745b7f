//! Reads, each on a snapshot of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use redb::{ReadTransaction, ReadableDatabase, ReadableTable, TableError};

use crate::lifecycle::{LifecycleId, Record, Revision};
use crate::placement::{Home, Placed, Placement};
use crate::store::{Entry, Feed, Page, PlacementQuery, Query, StoreError};

use super::events::unseal_event;
use super::forms::{unseal_placement, unseal_row, unseal_set_aside};
use super::tables::{
    BY_DECKY, BY_HOME, DEADLINES, FEED, META, META_OLDEST, OPEN, PLACEMENTS, ROWS, SET_ASIDE, head, ids_of,
    number, unreadable,
};

pub(super) fn rows(db: &impl ReadableDatabase, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
    let txn = db.begin_read().map_err(unreadable)?;
    let rows = txn.open_table(ROWS).map_err(unreadable)?;
    let wanted: BTreeSet<u128> = ids.iter().map(|id| id.as_u128()).collect();
    let mut found = Vec::with_capacity(wanted.len());
    for id in wanted {
        if let Some(bytes) = rows.get(id).map_err(unreadable)? {
            found.push(unseal_row(id, bytes.value())?);
        }
    }
    Ok(found)
}

pub(super) fn page(db: &impl ReadableDatabase, query: &Query) -> Result<Page, StoreError> {
    let txn = db.begin_read().map_err(unreadable)?;
    let rows = txn.open_table(ROWS).map_err(unreadable)?;
    let mut page = Filling { query, page: Page::default() };
    // What an index says of a row must be what the row says; else one of the
    // two is damaged.
    let row = |id: u128, agrees: &dyn Fn(&Record) -> bool| match rows.get(id).map_err(unreadable)? {
        Some(bytes) => match unseal_row(id, bytes.value()) {
            Ok(row) if !agrees(&row) => Ok(Found::Damaged(id)),
            read => Found::of(id, read),
        },
        None => Ok(Found::Damaged(id)),
    };
    if let Some(due_by) = query.due_by {
        let deadlines = txn.open_table(DEADLINES).map_err(unreadable)?;
        let from =
            query.after.and_then(|cursor| cursor.deadline.map(|at| (at.as_micros(), cursor.id.as_u128())));
        for entry in deadlines.range(..=(due_by.as_micros(), u128::MAX)).map_err(unreadable)? {
            let key = entry.map_err(unreadable)?.0.value();
            let agrees = |row: &Record| row.deadline().is_some_and(|at| at.as_micros() == key.0);
            if from.is_none_or(|from| key > from) && page.take(row(key.1, &agrees)?) {
                break;
            }
        }
        return Ok(page.page);
    }
    let before = query.after.map(|cursor| cursor.id.as_u128());
    if query.wants_open() {
        for id in open_ids(&txn, query)? {
            if before.is_none_or(|before| id < before) && page.take(row(id, &Record::is_open)?) {
                break;
            }
        }
        return Ok(page.page);
    }
    let Some(last) = before.map_or(Some(u128::MAX), |before| before.checked_sub(1)) else {
        return Ok(page.page);
    };
    if let Some(decky) = &query.decky {
        let index = txn.open_table(BY_DECKY).map_err(unreadable)?;
        let name = decky.as_str();
        for entry in index.range((name, 0)..=(name, last)).map_err(unreadable)?.rev() {
            let id = entry.map_err(unreadable)?.0.value().1;
            if page.take(row(id, &|row| row.decky == *decky)?) {
                break;
            }
        }
        return Ok(page.page);
    }
    for entry in rows.range(..=last).map_err(unreadable)?.rev() {
        let (id, bytes) = entry.map_err(unreadable)?;
        if page.take(Found::of(id.value(), unseal_row(id.value(), bytes.value()))?) {
            break;
        }
    }
    Ok(page.page)
}

/// The ids of open rows, newest first.
fn open_ids(txn: &ReadTransaction, query: &Query) -> Result<Vec<u128>, StoreError> {
    let open = txn.open_table(OPEN).map_err(unreadable)?;
    let mut ids: Vec<u128> = match &query.decky {
        Some(decky) => ids_of(&open, decky)?.into_iter().map(LifecycleId::as_u128).collect(),
        None => {
            let all = open.iter().map_err(unreadable)?;
            all.map(|entry| entry.map(|(key, _)| key.value().1).map_err(unreadable))
                .collect::<Result<_, _>>()?
        }
    };
    ids.sort_unstable_by(|a, b| b.cmp(a));
    Ok(ids)
}

/// A row that was looked up.
enum Found {
    Row(Box<Record>),
    /// Something is there, and it can't be read.
    Damaged(u128),
}

impl Found {
    fn of(id: u128, read: Result<Record, StoreError>) -> Result<Self, StoreError> {
        match read {
            Ok(row) => Ok(Self::Row(Box::new(row))),
            Err(StoreError::Corrupt { what }) => {
                log::error!(target: "decnet_lifecycle::store", what:% = what; "a damaged row was left out");
                Ok(Self::Damaged(id))
            }
            Err(error) => Err(error),
        }
    }
}

/// A page that is being filled.
struct Filling<'q> {
    query: &'q Query,
    page: Page,
}

impl Filling<'_> {
    /// Offers the next row in order; true once the page is full and one more
    /// matching row is known.
    fn take(&mut self, found: Found) -> bool {
        let row = match found {
            Found::Row(row) if self.query.matches(&row) => row,
            Found::Row(_) => return false,
            Found::Damaged(id) => {
                self.page.damaged.push(LifecycleId::from_u128(id));
                return false;
            }
        };
        if self.page.records.len() < self.query.page_size() {
            self.page.records.push(*row);
            return false;
        }
        self.page.next = self.page.records.last().map(|last| self.query.cursor_at(last));
        true
    }
}

pub(super) fn changes(db: &impl ReadableDatabase, after: Revision, limit: usize) -> Result<Feed, StoreError> {
    let txn = db.begin_read().map_err(unreadable)?;
    let meta = txn.open_table(META).map_err(unreadable)?;
    let oldest = Revision::new(number(&meta, META_OLDEST)?.max(1));
    if after.next() < oldest {
        return Ok(Feed::Compacted { oldest });
    }
    let feed = txn.open_table(FEED).map_err(unreadable)?;
    let rows = txn.open_table(ROWS).map_err(unreadable)?;
    let mut entries: Vec<Entry> = Vec::new();
    let mut next = after.next();
    for found in feed.range(next.get()..).map_err(unreadable)?.take(limit) {
        let (revision, bytes) = found.map_err(unreadable)?;
        match entry(&rows, revision.value(), bytes.value()) {
            Ok(entry) => entries.push(entry),
            // One that is damaged can't be told; those before and after it can.
            // To its reader it was compacted away: it reads the rows anew.
            Err(StoreError::Corrupt { what }) if entries.is_empty() => {
                log::error!(target: "decnet_lifecycle::store", what:% = what; "a change can't be told");
                return Ok(Feed::Compacted { oldest: next.next() });
            }
            Err(StoreError::Corrupt { .. }) => break,
            Err(error) => return Err(error),
        }
        next = next.next();
    }
    Ok(Feed::Entries { entries, head: head(&meta)? })
}

fn entry(
    rows: &impl ReadableTable<u128, &'static [u8]>,
    revision: u64,
    bytes: &[u8],
) -> Result<Entry, StoreError> {
    let event = unseal_event(revision, bytes)?;
    match rows.get(event.id.as_u128()).map_err(unreadable)? {
        Some(row) => Ok(event.entry(&unseal_row(event.id.as_u128(), row.value())?)),
        None => {
            let what = format!("table feed, key {revision}: row {} is not there", event.id);
            Err(StoreError::Corrupt { what })
        }
    }
}

pub(super) fn placements(
    db: &impl ReadableDatabase,
    query: &PlacementQuery,
) -> Result<Vec<Placement>, StoreError> {
    let txn = db.begin_read().map_err(unreadable)?;
    let table = txn.open_table(PLACEMENTS).map_err(unreadable)?;
    let mut found = Vec::new();
    let names: BTreeSet<String> = match query {
        PlacementQuery::All => {
            for entry in table.iter().map_err(unreadable)? {
                let (decky, bytes) = entry.map_err(unreadable)?;
                found.push(unseal_placement(decky.value(), bytes.value())?);
            }
            return Ok(found);
        }
        PlacementQuery::Of(deckies) => deckies.iter().map(|decky| decky.as_str().to_owned()).collect(),
        PlacementQuery::At(home) => at(&txn, home)?,
    };
    for name in names {
        if let Some(bytes) = table.get(name.as_str()).map_err(unreadable)? {
            found.push(unseal_placement(&name, bytes.value())?);
        }
    }
    Ok(found)
}

/// The deckies that are, may be, or are to be at a home.
fn at(txn: &ReadTransaction, home: &Home) -> Result<BTreeSet<String>, StoreError> {
    let by_home = txn.open_table(BY_HOME).map_err(unreadable)?;
    let key = home.key();
    let mut names = BTreeSet::new();
    for entry in by_home.range((key.as_str(), "")..).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let (found, name) = entry.0.value();
        if found != key {
            break;
        }
        names.insert(name.to_owned());
    }
    Ok(names)
}

/// What these rows took out of placements; those that took nothing are left
/// out.
pub(super) fn set_aside(
    db: &impl ReadableDatabase,
    rows: &[LifecycleId],
) -> Result<BTreeMap<LifecycleId, Arc<Placed>>, StoreError> {
    let txn = db.begin_read().map_err(unreadable)?;
    let table = match txn.open_table(SET_ASIDE) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
        table => table.map_err(unreadable)?,
    };
    let mut found = BTreeMap::new();
    for row in rows {
        if let Some(bytes) = table.get(row.as_u128()).map_err(unreadable)? {
            found.insert(*row, Arc::new(unseal_set_aside(*row, bytes.value())?));
        }
    }
    Ok(found)
}
