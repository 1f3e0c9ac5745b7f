//! Takes work that another master has accepted.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::{Insert, Overlap};
use crate::journal::Inserted;
use crate::lifecycle::{DeckyName, LifecycleId, Operation};
use crate::placement::Aim;
use crate::strategy::Job;

use super::accept::{Wanted, not_accepted, tell};
use super::request::Terms;
use super::{AcceptError, Accepted, Runner};

/// Work that another master has accepted and this one does: its rows have ids
/// already, where that master names them.
pub(crate) struct Taking {
    pub(crate) job: Job,
    pub(crate) operation: Operation,
    /// What to make of each decky, and the row's id.
    pub(crate) rows: BTreeMap<DeckyName, (Option<Aim>, Option<LifecycleId>)>,
    /// What is to be taken down before, in rows that nobody has named.
    pub(crate) gone: BTreeSet<DeckyName>,
}

impl Runner {
    /// Takes work: what it does is as for an accept, but that it takes over
    /// from open rows, and that rows known by their ids are left alone. Two
    /// calls with the same ids must not overlap.
    pub(crate) async fn take(&self, taking: Taking) -> Result<Accepted, AcceptError> {
        let master = &self.shared.master;
        if master.active.is_closing() {
            return Err(AcceptError::ShuttingDown);
        }
        let named: Vec<LifecycleId> = taking.rows.values().filter_map(|(_, id)| *id).collect();
        let known: BTreeSet<LifecycleId> = self.get(&named).await?.iter().map(|row| row.id).collect();
        let now = master.time.deadline_base();
        // What is known to fail takes nothing over.
        let overlap = if matches!(taking.job, Job::Fail(_)) { Overlap::Allow } else { Overlap::Supersede };
        let terms = Terms { overlap, key: None };
        let mut ids = BTreeMap::new();
        let mut first = BTreeMap::new();
        let mut inserts: Vec<Insert> = Vec::new();
        for decky in taking.gone {
            let mut insert = self.insert_of(Wanted::gone(decky, master.home()), now, &terms);
            insert.record.id = insert.record.id.unnamed();
            first.insert(insert.record.decky.clone(), insert.record.id);
            inserts.push(insert);
        }
        for (decky, (aim, id)) in taking.rows {
            let wanted =
                Wanted { decky, operation: taking.operation, home: master.home(), aim, id, placed_at: None };
            let mut insert = self.insert_of(wanted, now, &terms);
            if id.is_none() {
                insert.record.id = insert.record.id.unnamed();
            }
            ids.insert(insert.record.decky.clone(), insert.record.id);
            if !known.contains(&insert.record.id) {
                inserts.push(insert);
            }
        }
        if inserts.is_empty() {
            return Ok(Accepted { ids, ..Accepted::nothing() });
        }
        let guard = master.active.drive(inserts.iter().map(|insert| insert.record.id));
        match master.journal.insert(inserts, None).await {
            Ok(Inserted::New { rows, superseded }) => {
                tell(&rows, &superseded);
                let accepted = self.accepted(rows, superseded, taking.job, guard);
                Ok(Accepted { ids, first, ..accepted })
            }
            // Without a key nothing is repeated.
            Ok(Inserted::Repeated(_)) => Ok(Accepted { ids, ..Accepted::nothing() }),
            Err(error) => {
                let error = not_accepted(error);
                // As for an accept: what may have landed is the sweep's.
                if !matches!(&error, AcceptError::Store(error) if !error.is_unchanged()) {
                    guard.finish();
                }
                Err(error)
            }
        }
    }

    /// Wakes after the next commit.
    pub(crate) fn committed(&self) -> event_listener::EventListener {
        self.shared.master.journal.committed()
    }
}
