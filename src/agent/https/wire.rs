//! What is sent to an agent, and what its answers say. Facts: the original's
//! wire, as observed; `lifecycle_ids` is ours, and ignored by it.

use serde::Serialize;
use serde_json::Value;

use crate::agent::{DeployCall, MutateCall, TeardownCall};
use crate::fleet::FleetConfig;
use crate::lifecycle::text::one_line;
use crate::lifecycle::{DeckyName, LifecycleId, ServiceName};

/// The most characters of an agent's words that are kept.
const REASON_CHARS: usize = 500;

/// The row of one decky: `{decky: id}`.
struct One<'a>(&'a DeckyName, LifecycleId);

impl Serialize for One<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(self.0, self.1)])
    }
}

pub(super) fn deploy(call: &DeployCall) -> String {
    #[derive(Serialize)]
    struct Body<'a> {
        config: &'a FleetConfig,
        dry_run: bool,
        no_cache: bool,
        lifecycle_ids: &'a std::collections::BTreeMap<DeckyName, LifecycleId>,
    }
    json(&Body { config: &call.config, dry_run: false, no_cache: false, lifecycle_ids: &call.lifecycle_ids })
}

pub(super) fn mutate(call: &MutateCall) -> String {
    #[derive(Serialize)]
    struct Body<'a> {
        decky_id: &'a DeckyName,
        services: &'a [ServiceName],
        dry_run: bool,
        lifecycle_ids: One<'a>,
    }
    let lifecycle_ids = One(&call.decky, call.lifecycle_id);
    json(&Body { decky_id: &call.decky, services: &call.services, dry_run: false, lifecycle_ids })
}

pub(super) fn teardown(call: &TeardownCall) -> String {
    #[derive(Serialize)]
    struct Body<'a> {
        decky_id: Option<&'a DeckyName>,
        lifecycle_ids: &'a std::collections::BTreeMap<DeckyName, LifecycleId>,
    }
    json(&Body { decky_id: call.decky.as_ref(), lifecycle_ids: &call.lifecycle_ids })
}

fn json(body: &impl Serialize) -> String {
    // Texts, numbers and maps by text: this can't fail.
    serde_json::to_string(body).unwrap_or_default()
}

/// Why an answer is not the one hoped for: its status, and what its body says
/// in the shapes that agents and masters use (`{"detail": ..}`, or text).
pub(crate) fn reason(status: u16, body: &[u8]) -> String {
    let said = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(fields)) => fields.get("detail").map(detail),
        _ => None,
    };
    let said = said.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    match one_line(&said, REASON_CHARS).as_str() {
        "" => format!("{status}, without a word"),
        said => format!("{status}: {said}"),
    }
}

fn detail(detail: &Value) -> String {
    match detail {
        Value::String(text) => text.clone(),
        Value::Array(problems) => {
            let all: Vec<String> = problems.iter().take(20).map(problem).collect();
            all.join("; ")
        }
        other => other.to_string(),
    }
}

/// One problem as `body.config.mode: what is wrong`.
fn problem(problem: &Value) -> String {
    let message = problem.get("msg").and_then(Value::as_str);
    let Some(message) = message else { return problem.to_string() };
    let place = problem.get("loc").and_then(Value::as_array).into_iter().flatten();
    let place: Vec<String> =
        place.map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned)).collect();
    if place.is_empty() { message.to_owned() } else { format!("{}: {message}", place.join(".")) }
}
