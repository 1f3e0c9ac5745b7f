//! The lifecycles of DECNET's deckies.
#![forbid(unsafe_code)]

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
