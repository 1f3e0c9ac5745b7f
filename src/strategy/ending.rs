//! Ends rows for certain: a store that fails for a moment, or doesn't know
//! what it did, is asked again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::journal::CommitError;
use crate::lifecycle::{AnyLifecycle, Failure, Lifecycle, LifecycleId, Pending, Running, State};
use crate::store::StoreError;

use super::Context;

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
    fn new(context: &Context) -> Self {
        Self { began: context.clock.monotonic(), tried: 0 }
    }

    /// Waits before the next try, each time longer up to some seconds; false
    /// once it is no use any more.
    async fn lasts(&mut self, context: &Context, is_closed: bool) -> bool {
        self.tried += 1;
        let spent = context.clock.monotonic().saturating_sub(self.began);
        if self.tried >= TRIES && (is_closed || spent >= context.deadlines.run) {
            return false;
        }
        // 100 ms, 200 ms, 400 ms, ...
        context.clock.sleep(Duration::from_millis(100 << (self.tried - 1).min(6))).await;
        true
    }
}

const fn is_closed(error: &StoreError) -> bool {
    matches!(error, StoreError::Closed { .. })
}

/// Ends running rows, each by its own result, in one commit if all goes well.
pub(super) async fn close(context: &Context, rows: Vec<(Lifecycle<Running>, Result<(), Failure>)>) {
    let mut left = rows;
    // Rows of which nobody knows whether they have ended. Their results are
    // kept until somebody can say: a finished operation is not to be forgotten
    // because the store could not be read for a moment.
    let mut unknown: BTreeMap<LifecycleId, Result<(), Failure>> = BTreeMap::new();
    let mut patience = Patience::new(context);
    loop {
        let mut closed = false;
        if !unknown.is_empty() {
            let ids: Vec<LifecycleId> = unknown.keys().copied().collect();
            match context.journal.store().read(&ids).await {
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
            return;
        }
        let results: Vec<Result<(), Failure>> = left.iter().map(|(_, result)| result.clone()).collect();
        let answers = context.journal.close_all(left, context.clock.now()).await;
        left = Vec::new();
        for (answer, result) in answers.into_iter().zip(results) {
            match answer {
                Ok(_) => {}
                Err(CommitError::NotCommitted { lifecycle, error }) => {
                    closed |= is_closed(&error);
                    left.push((lifecycle, result));
                }
                Err(CommitError::Unknown { id, .. }) => drop(unknown.insert(id, result)),
                Err(gone) => gone.say(),
            }
        }
        if (left.is_empty() && unknown.is_empty()) || !patience.lasts(context, closed).await {
            break;
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
    if ids.is_empty() {
        return;
    }
    let mut patience = Patience::new(context);
    loop {
        let records = match context.journal.store().read(ids).await {
            Ok(records) => records,
            Err(error) if patience.lasts(context, is_closed(&error)).await => continue,
            Err(_) => return,
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
        let (mut undone, mut closed) = (0, false);
        for answer in context.journal.commit_all(pending).await {
            closed |= answer.as_ref().is_err_and(CommitError::is_closed);
            undone += usize::from(answer.is_err_and(CommitError::leaves_open));
        }
        for answer in context.journal.close_all(running, at).await {
            closed |= answer.as_ref().is_err_and(CommitError::is_closed);
            undone += usize::from(answer.is_err_and(CommitError::leaves_open));
        }
        if undone == 0 || !patience.lasts(context, closed).await {
            return;
        }
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

    /// Whether the store takes nothing any more.
    const fn is_closed(&self) -> bool {
        matches!(self, Self::NotCommitted { error, .. } | Self::Unknown { error, .. } if is_closed(error))
    }

    /// Somebody else ended the row first, which is as good.
    pub(super) fn say(&self) {
        log::debug!(target: "decnet_lifecycle::strategy", error:% = self; "a row had ended already");
    }
}
