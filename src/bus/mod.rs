//! The bus: tells others, at best effort, that a row has changed, or that a
//! decky doesn't run as it is placed.

use std::fmt;

use serde::Serialize;

use crate::lifecycle::{DeckyName, LifecycleId, Operation, Record, Status};

mod channel;
mod drift;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(any(feature = "nats", all(feature = "unix-bus", unix)))]
mod queue;
#[cfg(all(feature = "unix-bus", unix))]
pub mod unix;

pub use channel::{ChannelBus, Subscription};
pub use drift::{DriftEvent, DriftState};

/// Carries events to whoever listens. The store is the truth and its feed
/// misses nothing; the bus is a wake-up.
pub trait Bus: fmt::Debug + Send + Sync + 'static {
    /// Hands an event on. Never blocks and never fails: a bus that is slow or
    /// dead drops events and counts them.
    fn publish(&self, event: &Event);

    /// Hands on that a decky doesn't run as it is placed, or does so again.
    /// Never blocks and never fails. A bus that has no place for it does nothing.
    fn publish_drift(&self, event: &DriftEvent) {
        let _ = event;
    }

    /// How many events were dropped so far.
    fn dropped(&self) -> u64 {
        0
    }
}

/// A bus that nobody listens to.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullBus;

impl Bus for NullBus {
    fn publish(&self, _event: &Event) {}
}

/// A committed change, as the bus carries it.
///
/// ```
/// # use decnet_lifecycle::{DeckyName, LifecycleId, Operation, Status, bus::Event};
/// let event = Event {
///     decky: DeckyName::parse("decky-01")?,
///     lifecycle_id: LifecycleId::from_u128(7),
///     operation: Operation::Deploy,
///     status: Status::Running,
///     error: None,
/// };
/// assert_eq!(event.topic(), "decky.decky-01.lifecycle");
/// assert_eq!(
///     serde_json::to_string(&event).unwrap(),
///     r#"{"lifecycle_id":"00000000-0000-0000-0000-000000000007","operation":"deploy","status":"running"}"#,
/// );
/// # Ok::<(), decnet_lifecycle::lifecycle::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The decky it is about; part of the topic, not of the payload.
    #[serde(skip)]
    pub decky: DeckyName,
    /// Which lifecycle.
    pub lifecycle_id: LifecycleId,
    /// What is being done.
    pub operation: Operation,
    /// Where the row is now.
    pub status: Status,
    /// `Kind: message` of a failed row, at most 2,000 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Event {
    /// The event that a row as just committed gives.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self {
            decky: record.decky.clone(),
            lifecycle_id: record.id,
            operation: record.operation,
            status: record.status(),
            error: record.failure().map(ToString::to_string),
        }
    }

    /// The topic: `decky.<name>.lifecycle`.
    #[must_use]
    pub fn topic(&self) -> String {
        format!("decky.{}.lifecycle", self.decky)
    }
}
