//! Why a row failed: a kind, and a message that is safe to show.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::text;

/// Why a lifecycle failed, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FailureKind {
    /// The engine said no, or gave no evidence of success.
    Engine,
    /// Nobody knows whether the work reached the worker.
    Dispatch,
    /// The worker's agent understood the work and refused it.
    Rejected,
    /// The deadline of the row's state passed.
    Deadline,
    /// A newer operation on the same decky took over.
    Superseded,
    /// Somebody asked for it to stop.
    Cancelled,
    /// The master that owned the row restarted.
    MasterRestarted,
    /// The worker fell silent, or no longer knows of the row.
    WorkerLost,
    /// An engine, agent or strategy panicked.
    Panic,
    /// The worker reported that the operation failed.
    Reported,
    /// The future that drove the row was dropped before its end.
    Abandoned,
    /// The work never reached the worker.
    Unreachable,
    /// The store could not be read or written, so the work was not begun.
    Store,
    /// What is placed still stood in the way when the row's turn came.
    Clash,
}

impl FailureKind {
    /// All there are.
    pub const ALL: &'static [Self] = &[
        Self::Engine,
        Self::Dispatch,
        Self::Rejected,
        Self::Deadline,
        Self::Superseded,
        Self::Cancelled,
        Self::MasterRestarted,
        Self::WorkerLost,
        Self::Panic,
        Self::Reported,
        Self::Abandoned,
        Self::Unreachable,
        Self::Store,
        Self::Clash,
    ];

    /// The word that stands before the message on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Engine => "Engine",
            Self::Dispatch => "Dispatch",
            Self::Rejected => "Rejected",
            Self::Deadline => "Deadline",
            Self::Superseded => "Superseded",
            Self::Cancelled => "Cancelled",
            Self::MasterRestarted => "MasterRestarted",
            Self::WorkerLost => "WorkerLost",
            Self::Panic => "Panic",
            Self::Reported => "Reported",
            Self::Abandoned => "Abandoned",
            Self::Unreachable => "Unreachable",
            Self::Store => "Store",
            Self::Clash => "Clash",
        }
    }

    /// What a row that ran and failed so leaves of its decky, unless whoever
    /// ends it knows better: as it was before where the work was refused, never
    /// arrived, or the engine put things back; else nobody knows.
    #[must_use]
    pub const fn leaves(self) -> Leaves {
        match self {
            Self::Engine | Self::Rejected | Self::Unreachable | Self::Store | Self::Clash => Leaves::AsBefore,
            Self::Dispatch
            | Self::Deadline
            | Self::Superseded
            | Self::Cancelled
            | Self::MasterRestarted
            | Self::WorkerLost
            | Self::Panic
            | Self::Reported
            | Self::Abandoned => Leaves::Unknown,
        }
    }
}

/// What the end of a row leaves of its decky.
///
/// ```
/// use decnet_lifecycle::{FailureKind, lifecycle::Leaves};
///
/// assert_eq!(FailureKind::Rejected.leaves(), Leaves::AsBefore);
/// assert_eq!(FailureKind::WorkerLost.leaves(), Leaves::Unknown);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Leaves {
    /// It is as the row tried: there is evidence.
    AsTried,
    /// It is as it was before the row.
    AsBefore,
    /// It is as before or as tried; nobody knows.
    Unknown,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a lifecycle failed: a kind, and a message that is safe to show.
///
/// The message is one line that is safe to print (see
/// [`text::one_line`](crate::lifecycle::text::one_line)), without what is written like a
/// secret (after `password=` and the like, in URLs, headers and commands, in
/// shapes such as those of tokens and PEM blocks), and never more than fits:
/// shown as `Kind: message` it has at most [`Failure::MAX_LEN`] characters, cut
/// between characters. Secrets that are known are hidden by
/// [`hiding`](Failure::hiding).
///
/// ```
/// use decnet_lifecycle::{Failure, FailureKind};
///
/// let failure = Failure::new(FailureKind::Engine, "no such image\u{1b}[31m, --password hunter2");
/// assert_eq!(failure.to_string(), "Engine: no such image[31m, --password [scrubbed]");
///
/// let long = Failure::new(FailureKind::Reported, &"é".repeat(10_000));
/// assert_eq!(long.to_string().chars().count(), Failure::MAX_LEN);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Unchecked")]
pub struct Failure {
    kind: FailureKind,
    message: String,
}

/// What a stored or received failure holds before it is made safe again.
#[derive(Deserialize)]
struct Unchecked {
    kind: FailureKind,
    message: String,
}

impl From<Unchecked> for Failure {
    fn from(raw: Unchecked) -> Self {
        Self::new(raw.kind, &raw.message)
    }
}

impl Failure {
    /// The most characters that `Kind: message` takes; the original's bound.
    pub const MAX_LEN: usize = 2_000;

    /// Makes a message safe and keeps it.
    #[must_use]
    pub fn new(kind: FailureKind, message: &str) -> Self {
        let room = Self::MAX_LEN - kind.as_str().len() - ": ".len();
        let message = text::without_secrets(message, room);
        Self { kind, message }
    }

    /// Why, in one word.
    #[must_use]
    pub const fn kind(&self) -> FailureKind {
        self.kind
    }

    /// The message, without the kind.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failure({:?})", self.to_string())
    }
}

impl std::error::Error for Failure {}
