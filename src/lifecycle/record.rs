//! A row as a store keeps it, and which steps from it are legal.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{DeckyName, Failure, HostId, LifecycleId, MasterName, RequestKey, Timestamp};

/// What is being done to the decky.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Operation {
    /// Bring it up.
    Deploy,
    /// Give it other services.
    Mutate,
    /// Take it down.
    Teardown,
}

impl Operation {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Mutate => "mutate",
            Self::Teardown => "teardown",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a lifecycle is; the word that the wire and the listings use. A row's
/// [`Phase`] says the same and carries what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Accepted, not started.
    Pending,
    /// Started, not ended.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
}

impl Status {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }

    /// Whether the lifecycle has not ended yet.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The number of a committed change: rises by one with each, is never reused,
/// and is never seen before the change is durable. Zero stands before the
/// first change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(u64);

impl Revision {
    /// Before the first change.
    pub const ZERO: Self = Self(0);

    /// The revision with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which start of which master made a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The master, the same at every start.
    pub master: MasterName,
    /// The start, different each time.
    pub epoch: u64,
}

/// Where a lifecycle is, with what belongs to that state and only that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Accepted; fails at its deadline if nobody starts it.
    Pending {
        /// The end of the queue's patience.
        deadline: Timestamp,
    },
    /// Started; fails at its deadline if nobody ends it.
    Running {
        /// When it was started.
        since: Timestamp,
        /// When it counts as failed.
        deadline: Timestamp,
    },
    /// Ended on positive evidence.
    Succeeded {
        /// When it was started.
        since: Timestamp,
        /// When it ended.
        at: Timestamp,
    },
    /// Ended without.
    Failed {
        /// When it was started, if it ever was.
        since: Option<Timestamp>,
        /// When it ended.
        at: Timestamp,
        /// Why.
        failure: Failure,
    },
}

/// One row: everything a store keeps of a lifecycle.
///
/// A record is plain data, for stores, listings and the wire. It is not a
/// handle: only the journal turns a record it has read or committed into a
/// [`Lifecycle`](crate::lifecycle::Lifecycle).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which lifecycle.
    pub id: LifecycleId,
    /// The decky it is about.
    pub decky: DeckyName,
    /// The worker host that does the work; none is the master's own.
    pub host: Option<HostId>,
    /// What is being done.
    pub operation: Operation,
    /// Where it is.
    pub phase: Phase,
    /// Which start of which master made the row.
    pub owner: Owner,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it last changed; never before an earlier change of the same row.
    pub updated_at: Timestamp,
    /// When somebody first asked for it to stop.
    pub cancel_requested_at: Option<Timestamp>,
    /// When the worker says it ended. A claim: kept, never relied on.
    pub claimed_completion: Option<Timestamp>,
    /// The caller's name for the request that made the row.
    pub key: Option<RequestKey>,
    /// The change that last wrote this row; a store sets it.
    pub revision: Revision,
}

impl Record {
    /// Where it is, in a word.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self.phase {
            Phase::Pending { .. } => Status::Pending,
            Phase::Running { .. } => Status::Running,
            Phase::Succeeded { .. } => Status::Succeeded,
            Phase::Failed { .. } => Status::Failed,
        }
    }

    /// Whether it has not ended yet.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.status().is_open()
    }

    /// When it counts as failed, while it is open.
    #[must_use]
    pub const fn deadline(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Pending { deadline } | Phase::Running { deadline, .. } => Some(deadline),
            Phase::Succeeded { .. } | Phase::Failed { .. } => None,
        }
    }

    /// When it was started, if it was.
    #[must_use]
    pub const fn running_since(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Pending { .. } => None,
            Phase::Running { since, .. } | Phase::Succeeded { since, .. } => Some(since),
            Phase::Failed { since, .. } => since,
        }
    }

    /// When it ended, if it did.
    #[must_use]
    pub const fn completed_at(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Pending { .. } | Phase::Running { .. } => None,
            Phase::Succeeded { at, .. } | Phase::Failed { at, .. } => Some(at),
        }
    }

    /// Why it failed, if it did.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        match &self.phase {
            Phase::Failed { failure, .. } => Some(failure),
            Phase::Pending { .. } | Phase::Running { .. } | Phase::Succeeded { .. } => None,
        }
    }

    /// Whether `next` is a legal step from this record: along an arrow of the
    /// state graph, the same operation on the same decky, no time moved back.
    ///
    /// Stores check it inside the transaction that writes, so that even a
    /// caller without the typed handles can't change a closed row.
    #[must_use]
    pub fn may_become(&self, next: &Self) -> bool {
        let legal = match (&self.phase, &next.phase) {
            (Phase::Pending { .. }, Phase::Running { .. }) => true,
            (Phase::Pending { .. }, Phase::Failed { since, .. }) => since.is_none(),
            (Phase::Running { since, .. }, Phase::Succeeded { since: kept, .. }) => since == kept,
            (Phase::Running { since, .. }, Phase::Failed { since: kept, .. }) => Some(*since) == *kept,
            _ => false,
        };
        legal
            && self.id == next.id
            && self.decky == next.decky
            && self.host == next.host
            && self.operation == next.operation
            && self.owner == next.owner
            && self.created_at == next.created_at
            && self.key == next.key
            && self.cancel_requested_at == next.cancel_requested_at
            && self.updated_at <= next.updated_at
    }
}
