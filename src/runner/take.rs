use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::fleet::FleetConfig;
use crate::journal::Inserted;
use crate::lifecycle::{DeckyName, LifecycleId, Operation};
use crate::store::{Insert, Overlap};
use crate::strategy::{self, Job};

use super::request::Terms;
use super::{AcceptError, Accepted, Runner};

/// Work that another master has accepted and this one does: its rows have ids
/// already, where that master names them.
pub(crate) struct Taking {
    pub(crate) job: Job,
    pub(crate) operation: Operation,
    pub(crate) fleet: FleetConfig,
    pub(crate) rows: BTreeMap<DeckyName, Option<LifecycleId>>,
}

impl Runner {
    /// Takes work: what it does is as for an accept, but that it takes over
    /// from open rows, and that rows known by their ids are left alone. Two
    /// calls with the same ids must not overlap.
    pub(crate) async fn take(&self, taking: Taking) -> Result<Accepted, AcceptError> {
        let context = &self.shared.context;
        if context.active.is_closing() {
            return Err(AcceptError::ShuttingDown);
        }
        let named: Vec<LifecycleId> = taking.rows.values().flatten().copied().collect();
        let known: BTreeSet<LifecycleId> = self.get(&named).await?.iter().map(|row| row.id).collect();
        let now = context.deadline_base();
        // What is known to fail takes nothing over.
        let overlap = if matches!(taking.job, Job::Fail(_)) { Overlap::Allow } else { Overlap::Supersede };
        let terms = Terms { overlap, key: None };
        let mut ids = BTreeMap::new();
        let mut inserts: Vec<Insert> = Vec::new();
        for (decky, id) in taking.rows {
            let mut insert = self.new_row(&decky, None, taking.operation, now, &terms);
            insert.record.id = id.unwrap_or_else(|| insert.record.id.unnamed());
            ids.insert(decky, insert.record.id);
            if !known.contains(&insert.record.id) {
                inserts.push(insert);
            }
        }
        if inserts.is_empty() {
            return Ok(Accepted { ids, superseded: Vec::new(), work: None });
        }
        let guard = context.active.drive(inserts.iter().map(|insert| insert.record.id));
        match self.insert(inserts, None).await {
            Ok(Inserted::New { rows, superseded }) => {
                for id in &superseded {
                    context.active.cancel(*id);
                }
                let rows = rows.into_iter().map(|row| (row.decky().clone(), row)).collect();
                let work =
                    strategy::run(Arc::clone(context), taking.job, Arc::new(taking.fleet), rows, guard);
                Ok(Accepted { ids, superseded, work: Some(Box::pin(work)) })
            }
            // Without a key nothing is repeated.
            Ok(Inserted::Repeated(_)) => Ok(Accepted { ids, superseded: Vec::new(), work: None }),
            Err(error) => {
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
        self.shared.context.journal.committed()
    }
}
