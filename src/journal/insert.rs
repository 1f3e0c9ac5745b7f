//! Inserts the rows of a request, all or none.

use crate::decide::{Batch, Change, Insert, KeyClaim, Outcome, Refusal};
use crate::lifecycle::{Lifecycle, LifecycleId, Pending};
use crate::store::StoreError;

use super::Journal;

/// What an insert gave.
#[derive(Debug)]
pub(crate) enum Inserted {
    New { rows: Vec<Lifecycle<Pending>>, superseded: Vec<LifecycleId> },
    Repeated(Vec<LifecycleId>),
}

/// Why an insert gave nothing.
#[derive(Debug)]
pub(crate) enum InsertError {
    Refused(Vec<Refusal>),
    Store(StoreError),
}

impl Journal {
    /// Inserts rows, all or none.
    pub(crate) async fn insert(
        &self,
        inserts: Vec<Insert>,
        key: Option<KeyClaim>,
    ) -> Result<Inserted, InsertError> {
        let changes = inserts.into_iter().map(|insert| Change::Insert(Box::new(insert))).collect();
        let outcomes =
            self.apply(Batch::all_or_none(changes).with_key(key)).await.map_err(InsertError::Store)?;
        let mut rows = Vec::with_capacity(outcomes.len());
        let mut repeated = Vec::new();
        let mut superseded = Vec::new();
        let mut refusals = Vec::new();
        for outcome in outcomes {
            match outcome {
                Outcome::Applied { record, superseded: older } => {
                    superseded.extend(older.iter().map(|row| row.id));
                    if let Ok(row) = Lifecycle::from_record(*record) {
                        rows.push(row);
                    }
                }
                Outcome::Repeated(id) => repeated.push(id),
                Outcome::Refused(refusal) => refusals.push(refusal),
                Outcome::Placed(_) => {}
            }
        }
        if !refusals.is_empty() {
            return Err(InsertError::Refused(refusals));
        }
        if !repeated.is_empty() {
            return Ok(Inserted::Repeated(repeated));
        }
        Ok(Inserted::New { rows, superseded })
    }

    /// The rows that a request under this key has made; none if the key is
    /// not known.
    pub(crate) async fn known_key(&self, key: KeyClaim) -> Result<Option<Vec<LifecycleId>>, InsertError> {
        match self.insert(Vec::new(), Some(key)).await? {
            Inserted::New { .. } => Ok(None),
            Inserted::Repeated(ids) => Ok(Some(ids)),
        }
    }
}
