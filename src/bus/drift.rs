//! What the bus tells of deckies that don't run as they are placed.

use serde::Serialize;

use crate::lifecycle::{DeckyName, HostId};

/// Whether a decky runs as it is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DriftState {
    /// Something of it that should run doesn't.
    Drifted,
    /// It runs, and nobody has placed it.
    Stranger,
    /// It runs again as it is placed.
    Mended,
}

impl DriftState {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drifted => "drifted",
            Self::Stranger => "stranger",
            Self::Mended => "mended",
        }
    }
}

/// A decky whose running has begun to differ from what is placed, or differs
/// in another way now, or no longer does.
///
/// ```
/// use decnet_lifecycle::{DeckyName, bus::{DriftEvent, DriftState}};
///
/// let event = DriftEvent {
///     decky: DeckyName::parse("decky-01")?,
///     host: None,
///     state: DriftState::Drifted,
///     what: "1/2 (ssh dead)".to_owned(),
/// };
/// assert_eq!(event.topic(), "decky.decky-01.drift");
/// assert_eq!(
///     serde_json::to_string(&event).unwrap(),
///     r#"{"state":"drifted","what":"1/2 (ssh dead)"}"#,
/// );
/// # Ok::<(), decnet_lifecycle::lifecycle::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DriftEvent {
    /// The decky it is about; part of the topic, not of the payload.
    #[serde(skip)]
    pub decky: DeckyName,
    /// The worker host that it is on; none is the master's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// Whether it runs as it is placed.
    pub state: DriftState,
    /// What runs of it, in a few words.
    pub what: String,
}

impl DriftEvent {
    /// The topic: `decky.<name>.drift`.
    #[must_use]
    pub fn topic(&self) -> String {
        format!("decky.{}.drift", self.decky)
    }
}
