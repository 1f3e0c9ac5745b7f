//! Tools for testing a master built on this crate, and stores of one's own.
//!
//! [`conformance`] is the suite that every store must pass; [`FakeEngine`] and
//! [`FakeAgents`] do as they are told, [`FaultyStore`] fails as it is told;
//! [`VirtualClock`] stands still until it is moved. [`Invariants`] checks after
//! any step what must always hold. Only with feature `testkit`; not for
//! production.

mod agents;
mod clock;
pub mod conformance;
mod engine;
mod faulty;
mod invariants;
#[cfg(feature = "redb")]
pub mod sim;
mod witness;

pub use agents::{AgentCall, AgentScript, FakeAgents};
pub use clock::VirtualClock;
pub use engine::{EngineCall, EngineScript, FakeEngine};
pub use faulty::{FaultyStore, StoreFault};
pub use invariants::{Breach, Invariants};
pub use witness::Witness;
