//! Commands about what is placed: plan, ps, export --state.

use std::collections::BTreeSet;
use std::sync::Arc;

use decnet_lifecycle::placement::{Placed, PlanStep};
use decnet_lifecycle::{
    DeckyName, FleetConfig, Runner, Timestamp, Unrecovered,
    clock::{Clock as _, SystemClock},
    engine::NoProgress,
    fleet::{DeployedFleet, Mode},
    placement::{Placement, Plan},
    runner::{DeckyStatus, Health},
    store::{PlacementQuery, Store},
};
use serde_json::{Value, json};

use crate::args;
use crate::client::RunningMaster;
use crate::engines::Chosen;
use crate::fleet_file::read_fleet;
use crate::home::Home;
use crate::operate::{deploy_query, deploy_request, for_its_engine, for_this_machine};
use crate::output::{Output, line};
use crate::{Complaint, Done};

/// A master that only looks: over the store beside whoever writes it, or over
/// nothing where there is none.
pub fn looking(home: &Home, chosen: &Chosen, store: Arc<dyn Store>) -> Result<Unrecovered, Complaint> {
    Ok(Runner::builder(store, chosen.engine())
        .master(home.master()?)
        .progress(Arc::new(NoProgress))
        .build()?)
}

pub async fn plan(home: &Home, out: &Output, args: args::Deploy) -> Result<Done, Complaint> {
    let fleet = read_fleet(home, &args.fleet, &args.compose)?;
    if let Some(master) = RunningMaster::find(home)? {
        for_its_engine(&args)?;
        let path = format!("/deckies/deploy?{}", deploy_query(&args).append_pair("dry_run", "1").finish());
        return Ok(tell_answer(out, &master.post(&path, None, fleet.to_json()).await?));
    }
    for_this_machine(&args, &fleet)?;
    let store = home.store_to_look_at().await?;
    let chosen = Chosen::for_plan(home, &*store, args.engine, &args.compose, &fleet).await?;
    let runner = looking(home, &chosen, store)?;
    let plan = runner.plan(&deploy_request(&args, fleet)).await?;
    Ok(tell_answer(out, &plan_value(&plan)))
}

/// A plan for machines; `text` is what people read.
pub fn plan_value(plan: &Plan) -> Value {
    let steps = plan.steps.iter().map(|step| {
        let what = match step {
            PlanStep::New { .. } => "new",
            PlanStep::Change { .. } => "change",
            PlanStep::Settle { .. } => "settle",
            PlanStep::Move { .. } => "move",
            PlanStep::Remove { .. } => "remove",
            _ => "same",
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

/// 0 there is nothing to do, 1 there is, 2 it would be refused.
fn tell_answer(out: &Output, plan: &Value) -> Done {
    out.say(|| plan.clone(), || plan.get("text").and_then(Value::as_str).unwrap_or_default().to_owned());
    let clashes = plan.get("clashes").and_then(Value::as_array).is_some_and(|clashes| !clashes.is_empty());
    match (clashes, plan.get("changes_nothing").and_then(Value::as_bool)) {
        (true, _) => Done::Refused,
        (false, Some(true)) => Done::Well,
        (false, _) => Done::RowsFailed,
    }
}

pub async fn ps(home: &Home, out: &Output, deckies: &[DeckyName]) -> Result<Done, Complaint> {
    let all: Vec<Value> = match RunningMaster::find(home)? {
        Some(master) => {
            let answer = master.get("/deckies").await?;
            answer.get("deckies").and_then(Value::as_array).cloned().unwrap_or_default()
        }
        None => {
            let store = home.store_to_look_at().await?;
            let chosen = Chosen::for_placed(home, &*store).await?;
            let runner = looking(home, &chosen, store)?;
            let now = SystemClock::new().now();
            runner.deckies().await?.iter().map(|decky| decky_value(decky, now)).collect()
        }
    };
    let name = |decky: &Value| decky.get("decky").and_then(Value::as_str).unwrap_or_default().to_owned();
    let known: BTreeSet<String> = all.iter().map(name).collect();
    if let Some(unknown) = deckies.iter().find(|decky| !known.contains(decky.as_str())) {
        let known: Vec<String> = known.into_iter().take(20).collect();
        return Err(Complaint(match known.as_slice() {
            [] => format!("there is no decky {unknown}; nothing is placed"),
            known => format!("there is no decky {unknown}; there is {}", known.join(", ")),
        }));
    }
    let wanted: Vec<&Value> = all
        .iter()
        .filter(|decky| deckies.is_empty() || deckies.iter().any(|wanted| wanted.as_str() == name(decky)))
        .collect();
    if out.is_json() {
        wanted.iter().for_each(|decky| line(&decky.to_string()));
    } else {
        table(&wanted);
    }
    let is_missing =
        |decky: &&&Value| matches!(decky.get("health").and_then(Value::as_str), Some("down" | "unsure"));
    Ok(if wanted.iter().any(|decky| is_missing(&decky)) { Done::RowsFailed } else { Done::Well })
}

/// What is known of a decky, for machines.
pub fn decky_value(decky: &DeckyStatus, now: Timestamp) -> Value {
    let (up, of) = decky.running();
    let placed = decky.placement.as_ref().and_then(Placement::now);
    let health = match decky.health() {
        Health::Up => "up",
        Health::Down => "down",
        Health::Unsure => "unsure",
        Health::Underway => "underway",
        Health::Stranger => "stranger",
        _ => "unseen",
    };
    let last = decky.last.as_ref().map(|row| {
        json!({
            "id": row.id, "operation": row.operation, "status": row.status(), "at": row.updated_at.to_string(),
            "error": row.failure().map(ToString::to_string), "age_s": now.since(row.updated_at).as_secs(),
        })
    });
    json!({
        "decky": decky.decky, "home": decky.home.key(), "host": decky.home.host(),
        "ip": placed.map(|placed| placed.config.ip.to_string()),
        "engine": placed.and_then(|placed| placed.engine.as_ref()),
        "services": decky.services(), "running": up, "of": of, "health": health, "up": decky.to_string(),
        "runtime": decky.runtime.as_ref().map(|runtime| &runtime.services), "last": last,
        "drifted_since": decky.drifted_since.map(|since| since.to_string()),
    })
}

fn table(deckies: &[&Value]) {
    if deckies.is_empty() {
        return line("nothing is placed, and nothing was found that runs");
    }
    let text =
        |decky: &Value, field: &str| decky.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let rows: Vec<[String; 6]> = deckies
        .iter()
        .map(|decky| {
            let services = decky.get("services").and_then(Value::as_array).into_iter().flatten();
            let services: Vec<&str> = services.filter_map(Value::as_str).collect();
            let last = decky.get("last").cloned().unwrap_or_default();
            let word = match text(&last, "status").as_str() {
                "succeeded" => "ok".to_owned(),
                other => other.to_owned(),
            };
            let age = last.get("age_s").and_then(Value::as_u64).map(crate::output::age).unwrap_or_default();
            let host = match text(decky, "host") {
                host if host.is_empty() => "-".to_owned(),
                host => host,
            };
            let last = format!("{} {word}", text(&last, "operation"));
            [text(decky, "decky"), host, services.join(","), text(decky, "up"), last.trim().to_owned(), age]
        })
        .collect();
    let heads = ["DECKY", "HOST", "SERVICES", "UP", "LAST", "AGE"];
    let widths: Vec<usize> = heads
        .iter()
        .enumerate()
        .map(|(column, head)| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(head.len())
        })
        .collect();
    let print = |cells: &[&str]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        line(padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    print(&heads);
    for row in &rows {
        print(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// What is placed in the original's format, as one fleet.
pub async fn export_state(home: &Home) -> Result<Done, Complaint> {
    let placements = home.reader().await?.placements(&PlacementQuery::All).await?;
    let placed: Vec<&Placed> = placements.iter().filter_map(Placement::now).map(|placed| &**placed).collect();
    let Some(first) = placed.first() else { return Err(Complaint("nothing is placed".into())) };
    if let Some(other) = placed.iter().find(|placed| placed.network != first.network) {
        return Err(Complaint(format!(
            "the original's format has one network, and {} is in {} while {} is in {}",
            first.config.name, first.network, other.config.name, other.network
        )));
    }
    let is_swarm = placed.iter().any(|placed| placed.home.host().is_some());
    let config = FleetConfig {
        mode: if is_swarm { Mode::Swarm } else { Mode::Unihost },
        interface: first.network.interface.clone(),
        subnet: first.network.subnet,
        gateway: first.network.gateway,
        ipvlan: first.network.ipvlan,
        log_file: first.log_file.clone(),
        mutate_interval: first.mutate_interval,
        deckies: placed.iter().map(|placed| placed.config.clone()).collect(),
    };
    let is_compose =
        placed.iter().any(|placed| placed.engine.as_ref().is_some_and(|name| name.as_str() == "compose"));
    let compose_path = match is_compose {
        true => Chosen::compose_file(home)?,
        false => String::new(),
    };
    line(DeployedFleet { config, compose_path }.to_json().trim_end());
    Ok(Done::Well)
}
