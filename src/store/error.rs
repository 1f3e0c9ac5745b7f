//! What a store could not do.

use std::sync::Arc;

/// What a store could not do. What it did with the data is the first thing
/// that each variant says.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Nothing was written or read; the same call may be made again.
    #[error("{doing}: not done, nothing was changed: {source}")]
    NotCommitted {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The commit may or may not be durable: read the rows again and compare
    /// their revisions.
    #[error("{doing}: it is unknown whether it is durable, read the rows again: {source}")]
    Unknown {
        /// What was tried.
        doing: &'static str,
        /// Why it is unknown.
        source: Arc<dyn std::error::Error + Send + Sync>,
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
    pub fn not_committed(
        doing: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::NotCommitted { doing, source: Arc::new(source) }
    }

    /// The commit may or may not be durable.
    pub fn unknown(doing: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unknown { doing, source: Arc::new(source) }
    }
}

impl From<crate::decide::BatchError> for StoreError {
    fn from(error: crate::decide::BatchError) -> Self {
        Self::Refused { what: error.what }
    }
}
