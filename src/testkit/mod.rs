//! Tools for testing a master built on this crate, and stores of one's own.
//!
//! [`conformance`] is the suite that every store must pass, [`engines`] that of
//! engines; [`FakeEngine`] and
//! [`FakeAgents`] do as they are told, [`FaultyStore`] fails as it is told;
//! [`VirtualClock`] stands still until it is moved. [`Invariants`] checks after
//! any step what must always hold. Only with feature `testkit`; not for
//! production.

/// Holds, or the case has found something wrong: `Wrong` is each suite's own.
macro_rules! ensure {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(Wrong(format!($($what)+)));
        }
    };
}

mod agents;
mod breach;
mod clock;
pub mod conformance;
mod engine;
pub mod engines;
mod faulty;
mod invariants;
mod placed;
#[cfg(feature = "redb")]
pub mod sim;
mod witness;

pub use agents::{AgentCall, AgentScript, FakeAgents};
pub use breach::Breach;
pub use clock::VirtualClock;
pub use engine::{EngineCall, EngineScript, FakeEngine};
pub use faulty::{FaultyStore, StoreFault};
pub use invariants::Invariants;
pub use witness::Witness;

/// The row that these bytes are in a redb store's file, under a checksum that
/// is right; for fuzzing.
///
/// # Errors
/// [`StoreError::Corrupt`](crate::StoreError) if they aren't one.
#[cfg(feature = "redb")]
pub fn decode_stored_row(id: crate::LifecycleId, bytes: &[u8]) -> Result<crate::Record, crate::StoreError> {
    crate::store::redb::row_of_form(id, bytes)
}

/// Why an agent refused, as its answer's body says it; for fuzzing.
#[cfg(feature = "https")]
#[must_use]
pub fn refusal_reason(status: u16, body: &[u8]) -> String {
    crate::agent::https::reason(status, body)
}

/// The bytes that a row is in a redb store's file, without their checksum; for
/// fuzzing.
///
/// # Errors
/// [`StoreError`](crate::StoreError) if it can't be encoded.
#[cfg(feature = "redb")]
pub fn encode_stored_row(record: &crate::Record) -> Result<Vec<u8>, crate::StoreError> {
    crate::store::redb::form_of_row(record)
}
