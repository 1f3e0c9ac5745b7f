//! Reads, each on a snapshot of its own.

use std::collections::BTreeSet;

use redb::{ReadTransaction, ReadableDatabase, ReadableTable};

use crate::lifecycle::{LifecycleId, Record, Revision};
use crate::store::{Feed, Page, Query, StoreError};

use super::tables::{
    BY_DECKY, DEADLINES, FEED, META, META_OLDEST, OPEN, ROWS, decode, decode_row, head, ids_of, number,
    unreadable,
};

pub(super) fn rows(db: &impl ReadableDatabase, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
    let txn = db.begin_read().map_err(unreadable)?;
    let rows = txn.open_table(ROWS).map_err(unreadable)?;
    let wanted: BTreeSet<u128> = ids.iter().map(|id| id.as_u128()).collect();
    let mut found = Vec::with_capacity(wanted.len());
    for id in wanted {
        if let Some(bytes) = rows.get(id).map_err(unreadable)? {
            found.push(decode_row(id, bytes.value())?);
        }
    }
    Ok(found)
}

pub(super) fn page(db: &impl ReadableDatabase, query: &Query) -> Result<Page, StoreError> {
    let txn = db.begin_read().map_err(unreadable)?;
    let rows = txn.open_table(ROWS).map_err(unreadable)?;
    let mut page = Filling { query, records: Vec::new(), next: None };
    let row = |id: u128| match rows.get(id).map_err(unreadable)? {
        Some(bytes) => decode_row(id, bytes.value()).map(Some),
        None => Ok(None),
    };
    if let Some(due_by) = query.due_by {
        let deadlines = txn.open_table(DEADLINES).map_err(unreadable)?;
        let from =
            query.after.and_then(|cursor| cursor.deadline.map(|at| (at.as_micros(), cursor.id.as_u128())));
        for entry in deadlines.range(..=(due_by.as_micros(), u128::MAX)).map_err(unreadable)? {
            let key = entry.map_err(unreadable)?.0.value();
            if from.is_none_or(|from| key > from) && page.take(row(key.1)?) {
                break;
            }
        }
        return Ok(page.done());
    }
    let before = query.after.map(|cursor| cursor.id.as_u128());
    if query.wants_open() {
        for id in open_ids(&txn, query)? {
            if before.is_none_or(|before| id < before) && page.take(row(id)?) {
                break;
            }
        }
        return Ok(page.done());
    }
    let Some(last) = before.map_or(Some(u128::MAX), |before| before.checked_sub(1)) else {
        return Ok(page.done());
    };
    if let Some(decky) = &query.decky {
        let index = txn.open_table(BY_DECKY).map_err(unreadable)?;
        let name = decky.as_str();
        for entry in index.range((name, 0)..=(name, last)).map_err(unreadable)?.rev() {
            if page.take(row(entry.map_err(unreadable)?.0.value().1)?) {
                break;
            }
        }
        return Ok(page.done());
    }
    for entry in rows.range(..=last).map_err(unreadable)?.rev() {
        let (id, bytes) = entry.map_err(unreadable)?;
        if page.take(Some(decode_row(id.value(), bytes.value())?)) {
            break;
        }
    }
    Ok(page.done())
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

/// A page that is being filled.
struct Filling<'q> {
    query: &'q Query,
    records: Vec<Record>,
    next: Option<crate::store::Cursor>,
}

impl Filling<'_> {
    /// Offers the next row in order; true once the page is full and one more
    /// matching row is known.
    fn take(&mut self, record: Option<Record>) -> bool {
        let Some(record) = record.filter(|record| self.query.matches(record)) else {
            return false;
        };
        if self.records.len() < self.query.page_size() {
            self.records.push(record);
            return false;
        }
        self.next = self.records.last().map(|last| self.query.cursor_at(last));
        true
    }

    fn done(self) -> Page {
        Page { records: self.records, next: self.next }
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
    let mut entries = Vec::new();
    for entry in feed.range(after.next().get()..).map_err(unreadable)?.take(limit) {
        let (revision, bytes) = entry.map_err(unreadable)?;
        entries.push(decode(bytes.value(), "feed", &revision.value().to_string())?);
    }
    Ok(Feed::Entries { entries, head: head(&meta)? })
}
