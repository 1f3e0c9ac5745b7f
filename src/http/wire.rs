//! The JSON of the API's answers: for routes and outputs of one's own that say
//! the same in the same fields.

use serde_json::{Map, Value, json};

use crate::lifecycle::{Failure, LifecycleId, Record, Timestamp};
use crate::placement::{Placement, Plan, PlanStep};
use crate::runner::{Accepted, DeckyStatus, Explanation, Health, HistoryStep, Restored};

/// A row as the original's master has it, field by field.
///
/// ```
/// # use std::sync::Arc;
/// # use decnet_lifecycle::{DeployRequest, FleetConfig, Runner, store::{MemoryStore, Query}};
/// # use decnet_lifecycle::testkit::FakeEngine;
/// use decnet_lifecycle::http::wire;
///
/// # futures_lite::future::block_on(async {
/// # let (runner, _) = Runner::builder(Arc::new(MemoryStore::new()), Arc::new(FakeEngine::new()))
/// #     .build()?.recover().await?;
/// # let fleet = FleetConfig::from_json(include_bytes!("../../examples/fleet.json"))?;
/// # runner.accept_deploy(DeployRequest::new(fleet)).await?.run().await;
/// let rows = runner.list(&Query::new()).await?.records;
/// assert_eq!(wire::original(&rows[0])["status"], "succeeded");
/// // Ours says more, and calls a decky a decky.
/// assert_eq!(wire::row(&rows[0])["decky"], wire::original(&rows[0])["decky_name"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[must_use]
pub fn original(record: &Record) -> Value {
    json!({
        "id": record.id, "decky_name": record.decky, "host_uuid": record.host, "operation": record.operation,
        "status": record.status(), "error": record.failure().map(Failure::to_string),
        "started_at": record.created_at.to_string(), "updated_at": record.updated_at.to_string(),
        "completed_at": timed(record.completed_at()),
    })
}

/// A row with all that is known of it, with the same names wherever it is told.
#[must_use]
pub fn row(record: &Record) -> Value {
    json!({
        "event": "row", "id": record.id, "decky": record.decky, "host": record.host,
        "operation": record.operation, "status": record.status(),
        "error": record.failure().map(Failure::to_string),
        "kind": record.failure().map(|failure| failure.kind().as_str()),
        "started_at": record.created_at.to_string(), "running_since": timed(record.running_since()),
        "updated_at": record.updated_at.to_string(), "completed_at": timed(record.completed_at()),
        "deadline": timed(record.deadline()), "cancel_requested_at": timed(record.cancel_requested_at),
        "key": record.key, "revision": record.revision,
    })
}

/// A [`row`], its history, and why it is where it is.
#[must_use]
pub fn detailed(record: &Record, steps: &[HistoryStep], why: &Explanation) -> Value {
    let mut value = row(record);
    if let Value::Object(fields) = &mut value {
        let steps = steps
            .iter()
            .map(|step| json!({"status": step.status, "at": step.at.to_string(), "error": step.error}));
        fields.insert("history".into(), steps.collect());
        fields.insert("why".into(), why.to_string().into());
    }
    value
}

/// A plan for machines; its field `text` is what people read.
#[must_use]
pub fn plan(plan: &Plan) -> Value {
    let steps = plan.steps.iter().map(|step| {
        let what = match step {
            PlanStep::New { .. } => "new",
            PlanStep::Change { .. } => "change",
            PlanStep::Settle { .. } => "settle",
            PlanStep::Move { .. } => "move",
            PlanStep::Remove { .. } => "remove",
            PlanStep::Same { .. } => "same",
        };
        json!({"decky": step.decky(), "step": what, "text": step.to_string()})
    });
    let clashes = plan.clashes.iter().map(|clash| json!({"decky": clash.decky(), "text": clash.to_string()}));
    let unnamed = plan.unnamed.iter().map(|(decky, home)| json!({"decky": decky, "home": home.key()}));
    json!({
        "event": "plan", "changes_nothing": plan.changes_nothing(), "steps": steps.collect::<Vec<_>>(),
        "unnamed": unnamed.collect::<Vec<_>>(), "clashes": clashes.collect::<Vec<_>>(), "text": plan.to_string(),
    })
}

/// What a deploy leaves alone, in one line, and with which option it wouldn't;
/// none if that is nothing.
#[must_use]
pub fn unnamed(plan: &Plan, option: &str) -> Option<String> {
    let names: Vec<&str> = plan.unnamed.iter().map(|(decky, _)| decky.as_str()).collect();
    let some: Vec<&str> = names.iter().take(10).copied().collect();
    let more = names.len().saturating_sub(some.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    match names.len() {
        0 => None,
        1 => Some(format!(
            "1 decky runs that this file doesn't name: {}; {option} takes it down",
            some.join(", ")
        )),
        all => Some(format!(
            "{all} deckies run that this file doesn't name: {}{more}; {option} takes them down",
            some.join(", ")
        )),
    }
}

/// What is known of a decky at this time.
#[must_use]
pub fn decky(decky: &DeckyStatus, now: Timestamp) -> Value {
    let (up, of) = decky.running();
    let placed = decky.placement.as_ref().and_then(Placement::now);
    let health = match decky.health() {
        Health::Up => "up",
        Health::Down => "down",
        Health::Unsure => "unsure",
        Health::Underway => "underway",
        Health::Stranger => "stranger",
        Health::Left => "left",
        Health::Unseen => "unseen",
    };
    let last = decky.last.as_ref().map(|row| {
        json!({
            "id": row.id, "operation": row.operation, "status": row.status(), "at": row.updated_at.to_string(),
            "error": row.failure().map(Failure::to_string), "age_s": now.since(row.updated_at).as_secs(),
        })
    });
    json!({
        "decky": decky.decky, "home": decky.home.key(), "host": decky.home.host(),
        "ip": placed.map(|placed| placed.config.ip.to_string()), "agent_ip": decky.address,
        "engine": placed.and_then(|placed| placed.engine.as_ref()),
        "services": decky.services(), "running": up, "of": of, "health": health, "up": decky.to_string(),
        "runtime": decky.runtime.as_ref().map(|runtime| &runtime.services), "last": last,
        "drifted_since": timed(decky.drifted_since),
    })
}

/// A decky that is not placed any more.
#[must_use]
pub fn forgotten(placement: &Placement) -> Value {
    let placed = placement.possibilities().last();
    json!({"event": "forgotten", "decky": placement.decky, "home": placed.map(|placed| placed.home.key()),
           "ip": placed.map(|placed| placed.config.ip.to_string())})
}

/// What is brought back, and what was left as it is.
#[must_use]
pub fn restored(restored: &Restored) -> Value {
    let ids: Vec<LifecycleId> = restored.accepted.iter().flat_map(Accepted::all_ids).collect();
    json!({"lifecycle_ids": ids, "up": restored.up.len(), "left": left(restored)})
}

/// Which deckies were left as they are, and why.
#[must_use]
pub fn left(restored: &Restored) -> Map<String, Value> {
    restored.left.iter().map(|(decky, why)| (decky.to_string(), json!(why))).collect()
}

fn timed(time: Option<Timestamp>) -> Option<String> {
    time.map(|time| time.to_string())
}
