//! The lifecycles of DECNET's deckies.


mod agent;
mod bus;
mod clock;
mod engine;
mod fleet;
mod fleet_state;
mod heartbeat;
mod journal;
mod lifecycle;
mod runner;
mod store;
mod strategy;
mod sweep;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use agent::*;
pub use bus::*;
pub use clock::*;
pub use engine::*;
pub use fleet::*;
pub use fleet_state::*;
pub use heartbeat::{Delta, Reported, Verdict};
pub use journal::*;
pub use lifecycle::*;
pub use runner::*;
pub use store::*;
pub use strategy::{Deadlines, Limits};
pub use sweep::Swept;
