//! The feed's entries on disk: which row, and which step. All else that an
//! entry says is the row's own, which a later step never changes; a row goes
//! only after the last entry that names it.

use crate::lifecycle::{LifecycleId, Record, Revision, Status, Timestamp};
use crate::store::{Entry, StoreError};

use super::tables::{Kind, seal, unseal};

#[derive(serde::Serialize, serde::Deserialize)]
struct EventForm {
    id: u128,
    /// The status after the step, and 4 more if the row had been asked to stop.
    step: u8,
}

const CANCEL: u8 = 4;

/// An entry as it is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    revision: Revision,
    pub(super) id: LifecycleId,
    status: Status,
    cancel_requested: bool,
}

/// The entry of a row that has just been written.
pub(super) fn seal_event(row: &Record) -> Result<Vec<u8>, StoreError> {
    Event::new(row.revision, row.id, row.status(), row.cancel_requested_at.is_some()).seal()
}

pub(super) fn unseal_event(revision: u64, bytes: &[u8]) -> Result<Event, StoreError> {
    let EventForm { id, step } = unseal(Kind::Feed, &revision.to_be_bytes(), &revision, bytes)?;
    let status = match step % CANCEL {
        0 => Status::Pending,
        1 => Status::Running,
        2 => Status::Succeeded,
        _ => Status::Failed,
    };
    let cancel_requested = step >= CANCEL;
    Ok(Event { revision: Revision::new(revision), id: LifecycleId::from_u128(id), status, cancel_requested })
}

impl Event {
    pub(super) const fn new(
        revision: Revision,
        id: LifecycleId,
        status: Status,
        cancel_requested: bool,
    ) -> Self {
        Self { revision, id, status, cancel_requested }
    }

    pub(super) fn seal(&self) -> Result<Vec<u8>, StoreError> {
        let status = match self.status {
            Status::Pending => 0,
            Status::Running => 1,
            Status::Succeeded => 2,
            Status::Failed => 3,
        };
        let step = status + if self.cancel_requested { CANCEL } else { 0 };
        seal(Kind::Feed, &self.revision.get().to_be_bytes(), &EventForm { id: self.id.as_u128(), step })
    }

    /// When the change was made, by the row as it now is.
    pub(super) fn at(&self, row: &Record) -> Timestamp {
        let step = match self.status {
            Status::Pending => row.created_at,
            Status::Running => row.running_since().unwrap_or(row.created_at),
            Status::Succeeded | Status::Failed => return row.updated_at,
        };
        // An open row that had been asked to stop: the step was the asking, or
        // came after it.
        match row.cancel_requested_at.filter(|_| self.cancel_requested) {
            Some(asked) => step.max(asked),
            None => step,
        }
    }

    /// The whole entry.
    pub(super) fn entry(&self, row: &Record) -> Entry {
        Entry {
            revision: self.revision,
            id: self.id,
            decky: row.decky.clone(),
            host: row.host.clone(),
            operation: row.operation,
            status: self.status,
            failure: row.failure().filter(|_| self.status == Status::Failed).cloned(),
            at: self.at(row),
            cancel_requested: self.cancel_requested,
        }
    }
}
