//! What a master answers to a beat.

use serde::{Deserialize, Serialize};

use crate::lifecycle::LifecycleId;

use super::{Beat, Verdict};

/// What a master answers to a beat of a worker that names rows: 200 with
/// `{"verdicts": [..], "cancel": [..]}`. To others it answers 204 and nothing.
///
/// ```
/// use decnet_lifecycle::{LifecycleId, beat::{BeatAnswer, Verdict}};
///
/// let answer = BeatAnswer { verdicts: vec![Verdict::Applied, Verdict::WrongHost], cancel: vec![] };
/// assert_eq!(answer.to_json(), r#"{"verdicts":["applied","wrong_host"],"cancel":[]}"#);
/// assert_eq!(BeatAnswer::from_json(answer.to_json().as_bytes())?, answer);
/// # Ok::<(), decnet_lifecycle::beat::BeatAnswerError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BeatAnswer {
    /// One for each delta, in order. Each settles its delta.
    pub verdicts: Vec<Verdict>,
    /// Rows of the worker that were asked to stop.
    #[serde(default)]
    pub cancel: Vec<LifecycleId>,
}

/// The answer can't be understood; nothing is settled by it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the master's answer to a beat can't be understood: {0}")]
pub struct BeatAnswerError(String);

impl BeatAnswer {
    /// As it is sent.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Words and ids: this can't fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`BeatAnswerError`]: it is too long or isn't one.
    pub fn from_json(bytes: &[u8]) -> Result<Self, BeatAnswerError> {
        if bytes.len() > Beat::USUAL_BYTES {
            return Err(BeatAnswerError(format!("it has {} bytes", bytes.len())));
        }
        serde_json::from_slice(bytes).map_err(|error| BeatAnswerError(error.to_string()))
    }
}
