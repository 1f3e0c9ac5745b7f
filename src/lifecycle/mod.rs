//! The machine: one operation on one decky, as types.
//!
//! ```text
//! Pending ──start──▶ Running ──succeed──▶ Succeeded
//!    │                  │
//!    └──────fail────────┴──────fail─────▶ Failed
//! ```
//!
//! A [`Lifecycle<S>`] is the handle to a row that is durable in state `S`.
//! Its methods consume it and give a [`Transition`]: the step as intended,
//! which only the journal can make true. Nothing in here does I/O, waits, or
//! looks at a clock.

mod closed;
mod failure;
mod id;
mod name;
mod pending;
mod record;
mod running;
mod scrub;
mod secrets;
mod state;
pub mod text;
mod time;
mod transition;

pub use failure::{Failure, FailureKind, Leaves};
pub use id::{LifecycleId, ParseIdError};
pub use name::{DeckyName, EngineName, HostId, MasterName, NameError, RequestKey, ServiceName};
pub use record::{Operation, Owner, Phase, Record, Revision, Status};
pub use secrets::Secrets;
pub use state::{AnyLifecycle, Closed, Failed, Lifecycle, Pending, Running, State, Succeeded};
pub use time::{ParseTimestampError, Timestamp};
pub(crate) use transition::Intent;
pub use transition::Transition;
