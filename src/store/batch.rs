use crate::lifecycle::{DeckyName, LifecycleId, Record, RequestKey, Revision, Timestamp};

use super::StoreError;

/// Changes that are committed at once.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Whether one refused change refuses all.
    pub together: Together,
    /// The caller's name for the request, when the batch inserts: a known key
    /// with the same hash repeats the first answer instead of writing. Only
    /// for inserts that stand or fall together.
    pub key: Option<KeyClaim>,
    /// The changes, in order. A later one sees the earlier ones.
    pub changes: Vec<Change>,
}

/// Whether the changes of a batch stand or fall together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Together {
    /// One refused change refuses all.
    AllOrNone,
    /// Each change for itself.
    PerRow,
}

/// A request's key and what was asked under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyClaim {
    /// The caller's name for the request.
    pub key: RequestKey,
    /// SHA-256 of what was asked; another hash under the same key is a
    /// conflict.
    pub hash: [u8; 32],
}

/// One change.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Change {
    /// A new row.
    Insert(Box<Insert>),
    /// A row's next step.
    Step(Box<Step>),
    /// A note on an open row; its status stays.
    Annotate(Annotate),
}

/// A new row, pending.
#[derive(Debug, Clone)]
pub struct Insert {
    /// The row; its status must be pending. Its revision and its key are the
    /// store's to set, the key from the batch's claim.
    pub record: Record,
    /// What to do if the decky has an open row already.
    pub overlap: Overlap,
}

/// What an insert does when the decky has an open row already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overlap {
    /// The new row is refused; the answer lists the open ones.
    #[default]
    Reject,
    /// The open rows fail as superseded, in the same commit.
    Supersede,
    /// Both stay open.
    Allow,
}

/// A row's next step, if it is still at the revision expected.
#[derive(Debug, Clone)]
pub struct Step {
    /// The revision that the row must have.
    pub expected: Revision,
    /// The row as it shall be; its revision is ignored.
    pub next: Record,
}

/// Asks an open row to stop. Doing it twice keeps the first time.
#[derive(Debug, Clone, Copy)]
pub struct Annotate {
    /// Which row.
    pub id: LifecycleId,
    /// When it was asked.
    pub cancel_requested_at: Timestamp,
}

/// What became of one change.
#[derive(Debug, Clone)]
#[must_use]
pub enum Outcome {
    /// It is durable.
    Applied {
        /// The row as it now is.
        record: Box<Record>,
        /// The rows that the insert superseded, as they now are.
        superseded: Vec<Record>,
    },
    /// The request's key was known: this is the row made the first time.
    Repeated(LifecycleId),
    /// It was not applied.
    Refused(Refusal),
}

/// Why a change was not applied.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Refusal {
    /// The row is not as the change expects; this is how it is.
    Conflict(Box<Record>),
    /// There is no such row.
    Missing(LifecycleId),
    /// The decky has open rows.
    Busy {
        /// Which decky.
        decky: DeckyName,
        /// Its open rows.
        open: Vec<LifecycleId>,
    },
    /// There is a row with this id already.
    Duplicate(LifecycleId),
    /// The key was used before, for another request.
    KeyTaken(RequestKey),
    /// Another change of the same all-or-none batch was refused.
    Together,
}

impl Batch {
    /// The most changes in one batch.
    pub const MAX_CHANGES: usize = 65_536;

    /// A batch whose changes stand or fall together.
    #[must_use]
    pub fn all_or_none(changes: Vec<Change>) -> Self {
        Self { together: Together::AllOrNone, key: None, changes }
    }

    /// A batch in which each change counts for itself.
    #[must_use]
    pub fn per_row(changes: Vec<Change>) -> Self {
        Self { together: Together::PerRow, key: None, changes }
    }

    /// The same batch under a request's key.
    #[must_use]
    pub fn with_key(mut self, key: Option<KeyClaim>) -> Self {
        self.key = key;
        self
    }

    /// Whether the batch is one that a store may take: it holds at most
    /// [`Batch::MAX_CHANGES`] changes, and under a key only inserts that stand
    /// or fall together. Every store asks this first.
    ///
    /// # Errors
    /// [`StoreError::Refused`] says what to do instead.
    pub fn check(&self) -> Result<(), StoreError> {
        let refused = |what: String| Err(StoreError::Refused { what });
        if self.changes.len() > Self::MAX_CHANGES {
            let (many, most) = (self.changes.len(), Self::MAX_CHANGES);
            return refused(format!("it holds {many} changes, the bound is {most}; split it"));
        }
        let inserts = || self.changes.iter().all(|change| matches!(change, Change::Insert(_)));
        if self.key.is_some() && (self.together != Together::AllOrNone || !inserts()) {
            return refused("a batch under a key is all-or-none and holds inserts only".to_owned());
        }
        Ok(())
    }
}
