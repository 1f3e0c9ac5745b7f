//! Which index entries a row has; the same for every store.

use crate::lifecycle::{LifecycleId, Record, Timestamp};

/// The deadline index entry of a row: open rows only.
pub(crate) fn deadline_key(record: &Record) -> Option<(Timestamp, LifecycleId)> {
    record.deadline().map(|deadline| (deadline, record.id))
}
