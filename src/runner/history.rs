//! The steps that a row has taken.

use serde::Serialize;

use crate::lifecycle::{Phase, Record, Status, Timestamp};

/// One step in the life of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryStep {
    /// Where the row was after it.
    pub status: Status,
    /// When it was taken.
    pub at: Timestamp,
    /// `Kind: message` of a failed row.
    pub error: Option<String>,
}

/// The steps that a row has taken, oldest first. A row takes at most three,
/// so its own fields tell them.
#[must_use]
pub fn history(record: &Record) -> Vec<HistoryStep> {
    let step = |status, at| HistoryStep { status, at, error: None };
    let mut steps = vec![step(Status::Pending, record.created_at)];
    steps.extend(record.running_since().map(|at| step(Status::Running, at)));
    match &record.phase {
        Phase::Succeeded { at, .. } => steps.push(step(Status::Succeeded, *at)),
        Phase::Failed { at, failure, .. } => {
            steps.push(HistoryStep { status: Status::Failed, at: *at, error: Some(failure.to_string()) });
        }
        Phase::Pending { .. } | Phase::Running { .. } => {}
    }
    steps
}
