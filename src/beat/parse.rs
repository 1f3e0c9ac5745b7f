//! Reads the body of a beat: tolerant of unknown fields, strict about bounds.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::fleet::DeckyRuntime;
use crate::lifecycle::text::one_line;
use crate::lifecycle::{DeckyName, Failure, HostId, Operation};

use super::{Beat, Delta, Kept, KnownRows, Reported, WorkerStatus};

/// The body is not a heartbeat. Nothing of it counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BeatError {
    /// It is longer than any beat.
    #[error("a heartbeat has at most {} bytes, this one has {len}; say less in one", Beat::MAX_BYTES)]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// It is no JSON.
    #[error("a heartbeat is a JSON object: {0}")]
    Json(String),
    /// A field without which it says nothing.
    #[error("{field}: {what}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        what: String,
    },
}

pub(super) fn beat(bytes: &[u8]) -> Result<Beat, BeatError> {
    if bytes.len() > Beat::MAX_BYTES {
        return Err(BeatError::TooLong { len: bytes.len() });
    }
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| BeatError::Json(one_line(&error.to_string(), 200)))?;
    let Value::Object(fields) = value else {
        return Err(BeatError::Json("it is something else".to_owned()));
    };
    let wrong = |field, what: &str| BeatError::Field { field, what: what.to_owned() };
    let host = match fields.get("host_uuid") {
        None => return Err(wrong("host_uuid", "it is missing; write the host's id")),
        Some(Value::String(host)) => {
            HostId::parse(host).map_err(|error| wrong("host_uuid", &error.to_string()))?
        }
        Some(_) => return Err(wrong("host_uuid", "it is no text; write the host's id")),
    };
    let deltas = match fields.get("lifecycle") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(deltas)) => deltas
            .iter()
            .enumerate()
            .map(|(place, value)| if place < Beat::MAX_DELTAS { delta(value) } else { None })
            .collect(),
        Some(_) => return Err(wrong("lifecycle", "it is no list; leave it away if there is nothing to say")),
    };
    let agent_version = fields.get("agent_version").and_then(Value::as_str);
    Ok(Beat {
        host,
        agent_version: agent_version.map(|version| one_line(version, 64)),
        status: fields.get("status").and_then(Value::as_object).map(status).unwrap_or_default(),
        deltas,
        known_rows: known_rows(&fields),
    })
}

fn delta(value: &Value) -> Option<Delta> {
    let text = |field| value.get(field).and_then(Value::as_str);
    let report = match text("status")? {
        "running" => Reported::Running,
        "succeeded" => Reported::Succeeded,
        // Cut here: the rest of a long one would only be carried around.
        "failed" => {
            let said = text("error").unwrap_or("the worker gave no reason");
            Reported::Failed(said.chars().take(2 * Failure::MAX_LEN).collect())
        }
        _ => return None,
    };
    let operation = match text("operation")? {
        "deploy" => Operation::Deploy,
        "mutate" => Operation::Mutate,
        "teardown" => Operation::Teardown,
        _ => return None,
    };
    // An id that can't be read names a row all the same, only not which: it
    // must not be taken for a delta that names none.
    let lifecycle_id = match value.get("lifecycle_id") {
        None | Some(Value::Null) => None,
        Some(id) => Some(id.as_str()?.parse().ok()?),
    };
    Some(Delta {
        lifecycle_id,
        decky: DeckyName::parse(text("decky_name")?).ok()?,
        operation,
        report,
        completed_at: text("completed_at").and_then(|at| at.parse().ok()),
    })
}

fn known_rows(fields: &Map<String, Value>) -> KnownRows {
    match fields.get("open_rows") {
        None => KnownRows::NotSaid,
        Some(Value::Array(ids)) if ids.len() <= Beat::MAX_KNOWN_ROWS => {
            let ids: Option<BTreeSet<_>> = ids.iter().map(|id| id.as_str()?.parse().ok()).collect();
            ids.map_or(KnownRows::TooMany, KnownRows::These)
        }
        Some(_) => KnownRows::TooMany,
    }
}

fn status(fields: &Map<String, Value>) -> WorkerStatus {
    let deckies = fields.get("deckies").and_then(Value::as_array).into_iter().flatten();
    let runtime = fields.get("runtime").and_then(Value::as_object).into_iter().flatten();
    WorkerStatus {
        is_told: true,
        is_deployed: fields.get("deployed").and_then(Value::as_bool).unwrap_or(false),
        deckies: deckies.filter_map(Kept::read).collect(),
        runtime: runtime
            .filter_map(|(decky, value)| Some((DeckyName::parse(decky).ok()?, state(value)?)))
            .collect(),
    }
}

fn state(value: &Value) -> Option<DeckyRuntime> {
    let word = |text: &str| one_line(text, 64);
    let services = value.get("services").and_then(Value::as_object).into_iter().flatten();
    let services = services.filter_map(|(name, state)| Some((word(name), word(state.as_str()?))));
    Some(DeckyRuntime { running: value.get("running")?.as_bool()?, services: services.collect() })
}
