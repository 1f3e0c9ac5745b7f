//! Whether a store can be written, for whoever watches over it.

/// Whether a store can be written.
///
/// ```
/// use decnet_lifecycle::store::{MemoryStore, Store as _, StoreHealth};
///
/// assert_eq!(MemoryStore::new().health(), StoreHealth::Good);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreHealth {
    /// It can.
    Good,
    /// Its disk is full or fails: nothing is written now, and it is tried again
    /// until it can be.
    Failing {
        /// What the disk says.
        why: String,
    },
    /// It can't, for good: a file is not there any more, is another or is
    /// damaged, or it was closed. A program that goes on without it tells its
    /// callers untrue things.
    Gone {
        /// What became of it.
        why: String,
    },
}
