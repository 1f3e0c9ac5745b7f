//! Commands about what is placed: plan, ps, export --state.

use std::collections::BTreeSet;
use std::sync::Arc;

use decnet_lifecycle::http::wire;
use decnet_lifecycle::placement::Placed;
use decnet_lifecycle::{
    DeckyName, FleetConfig, Runner, Unrecovered,
    clock::{Clock as _, SystemClock},
    engine::NoProgress,
    fleet::{DeployedFleet, Mode},
    placement::Placement,
    store::{PlacementQuery, Store},
};
use serde_json::Value;

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
    Ok(tell_answer(out, &wire::plan(&plan)))
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
            runner.deckies().await?.iter().map(|decky| wire::decky(decky, now)).collect()
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
        table(out, &wanted);
    }
    let is_missing =
        |decky: &&&Value| matches!(decky.get("health").and_then(Value::as_str), Some("down" | "unsure"));
    Ok(if wanted.iter().any(|decky| is_missing(&decky)) { Done::RowsFailed } else { Done::Well })
}

fn table(out: &Output, deckies: &[&Value]) {
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
            let age = last.get("age_s").and_then(Value::as_u64).map(crate::table::age).unwrap_or_default();
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
    let padded = |cells: &[&str]| -> Vec<String> {
        cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect()
    };
    line(padded(&heads).join("  ").trim_end());
    for (decky, row) in deckies.iter().zip(&rows) {
        let mut cells = padded(&row.iter().map(String::as_str).collect::<Vec<_>>());
        if let Some(up) = cells.get_mut(3) {
            *up = out.coloured(&text(decky, "health"), up);
        }
        line(cells.join("  ").trim_end());
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
