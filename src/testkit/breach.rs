//! What does not hold, and how checks say so.

use crate::store::StoreError;

/// An invariant that does not hold, or a store that could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Breach(pub String);

impl From<StoreError> for Breach {
    fn from(error: StoreError) -> Self {
        Self(format!("the store could not be read: {error}"))
    }
}

macro_rules! hold {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err($crate::testkit::Breach(format!($($what)+)));
        }
    };
}
pub(super) use hold;
