//! Ends rows for certain: a store that fails for a moment, or doesn't know
//! what it did, is asked again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::journal::CommitError;
use crate::lifecycle::{AnyLifecycle, Closed, Failure, Lifecycle, LifecycleId, Pending, Running};
use crate::store::StoreError;

use super::Master;

/// How long an end is tried: a disk that was full is not the end. What is left
/// then ends by sweep or restart.
struct Patience {
    began: Duration,
    tried: u32,
}

/// A store that is closed is tried so often; it may be that only this call
/// was.
const TRIES: u32 = 5;

impl Patience {
    fn new(master: &Master) -> Self {
        Self { began: master.time.clock.monotonic(), tried: 0 }
    }

    /// Waits before the next try, each time longer up to some seconds; false
    /// once it is no use any more.
    async fn lasts(&mut self, master: &Master, is_closed: bool) -> bool {
        self.tried += 1;
        let spent = master.time.clock.monotonic().saturating_sub(self.began);
        if self.tried >= TRIES && (is_closed || spent >= master.time.deadlines.run) {
            return false;
        }
        // 100 ms, 200 ms, 400 ms, ...
        master.time.clock.sleep(Duration::from_millis(100 << (self.tried - 1).min(6))).await;
        true
    }
}

const fn is_closed(error: &StoreError) -> bool {
    matches!(error, StoreError::Closed { .. })
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
    let mut patience = Patience::new(master);
    loop {
        let mut closed = false;
        if !unknown.is_empty() {
            let ids: Vec<LifecycleId> = unknown.keys().copied().collect();
            match master.journal.store().read(&ids).await {
                Err(error) => closed |= is_closed(&error),
                Ok(found) => {
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
                Err(CommitError::NotCommitted { lifecycle, error }) => {
                    closed |= is_closed(&error);
                    left.push((lifecycle, result));
                }
                Err(CommitError::Unknown { id, .. }) => drop(unknown.insert(id, result)),
                Err(gone) => gone.say(),
            }
        }
        if (left.is_empty() && unknown.is_empty()) || !patience.lasts(master, closed).await {
            break;
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
    if ids.is_empty() {
        return;
    }
    let mut patience = Patience::new(master);
    loop {
        let records = match master.journal.store().read(ids).await {
            Ok(records) => records,
            Err(error) if patience.lasts(master, is_closed(&error)).await => continue,
            Err(_) => return,
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
        let (mut undone, mut closed) = (0, false);
        for answer in master.journal.commit_all(pending).await {
            closed |= answer.as_ref().is_err_and(CommitError::is_closed);
            undone += usize::from(answer.is_err_and(CommitError::leaves_open));
        }
        for answer in master.journal.close_all(running, at).await {
            closed |= answer.as_ref().is_err_and(CommitError::is_closed);
            undone += usize::from(answer.is_err_and(CommitError::leaves_open));
        }
        if undone == 0 || !patience.lasts(master, closed).await {
            return;
        }
    }
}
