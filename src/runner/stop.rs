//! Asks rows, or the whole runner, to stop.

use std::time::Duration;

use futures_lite::FutureExt;

use crate::heartbeat;
use crate::journal::CommitError;
use crate::lifecycle::{AnyLifecycle, Failure, FailureKind, LifecycleId};
use crate::store::StoreError;

use super::Runner;

/// What became of a request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cancelled {
    /// The row had not started, or its worker can't be asked to stop; it has
    /// now failed as cancelled.
    Ended,
    /// The intent is durable; the row ends when what drives it has stopped.
    Requested,
    /// The row had ended before.
    AlreadyClosed,
    /// There is no such row.
    Unknown,
}

impl Runner {
    /// Asks a row to stop. The intent is durable when this returns, and whoever
    /// drives the row here has been told; a worker hears it in the answer to
    /// its next beat. A worker that names no rows can't be asked: its row ends
    /// at once, or with its next beat, and says so. If the future is dropped once
    /// the intent is durable, the next sweep tells.
    ///
    /// # Errors
    /// [`StoreError`] if the intent could not be kept.
    pub async fn cancel(&self, id: LifecycleId) -> Result<Cancelled, StoreError> {
        let master = &self.shared.master;
        let Some(record) = master.journal.request_cancel(id, master.time.clock.now()).await? else {
            return Ok(Cancelled::Unknown);
        };
        Ok(match AnyLifecycle::from_record(record) {
            AnyLifecycle::Pending(row) => {
                let failure = Failure::new(FailureKind::Cancelled, "cancelled before it was started");
                match master.journal.commit(row.fail(failure, master.time.clock.now())).await {
                    Ok(_) => Cancelled::Ended,
                    // It was started in between, or it is not known: what is
                    // asked for stands, and whoever drives it has been told.
                    Err(_) => Cancelled::Requested,
                }
            }
            AnyLifecycle::Running(row) => {
                let host =
                    row.host().filter(|host| master.swarm.heard.cant_be_asked(host, row.id())).cloned();
                let Some(host) = host else {
                    row.hand_over();
                    return Ok(Cancelled::Requested);
                };
                match master
                    .journal
                    .commit(row.fail(heartbeat::cancelled(&host), master.time.clock.now()))
                    .await
                {
                    Ok(_) => Cancelled::Ended,
                    // The next beat ends it.
                    Err(error) => {
                        if let CommitError::NotCommitted { lifecycle, .. } = error {
                            lifecycle.hand_over();
                        }
                        Cancelled::Requested
                    }
                }
            }
            AnyLifecycle::Succeeded(_) | AnyLifecycle::Failed(_) => Cancelled::AlreadyClosed,
        })
    }

    /// Takes no new work, lets what runs finish within the grace, then asks it
    /// to stop and waits as long as an engine may take to do so. Gives the
    /// number of rows that are still driven; nothing acknowledged is lost,
    /// the [recovery](super::Unrecovered::recover) ends them at the next start.
    pub async fn shutdown(&self, grace: Duration) -> usize {
        let master = &self.shared.master;
        master.active.close();
        self.idle_within(grace).await;
        master.active.cancel_all();
        self.idle_within(master.time.deadlines.cancel).await;
        master.active.len()
    }

    async fn idle_within(&self, grace: Duration) {
        let master = &self.shared.master;
        let idle = async {
            loop {
                let changed = master.active.changed();
                if master.active.len() == 0 {
                    return;
                }
                changed.await;
            }
        };
        idle.or(master.time.clock.sleep(grace)).await;
    }
}
