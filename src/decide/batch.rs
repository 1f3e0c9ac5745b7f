//! What a store is asked to change, and what became of it.

use std::fmt;

use crate::lifecycle::{DeckyName, Leaves, LifecycleId, Record, RequestKey, Revision, Timestamp};
use crate::placement::{Aim, Clash, Placement};

/// Changes that are committed at once.
#[derive(Debug, Clone)]
#[non_exhaustive]
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
    /// A decky that something else brought up is placed from now on. Changes
    /// no row, and so has no revision; a decky that is placed just so already
    /// stays, one that is placed otherwise is refused, and so is one whose
    /// standing names a row that isn't there or ended otherwise.
    Place(Box<Placement>),
    /// A decky is not placed any more, whatever of it may run on. Changes no
    /// row; refused while a row of it is open.
    Forget(DeckyName),
}

/// A new row, pending.
#[derive(Debug, Clone)]
pub struct Insert {
    /// The row; its status must be pending. Its revision and its key are the
    /// store's to set, the key from the batch's claim.
    pub record: Record,
    /// What to do if the decky has an open row already. A teardown's row in
    /// the same batch is no other: a decky that moves is taken down first.
    pub overlap: Overlap,
    /// What the row is to make of its decky; none leaves the decky's placement
    /// alone.
    pub aim: Option<Aim>,
    /// The revision of the decky's placement that the row was decided on; the
    /// row is refused if it has another by now, or is gone. None asks nothing.
    pub placed_at: Option<Revision>,
}

impl Insert {
    /// A new row that leaves its decky's placement alone.
    #[must_use]
    pub const fn new(record: Record, overlap: Overlap) -> Self {
        Self { record, overlap, aim: None, placed_at: None }
    }

    /// What the row is to make of its decky.
    #[must_use]
    pub fn aim(mut self, aim: Aim) -> Self {
        self.aim = Some(aim);
        self
    }

    /// Refuses the row unless its decky's placement is still at this revision.
    #[must_use]
    pub const fn placed_at(mut self, revision: Revision) -> Self {
        self.placed_at = Some(revision);
        self
    }
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
    /// What the end of the row leaves of its decky; counts only for a row that
    /// ran and failed. A success leaves what was tried, and a row that never
    /// ran leaves what was before.
    pub leaves: Leaves,
}

impl Step {
    /// A step that leaves of its decky what the row's end says by itself.
    #[must_use]
    pub fn new(expected: Revision, next: Record) -> Self {
        let leaves = next.failure().map_or(Leaves::AsTried, |failure| failure.kind().leaves());
        Self { expected, next, leaves }
    }
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
    /// The decky's placement is as asked.
    Placed(DeckyName),
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
    /// The decky can't be placed so.
    Clash(Vec<Clash>),
    /// The decky is placed otherwise, or is not placed as it was when the change
    /// was decided on.
    PlacedOtherwise(DeckyName),
    /// Another change of the same all-or-none batch was refused.
    Together,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict(row) => write!(f, "row {} has changed, it is {} by now", row.id, row.status()),
            Self::Missing(id) => write!(f, "there is no row {id}"),
            Self::Busy { decky, open } => write!(f, "{decky} has {} open row(s)", open.len()),
            Self::Duplicate(id) => write!(f, "there is a row {id} already"),
            Self::KeyTaken(key) => write!(f, "the key {key} was used before, for another request"),
            Self::Clash(clashes) => f.write_str(&Clash::list(clashes, "; ")),
            Self::PlacedOtherwise(decky) => write!(f, "{decky} is placed otherwise by now"),
            Self::Together => f.write_str("another change of its batch was refused"),
        }
    }
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
    /// [`Batch::MAX_CHANGES`] changes, under a key only inserts that stand or
    /// fall together, and places each decky under its own name. Every store
    /// asks this first.
    ///
    /// # Errors
    /// [`BatchError`] says what to do instead.
    pub fn check(&self) -> Result<(), BatchError> {
        let refused = |what: String| Err(BatchError { what });
        if self.changes.len() > Self::MAX_CHANGES {
            let (many, most) = (self.changes.len(), Self::MAX_CHANGES);
            return refused(format!("it holds {many} changes, the bound is {most}; split it"));
        }
        for change in &self.changes {
            let (decky, other) = match change {
                Change::Insert(insert) => match &insert.aim {
                    Some(Aim::Up(placed)) => (&insert.record.decky, Some(&placed.config.name)),
                    _ => continue,
                },
                Change::Place(placement) => (&placement.decky, placement.named_otherwise()),
                _ => continue,
            };
            if let Some(other) = other.filter(|other| *other != decky) {
                return refused(format!("it places {other} as {decky}; a decky goes by its own name"));
            }
        }
        let inserts = || self.changes.iter().all(|change| matches!(change, Change::Insert(_)));
        if self.key.is_some() && (self.together != Together::AllOrNone || !inserts()) {
            return refused("a batch under a key is all-or-none and holds inserts only".to_owned());
        }
        Ok(())
    }
}

/// A batch that no store may take. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the batch was refused and nothing was changed: {what}")]
pub struct BatchError {
    /// Which bound or rule it breaks, and what to do.
    pub what: String,
}
