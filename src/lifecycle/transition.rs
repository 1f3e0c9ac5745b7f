//! A step that is intended and not yet committed.

use std::fmt;
use std::marker::PhantomData;

use super::state::{Lifecycle, State};
use super::{Leaves, LifecycleId, Phase, Record, Revision, Timestamp};

/// A step that has not been committed yet: from a row durable in `From` to
/// the row as it will be in `To`. Only the journal makes it true.
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// use decnet_lifecycle::{Timestamp, lifecycle::{Lifecycle, Pending}};
/// fn forget(row: Lifecycle<Pending>, now: Timestamp) {
///     row.start(now, now);
/// }
/// ```
#[must_use = "a transition does nothing until the journal commits it"]
pub struct Transition<From: State, To: State> {
    intent: Intent<From>,
    to: PhantomData<fn() -> To>,
}

impl<From: State, To: State> Transition<From, To> {
    pub(super) fn new(from: Lifecycle<From>, next: Record) -> Self {
        let leaves = match &next.phase {
            Phase::Failed { since: Some(_), failure, .. } => failure.kind().leaves(),
            Phase::Succeeded { .. } => Leaves::AsTried,
            _ => Leaves::AsBefore,
        };
        Self { intent: Intent { from, next, leaves }, to: PhantomData }
    }

    /// Keeps the worker's claim of when it ended beside the row.
    pub fn claiming(mut self, completed_at: Option<Timestamp>) -> Self {
        self.intent.next.claimed_completion = completed_at;
        self
    }

    /// Says what the end leaves of the decky where that is known better than
    /// by the failure's kind; see [`FailureKind::leaves`](crate::FailureKind::leaves).
    /// A success leaves what was tried, and a row that never ran what was
    /// before: there this changes nothing.
    pub fn leaving(mut self, leaves: Leaves) -> Self {
        if matches!(self.intent.next.phase, Phase::Failed { since: Some(_), .. }) {
            self.intent.leaves = leaves;
        }
        self
    }

    /// Gives the step up and the row back, as it was.
    pub fn abandon(self) -> Lifecycle<From> {
        self.intent.from
    }

    /// The row as it will be.
    #[must_use]
    pub fn next(&self) -> &Record {
        &self.intent.next
    }

    pub(crate) fn into_intent(self) -> Intent<From> {
        self.intent
    }
}

impl<From: State, To: State> fmt::Debug for Transition<From, To> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transition<{} -> {}>({}, {})", From::STATUS, To::STATUS, self.next().id, self.next().decky)
    }
}

/// A step whose target the types no longer say, so that a journal can commit
/// steps to different ends at once; the row's phase says it.
pub(crate) struct Intent<From: State> {
    from: Lifecycle<From>,
    next: Record,
    leaves: Leaves,
}

impl<From: State> Intent<From> {
    pub(crate) fn id(&self) -> LifecycleId {
        self.next.id
    }

    /// The revision that the row must have, the row as it shall be, and what
    /// its end leaves of the decky.
    pub(crate) fn as_step(&self) -> (Revision, &Record, Leaves) {
        (self.from.revision(), &self.next, self.leaves)
    }

    /// The handle, if nothing was changed.
    pub(crate) fn give_back(self) -> Lifecycle<From> {
        self.from
    }

    /// Lets the handle go: the row has moved on.
    pub(crate) fn forget(self) {
        self.from.into_record();
    }

    /// The same step from the row as it now is, if only an annotation came
    /// between; else that row.
    pub(crate) fn rebased(self, current: Record) -> Result<Self, Box<Record>> {
        let mut next = self.next;
        self.from.into_record();
        next.cancel_requested_at = current.cancel_requested_at;
        next.updated_at = next.updated_at.max(current.updated_at);
        if !current.may_become(&next) {
            return Err(Box::new(current));
        }
        Ok(Self { from: Lifecycle::from_record(current)?, next, leaves: self.leaves })
    }
}
