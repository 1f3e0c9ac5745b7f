//! Tools for testing a master built on this crate, and stores of one's own.
//!
//! [`conformance`] is the suite that every store must pass; [`FakeEngine`] and
//! [`FakeAgents`] do as they are told; [`VirtualClock`] stands still until it
//! is moved. Only with feature `testkit`; not for production.

mod agents;
mod clock;
pub mod conformance;
mod engine;

pub use agents::{AgentCall, AgentScript, FakeAgents};
pub use clock::VirtualClock;
pub use engine::{EngineCall, EngineScript, FakeEngine};
