//! What a store holds, as far as decisions need it.

use std::collections::{BTreeMap, BTreeSet};

use crate::lifecycle::{DeckyName, LifecycleId, Record, RequestKey};
use crate::placement::{Placement, Placements};

use super::KeyEntry;

/// What was found of all that [`Needs`](super::Needs) names.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub(super) rows: BTreeMap<LifecycleId, Record>,
    pub(super) open: BTreeMap<DeckyName, BTreeSet<LifecycleId>>,
    pub(super) keys: BTreeMap<RequestKey, KeyEntry>,
    pub(super) placements: Placements,
}

impl Seen {
    /// A row that was found.
    pub fn row(&mut self, record: Record) {
        if record.is_open() {
            if let Some(open) = self.open.get_mut(&record.decky) {
                open.insert(record.id);
            } else {
                self.open.insert(record.decky.clone(), BTreeSet::from([record.id]));
            }
        } else {
            self.not_open(&record.decky, record.id);
        }
        self.rows.insert(record.id, record);
    }

    /// What was found under a key.
    pub fn key(&mut self, key: RequestKey, entry: KeyEntry) {
        self.keys.insert(key, entry);
    }

    /// A placement that was found.
    pub fn placement(&mut self, placement: Placement) {
        self.placements.set(placement);
    }

    /// The placements that were found.
    #[must_use]
    pub const fn placements(&self) -> &Placements {
        &self.placements
    }

    /// Whether this row is here.
    #[must_use]
    pub fn has_row(&self, id: LifecycleId) -> bool {
        self.rows.contains_key(&id)
    }

    /// Drops what a store that keeps this for its next decision need not hold
    /// in memory: closed rows, and keys.
    pub fn keep_open_only(&mut self) {
        self.keys.clear();
        self.rows.retain(|_, row| row.is_open());
    }

    pub(super) fn drop_row(&mut self, decky: &DeckyName, id: LifecycleId) {
        self.rows.remove(&id);
        self.not_open(decky, id);
    }

    fn not_open(&mut self, decky: &DeckyName, id: LifecycleId) {
        if let Some(open) = self.open.get_mut(decky) {
            open.remove(&id);
            if open.is_empty() {
                self.open.remove(decky);
            }
        }
    }
}
