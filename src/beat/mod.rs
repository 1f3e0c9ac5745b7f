//! The heartbeat on the wire: what a worker says in a beat, and what its
//! master answers. Facts: the original's wire, as observed; what is ours is
//! said to be.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::fleet::DeckyRuntime;
use crate::lifecycle::{DeckyName, HostId, LifecycleId, Operation, Timestamp};

mod answer;
mod kept;
mod parse;

pub use answer::{BeatAnswer, BeatAnswerError};
pub use kept::Kept;
pub use parse::BeatError;

/// What a worker says of one operation on one of its deckies.
///
/// In a heartbeat's body: `{decky_name, operation, status, error?,
/// completed_at?, lifecycle_id?}`; the Python worker sends no `lifecycle_id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The row it is about, where the worker knows it.
    pub lifecycle_id: Option<LifecycleId>,
    /// Which decky.
    pub decky: DeckyName,
    /// Which operation.
    pub operation: Operation,
    /// Where the worker says it is.
    pub report: Reported,
    /// When the worker says it ended. A claim: its clock is not ours.
    pub completed_at: Option<Timestamp>,
}

/// Where a worker says an operation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// It is being worked on.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended badly, in the worker's words.
    Failed(String),
}

/// What became of a delta; a word in a [`BeatAnswer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// It counted.
    Applied,
    /// The row had ended before; nothing was changed.
    AlreadyClosed,
    /// It may be about an earlier row, or about one that was never
    /// dispatched; nothing was changed.
    Stale,
    /// There is no such open row; nothing was changed.
    Unknown,
    /// The row belongs to another host; nothing was changed.
    WrongHost,
    /// It is no delta, contradicts the row it names, or came after the bound
    /// on deltas; nothing was changed.
    Malformed,
}

/// One heartbeat of a worker: `POST /swarm/heartbeat` on its master.
///
/// Read tolerantly, as beats of other versions come: unknown fields count for
/// nothing, keys may stand in any order, and what is wrong in one delta or in
/// the status costs that part only.
///
/// ```
/// use decnet_lifecycle::beat::{Beat, Reported};
///
/// let beat = Beat::from_json(br#"{"host_uuid": "w1", "agent_version": "unknown", "lifecycle": [
///     {"decky_name": "decky-01", "operation": "deploy", "status": "succeeded"}, {"what": "is this?"}]}"#)?;
/// assert_eq!(beat.host.as_str(), "w1");
/// assert_eq!(beat.deltas.len(), 2);
/// assert_eq!(beat.deltas[0].as_ref().unwrap().report, Reported::Succeeded);
/// assert!(beat.deltas[1].is_none());
/// assert!(Beat::from_json(b"{}").is_err());
/// # Ok::<(), decnet_lifecycle::beat::BeatError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Beat {
    /// Who the body says it is from. A claim: who it is, the certificate says.
    pub host: HostId,
    /// The worker's version of itself.
    pub agent_version: Option<String>,
    /// What it says of its deckies.
    pub status: WorkerStatus,
    /// How operations ended, oldest first; none where a delta is malformed.
    pub deltas: Vec<Option<Delta>>,
    /// Which rows the worker knows. Ours: the original doesn't say, and so
    /// doesn't ask for an answer either.
    pub known_rows: KnownRows,
}

/// Which rows a worker knows, by the `open_rows` of its beat.
///
/// A worker of ours *names rows*: its master sends the id of each row with the
/// work; the worker takes an id once, lists in each beat the ids that it has,
/// and says in each delta which id it is about. So no delta is taken for
/// another row's, a call without an answer can be sent again, and a row that is
/// listed no more is known to be lost. DECNET's own worker does none of this:
/// its deltas are matched by decky, operation and host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum KnownRows {
    /// It doesn't name rows, and doesn't understand an answer.
    #[default]
    NotSaid,
    /// It names rows, and has too many to list.
    TooMany,
    /// All that it works on, or whose end it has yet to see settled.
    These(BTreeSet<LifecycleId>),
}

impl KnownRows {
    /// Whether the worker names rows, and so understands a [`BeatAnswer`].
    #[must_use]
    pub const fn are_named(&self) -> bool {
        !matches!(self, Self::NotSaid)
    }
}

/// What a worker says of its deckies: `status` in a beat, and the answer to
/// `GET /status`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// Whether there was a status at all.
    pub(crate) is_told: bool,
    /// Whether anything is deployed there.
    pub is_deployed: bool,
    /// What it keeps of each decky.
    pub deckies: BTreeMap<DeckyName, Kept>,
    /// What really runs.
    pub runtime: BTreeMap<DeckyName, DeckyRuntime>,
}

impl Beat {
    /// The longest body that is read at all: a fleet's settings, and a MiB.
    pub const MAX_BYTES: usize = crate::fleet::FleetConfig::MAX_BYTES + (1 << 20);
    /// The longest beat of a worker of ours, and what a beat may have beside the
    /// settings of its deckies: 256 KiB. See
    /// [`Runner::beat_bytes`](crate::Runner::beat_bytes).
    pub const USUAL_BYTES: usize = 256 << 10;
    /// The most deltas that are taken from one beat; those after it are
    /// answered as malformed.
    pub const MAX_DELTAS: usize = 512;
    /// The most rows that a beat lists as known.
    pub const MAX_KNOWN_ROWS: usize = 2_048;

    /// Reads the body of a beat.
    ///
    /// # Errors
    /// [`BeatError`]: it is too long, no JSON, or says no host.
    pub fn from_json(bytes: &[u8]) -> Result<Self, BeatError> {
        parse::beat(bytes)
    }
}
