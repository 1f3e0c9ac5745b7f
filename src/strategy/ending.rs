//! Ends rows for certain: a store that fails for a moment, or doesn't know
//! what it did, is asked again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::journal::CommitError;
use crate::lifecycle::{AnyLifecycle, Failure, Lifecycle, LifecycleId, Pending, Running, State};

use super::Context;

/// How often an end is tried; what is left then ends by sweep or restart.
const TRIES: u32 = 5;

/// Waits longer before each try: 100 ms, 200 ms, 400 ms, ...
async fn back_off(context: &Context, tried: u32) {
    context.clock.sleep(Duration::from_millis(100 << tried.min(6))).await;
}

/// Ends running rows, each by its own result, in one commit if all goes well.
pub(super) async fn close(context: &Context, rows: Vec<(Lifecycle<Running>, Result<(), Failure>)>) {
    let mut left = rows;
    // Rows of which nobody knows whether they have ended. Their results are
    // kept until somebody can say: a finished operation is not to be forgotten
    // because the store could not be read for a moment.
    let mut unknown: BTreeMap<LifecycleId, Result<(), Failure>> = BTreeMap::new();
    for tried in 0..TRIES {
        if !unknown.is_empty() {
            let ids: Vec<LifecycleId> = unknown.keys().copied().collect();
            if let Ok(found) = context.journal.store().read(&ids).await {
                for record in found {
                    if let (AnyLifecycle::Running(row), Some(result)) =
                        (AnyLifecycle::from_record(record.clone()), unknown.get(&record.id))
                    {
                        left.push((row, result.clone()));
                    }
                }
                unknown.clear();
            }
        }
        if left.is_empty() && unknown.is_empty() {
            return;
        }
        let results: Vec<Result<(), Failure>> = left.iter().map(|(_, result)| result.clone()).collect();
        let answers = context.journal.close_all(left, context.clock.now()).await;
        left = Vec::new();
        for (answer, result) in answers.into_iter().zip(results) {
            match answer {
                Ok(_) => {}
                Err(CommitError::NotCommitted { lifecycle, .. }) => left.push((lifecycle, result)),
                Err(CommitError::Unknown { id, .. }) => drop(unknown.insert(id, result)),
                Err(gone) => gone.say(),
            }
        }
        if !left.is_empty() || !unknown.is_empty() {
            back_off(context, tried).await;
        }
    }
    let lost = left.iter().map(|(row, _)| row.id()).chain(unknown.keys().copied());
    for id in lost {
        log::error!(target: "decnet_lifecycle::strategy", lifecycle_id:% = id; "how a row ended could not be kept; it fails at its deadline");
    }
}

/// Fails pending rows in one commit.
pub(super) async fn fail_pending(context: &Context, rows: Vec<Lifecycle<Pending>>, failure: &Failure) {
    let ids: Vec<LifecycleId> = rows.iter().map(Lifecycle::id).collect();
    let at = context.clock.now();
    let steps = rows.into_iter().map(|row| row.fail(failure.clone(), at)).collect();
    let answers = context.journal.commit_all(steps).await;
    let undone: Vec<LifecycleId> = ids
        .into_iter()
        .zip(answers)
        .filter(|(_, answer)| {
            matches!(answer, Err(CommitError::NotCommitted { .. } | CommitError::Unknown { .. }))
        })
        .map(|(id, _)| id)
        .collect();
    fail_open(context, &undone, failure).await;
}

/// Fails whichever of these rows are still open.
pub(crate) async fn fail_open(context: &Context, ids: &[LifecycleId], failure: &Failure) {
    for tried in 0..TRIES {
        if ids.is_empty() {
            return;
        }
        let Ok(records) = context.journal.store().read(ids).await else {
            back_off(context, tried).await;
            continue;
        };
        let at = context.clock.now();
        let mut pending = Vec::new();
        let mut running = Vec::new();
        for record in records {
            match AnyLifecycle::from_record(record) {
                AnyLifecycle::Pending(row) => pending.push(row.fail(failure.clone(), at)),
                AnyLifecycle::Running(row) => running.push((row, Err(failure.clone()))),
                AnyLifecycle::Succeeded(_) | AnyLifecycle::Failed(_) => {}
            }
        }
        let mut undone = 0;
        for answer in context.journal.commit_all(pending).await {
            undone += usize::from(answer.is_err_and(CommitError::leaves_open));
        }
        for answer in context.journal.close_all(running, at).await {
            undone += usize::from(answer.is_err_and(CommitError::leaves_open));
        }
        if undone == 0 {
            return;
        }
        back_off(context, tried).await;
    }
}

impl<S: State> CommitError<S> {
    /// Whether the row may still be as it was.
    fn leaves_open(self) -> bool {
        match self {
            // The row is read anew for the next try.
            Self::NotCommitted { lifecycle, .. } => {
                lifecycle.into_record();
                true
            }
            Self::Unknown { .. } => true,
            Self::Conflict { current } => current.is_open(),
            Self::Missing { .. } => false,
        }
    }

    /// Somebody else ended the row first, which is as good.
    pub(super) fn say(&self) {
        log::debug!(target: "decnet_lifecycle::strategy", error:% = self; "a row had ended already");
    }
}
