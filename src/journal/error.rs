//! Why a step is not known to be durable.

use crate::lifecycle::{Lifecycle, LifecycleId, Record, State};
use crate::store::StoreError;

/// Why a step is not known to be durable, with what the caller may go on with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError<S: State> {
    /// Nothing was changed; the handle is as good as before.
    #[error("the step was not committed: {error}")]
    NotCommitted {
        /// The row, as it was.
        lifecycle: Lifecycle<S>,
        /// What the store said.
        error: StoreError,
    },
    /// Somebody else changed the row first; this is how it is now.
    #[error("row {} is {} by now", current.id, current.status())]
    Conflict {
        /// The row as it is.
        current: Box<Record>,
    },
    /// The store has no such row.
    #[error("row {id} is not in the store; was it pruned?")]
    Missing {
        /// Which row.
        id: LifecycleId,
    },
    /// Nobody knows whether the step is durable: read the row again.
    #[error("it is unknown whether the step of row {id} is durable: {error}")]
    Unknown {
        /// Which row.
        id: LifecycleId,
        /// What the store said.
        error: StoreError,
    },
}

impl<S: State> CommitError<S> {
    /// Whether the row may still be as it was.
    pub(crate) fn leaves_open(self) -> bool {
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
    pub(crate) const fn is_closed(&self) -> bool {
        matches!(
            self,
            Self::NotCommitted { error: StoreError::Closed { .. }, .. }
                | Self::Unknown { error: StoreError::Closed { .. }, .. }
        )
    }

    /// Somebody else ended the row first, which is as good.
    pub(crate) fn say(&self) {
        log::debug!(target: "decnet_lifecycle::strategy", error:% = self; "a row had ended already");
    }
}
