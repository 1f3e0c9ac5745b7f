//! What a store could not do.

use std::sync::Arc;

/// What a store could not do. What it did with the data is the first thing
/// that each variant says.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Nothing was written or read; the same call may be made again.
    #[error("{doing}: not done, nothing was changed: {error}")]
    NotCommitted {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        error: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The commit may or may not be durable: read the rows again and compare
    /// their revisions.
    #[error("{doing}: it is unknown whether it is durable, read the rows again: {error}")]
    Unknown {
        /// What was tried.
        doing: &'static str,
        /// Why it is unknown.
        error: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The data is not what this store writes.
    #[error("the store holds something it never wrote ({what}); restore it from a backup, or move it away")]
    Corrupt {
        /// What was found where.
        what: String,
    },
    /// The batch breaks a bound of the store.
    #[error("the batch was refused and nothing was changed: {what}")]
    Refused {
        /// Which bound, and what to do.
        what: String,
    },
    /// The store is closed for writing, for good: open it again.
    #[error("the store is closed for writing ({why}); open it again")]
    Closed {
        /// Why it closed.
        why: String,
    },
}

impl StoreError {
    /// Whether the data is for certain as it was before the call.
    #[must_use]
    pub const fn is_unchanged(&self) -> bool {
        !matches!(self, Self::Unknown { .. })
    }

    /// Nothing was written or read.
    pub fn not_committed(doing: &'static str, error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::NotCommitted { doing, error: Arc::new(error) }
    }

    /// The commit may or may not be durable.
    pub fn unknown(doing: &'static str, error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unknown { doing, error: Arc::new(error) }
    }
}

impl From<crate::decide::BatchError> for StoreError {
    fn from(error: crate::decide::BatchError) -> Self {
        Self::Refused { what: error.what }
    }
}
