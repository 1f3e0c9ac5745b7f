//! Removes what a policy no longer wants.

use std::collections::BTreeSet;

use redb::{Database, ReadableTable, Table, WriteTransaction};

use crate::decide::KeyEntry;
use crate::lifecycle::{LifecycleId, Record};
use crate::store::{Pruned, Retention, StoreError};

use super::core::{begin, not_begun, not_written};
use super::events::unseal_event;
use super::forms::{unseal_placement, unseal_row};
use super::tables::{
    BY_DECKY, FEED, KEYS, Kind, META, META_OLDEST, PLACEMENTS, ROWS, SET_ASIDE, number, unseal,
};

type RowsTable<'txn> = Table<'txn, u128, &'static [u8]>;

/// Removes closed rows and feed entries that the policy no longer wants. An
/// entry of the feed says little without its row, so a row goes only once the
/// feed has been compacted past its last change.
pub(super) fn prune(db: &Database, policy: &Retention) -> Result<Pruned, StoreError> {
    let txn = begin(db)?;
    let pruned = {
        let mut rows = txn.open_table(ROWS).map_err(not_begun)?;
        let mut by_decky = txn.open_table(BY_DECKY).map_err(not_begun)?;
        let mut keys = txn.open_table(KEYS).map_err(not_begun)?;
        let mut set_aside = txn.open_table(SET_ASIDE).map_err(not_begun)?;
        let (entries, oldest) = compact(&txn, &rows, policy)?;
        let Closed { old, waits } = closed_before(&rows, &named(&txn)?, oldest, policy)?;
        for row in &old {
            rows.remove(row.id.as_u128()).map_err(not_written)?;
            by_decky.remove((row.decky.as_str(), row.id.as_u128())).map_err(not_written)?;
            set_aside.remove(row.id.as_u128()).map_err(not_written)?;
        }
        for key in old.iter().filter_map(|row| row.key.as_ref()) {
            let entry: KeyEntry = match keys.get(key.as_str()).map_err(not_written)? {
                Some(bytes) => unseal(Kind::Key, key.as_str().as_bytes(), key, bytes.value())?,
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
        let more = old.len() >= policy.limit || entries >= policy.limit || (waits && entries > 0);
        Pruned { rows: old.len(), entries, more }
    };
    if pruned.rows + pruned.entries > 0 {
        txn.commit().map_err(|error| StoreError::unknown("pruning", error))?;
    }
    Ok(pruned)
}

/// What placements hold back.
#[derive(Default)]
struct Named {
    rows: BTreeSet<LifecycleId>,
    /// Deckies whose placements can't be read: they may name any row of theirs.
    deckies: BTreeSet<String>,
}

impl Named {
    fn holds(&self, row: &Record) -> bool {
        self.rows.contains(&row.id) || self.deckies.contains(row.decky.as_str())
    }
}

fn named(txn: &WriteTransaction) -> Result<Named, StoreError> {
    let placements = txn.open_table(PLACEMENTS).map_err(not_begun)?;
    let mut named = Named::default();
    for entry in placements.iter().map_err(not_written)? {
        let (decky, bytes) = entry.map_err(not_written)?;
        match unseal_placement(decky.value(), bytes.value()) {
            Ok(placement) => named.rows.extend(placement.rows()),
            Err(_) => drop(named.deckies.insert(decky.value().to_owned())),
        }
    }
    Ok(named)
}

/// Closed rows that may go.
struct Closed {
    old: Vec<Record>,
    /// Whether there are others that wait for the feed.
    waits: bool,
}

/// The oldest closed rows that the policy lets go. A row can't close before it
/// was made, so rows with ids from after the policy's time are not looked at,
/// save for a day of grace for clocks that stepped.
fn closed_before(
    rows: &RowsTable<'_>,
    named: &Named,
    oldest: u64,
    policy: &Retention,
) -> Result<Closed, StoreError> {
    const GRACE: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);
    let last = LifecycleId::from_parts(policy.closed_before.plus(GRACE), [0xff; 10]);
    let mut found = Closed { old: Vec::new(), waits: false };
    for entry in rows.range(..=last.as_u128()).map_err(not_written)? {
        if found.old.len() >= policy.limit {
            break;
        }
        let (id, bytes) = entry.map_err(not_written)?;
        // A damaged row stays: what it is can't be said.
        let Ok(row) = unseal_row(id.value(), bytes.value()) else { continue };
        let is_old = row.completed_at().is_some_and(|at| at < policy.closed_before);
        if !is_old || named.holds(&row) {
            continue;
        }
        if row.revision.get() < oldest {
            found.old.push(row);
        } else {
            found.waits = true;
        }
    }
    Ok(found)
}

/// Removes the feed's oldest entries, up to the last of those looked at that
/// the policy lets go. Gives how many, and the oldest that is left.
fn compact(
    txn: &WriteTransaction,
    rows: &RowsTable<'_>,
    policy: &Retention,
) -> Result<(usize, u64), StoreError> {
    let mut feed = txn.open_table(FEED).map_err(not_begun)?;
    let mut meta = txn.open_table(META).map_err(not_begun)?;
    let mut looked_at = Vec::new();
    let mut gone = 0;
    for entry in feed.iter().map_err(not_written)?.take(policy.limit) {
        let (revision, bytes) = entry.map_err(not_written)?;
        looked_at.push(revision.value());
        let event = unseal_event(revision.value(), bytes.value());
        let row = match &event {
            Ok(event) => rows.get(event.id.as_u128()).map_err(not_written)?,
            Err(_) => None,
        };
        let row = row.and_then(|bytes| unseal_row(event.as_ref().ok()?.id.as_u128(), bytes.value()).ok());
        // What can't be read is as old as its neighbours.
        if let (Ok(event), Some(row)) = (event, row)
            && event.at(&row) < policy.closed_before
        {
            gone = looked_at.len();
        }
    }
    looked_at.truncate(gone);
    for revision in &looked_at {
        feed.remove(revision).map_err(not_written)?;
    }
    let mut oldest = number(&meta, META_OLDEST)?.max(1);
    if let Some(last) = looked_at.last() {
        oldest = oldest.max(last.saturating_add(1));
        meta.insert(META_OLDEST, oldest).map_err(not_written)?;
    }
    Ok((looked_at.len(), oldest))
}
