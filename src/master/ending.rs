//! Ends rows for certain: a store that fails for a moment, or doesn't know
//! what it did, is asked again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::journal::CommitError;
use crate::lifecycle::{AnyLifecycle, Closed, Failure, Lifecycle, LifecycleId, Pending, Running};

use super::Master;

/// How often an end is tried; what is left then ends by sweep or restart.
const TRIES: u32 = 5;

/// Waits longer before each try: 100 ms, 200 ms, 400 ms, ...
async fn back_off(master: &Master, tried: u32) {
    master.time.clock.sleep(Duration::from_millis(100 << tried.min(6))).await;
}

/// Ends running rows, each by its own result, in one commit if all goes well.
pub(crate) async fn close(
    master: &Master,
    rows: Vec<(Lifecycle<Running>, Result<(), Failure>)>,
) -> Vec<Closed> {
    let mut left = rows;
    let mut ended = Vec::new();
    // Rows of which nobody knows whether they have ended. Their results are
    // kept until somebody can say: a finished operation is not to be forgotten
    // because the store could not be read for a moment.
    let mut unknown: BTreeMap<LifecycleId, Result<(), Failure>> = BTreeMap::new();
    for tried in 0..TRIES {
        if !unknown.is_empty() {
            let ids: Vec<LifecycleId> = unknown.keys().copied().collect();
            if let Ok(found) = master.journal.store().read(&ids).await {
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
            return ended;
        }
        let results: Vec<Result<(), Failure>> = left.iter().map(|(_, result)| result.clone()).collect();
        let answers = master.journal.close_all(left, master.time.clock.now()).await;
        left = Vec::new();
        for (answer, result) in answers.into_iter().zip(results) {
            match answer {
                Ok(closed) => ended.push(closed),
                Err(CommitError::NotCommitted { lifecycle, .. }) => left.push((lifecycle, result)),
                Err(CommitError::Unknown { id, .. }) => drop(unknown.insert(id, result)),
                Err(gone) => gone.say(),
            }
        }
        if !left.is_empty() || !unknown.is_empty() {
            back_off(master, tried).await;
        }
    }
    let lost = left.iter().map(|(row, _)| row.id()).chain(unknown.keys().copied());
    for id in lost {
        log::error!(target: "decnet_lifecycle::strategy", lifecycle_id:% = id; "how a row ended could not be kept; it fails at its deadline");
    }
    ended
}

/// Fails pending rows in one commit.
pub(crate) async fn fail_pending(master: &Master, rows: Vec<Lifecycle<Pending>>, failure: &Failure) {
    let ids: Vec<LifecycleId> = rows.iter().map(Lifecycle::id).collect();
    let at = master.time.clock.now();
    let steps = rows.into_iter().map(|row| row.fail(failure.clone(), at)).collect();
    let answers = master.journal.commit_all(steps).await;
    let undone: Vec<LifecycleId> = ids
        .into_iter()
        .zip(answers)
        .filter(|(_, answer)| {
            matches!(answer, Err(CommitError::NotCommitted { .. } | CommitError::Unknown { .. }))
        })
        .map(|(id, _)| id)
        .collect();
    fail_open(master, &undone, failure).await;
}

/// Fails whichever of these rows are still open.
pub(crate) async fn fail_open(master: &Master, ids: &[LifecycleId], failure: &Failure) {
    for tried in 0..TRIES {
        if ids.is_empty() {
            return;
        }
        let Ok(records) = master.journal.store().read(ids).await else {
            back_off(master, tried).await;
            continue;
        };
        let at = master.time.clock.now();
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
        for answer in master.journal.commit_all(pending).await {
            undone += usize::from(answer.is_err_and(CommitError::leaves_open));
        }
        for answer in master.journal.close_all(running, at).await {
            undone += usize::from(answer.is_err_and(CommitError::leaves_open));
        }
        if undone == 0 {
            return;
        }
        back_off(master, tried).await;
    }
}
