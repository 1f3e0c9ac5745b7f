//! The changes that were committed, in order.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::lifecycle::{
    DeckyName, Failure, HostId, LifecycleId, Operation, Record, Revision, Status, Timestamp,
};

/// One committed change, as the feed keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The number of the change.
    pub revision: Revision,
    /// Which lifecycle.
    pub id: LifecycleId,
    /// The decky it is about.
    pub decky: DeckyName,
    /// The worker host that does the work, if any.
    pub host: Option<HostId>,
    /// What is being done.
    pub operation: Operation,
    /// Where the row was after the change.
    pub status: Status,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// When the change was made.
    pub at: Timestamp,
    /// Whether the row had been asked to stop.
    pub cancel_requested: bool,
}

impl Entry {
    /// What the feed keeps of a row that has just been written.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self {
            revision: record.revision,
            id: record.id,
            decky: record.decky.clone(),
            host: record.host.clone(),
            operation: record.operation,
            status: record.status(),
            failure: record.failure().cloned(),
            at: record.updated_at,
            cancel_requested: record.cancel_requested_at.is_some(),
        }
    }

    /// The change as it is told outside of this process: by the program, its
    /// server-sent events, and a mirror.
    #[must_use]
    pub fn to_told(&self) -> Value {
        let error = self.failure.as_ref().map(Failure::to_string);
        json!({"event": "change", "revision": self.revision, "id": self.id, "decky": self.decky,
               "host": self.host, "operation": self.operation, "status": self.status, "error": error,
               "at": self.at.to_string(), "cancel_requested": self.cancel_requested})
    }
}

/// A stretch of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feed {
    /// The changes, in order, without a gap.
    Entries {
        /// They start right after the revision asked for.
        entries: Vec<Entry>,
        /// The newest revision there was.
        head: Revision,
    },
    /// The changes asked for are gone: read the rows anew, then go on from
    /// the revision before `oldest`.
    Compacted {
        /// The oldest change that is still kept, or the next to come.
        oldest: Revision,
    },
}
