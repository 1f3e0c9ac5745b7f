//! `deploy`: a fleet file's deckies brought up.

use std::sync::Arc;

use decnet_lifecycle::http::wire::unnamed;
use decnet_lifecycle::{DeployRequest, FleetConfig, fleet::Mode};
use serde_json::Value;

use super::drive::{Work, drive, follow, master};
use super::{overlap, query};
use crate::args::{Deploy, EngineChoice};
use crate::client::{RunningMaster, ids};
use crate::engines::Chosen;
use crate::fleet_file::read_fleet;
use crate::home::{Home, Make};
use crate::live::Live;
use crate::output::Output;
use crate::{Complaint, Done};

pub async fn deploy(home: &Home, out: &Output, args: Deploy) -> Result<Done, Complaint> {
    let fleet = read_fleet(home, &args.fleet, &args.compose)?;
    if let Some(master) = RunningMaster::find(home)? {
        for_its_engine(&args)?;
        let path = format!("/deckies/deploy?{}", deploy_query(&args).finish());
        let answer = master.post(&path, args.terms.key.as_ref(), fleet.to_json()).await?;
        for note in answer.get("notes").and_then(Value::as_array).into_iter().flatten() {
            crate::output::aside(&format!("note: {}", note.as_str().unwrap_or_default()));
        }
        return follow(home, out, &ids(&answer)?, &[]).await;
    }
    // Before a store is made for nothing.
    for_this_machine(&args, &fleet)?;
    let store = home.writer(Make::IfMissing, args.terms.wait.into()).await?;
    let chosen = Chosen::for_deploy(home, &*store, args.engine, &args.compose, &fleet).await?;
    let request = deploy_request(&args, fleet);
    let live = Arc::new(Live::new(*out));
    let (runner, recovered) = master(home, &live, store.clone(), &chosen).await?;
    let plan = runner.plan(&request).await?;
    if let Some(note) = unnamed(&plan, "--prune") {
        crate::output::aside(&format!("note: {note}"));
    }
    let asked = vec![runner.accept_deploy(request).await];
    let work = Work { again: recovered, asked, refused: Vec::new() };
    drive(home, &live, &chosen, &runner, &*store, work).await
}

/// Whether a running master can be asked this, whose engine it is.
pub fn for_its_engine(args: &Deploy) -> Result<(), Complaint> {
    if args.engine == EngineChoice::Auto && !args.compose.is_given() {
        return Ok(());
    }
    Err(Complaint("the master that runs has its own engine; give these options to `serve`".into()))
}

/// Whether a master that runs for this command only can do it.
pub fn for_this_machine(args: &Deploy, fleet: &FleetConfig) -> Result<(), Complaint> {
    is_for_no_host(fleet)?;
    match args.only.iter().flatten().find(|decky| fleet.decky(decky).is_none()) {
        Some(unknown) => Err(Complaint(format!("the fleet has no decky {unknown}"))),
        None => Ok(()),
    }
}

/// Refuses what is for worker hosts where no master runs that hears of them.
pub fn is_for_no_host(fleet: &FleetConfig) -> Result<(), Complaint> {
    let is_swarm = fleet.mode == Mode::Swarm;
    match fleet.deckies.iter().find(|decky| is_swarm && decky.host_uuid.is_some()) {
        None => Ok(()),
        Some(decky) => Err(Complaint(format!(
            "{} is for a worker host, whose beats only a running master hears; start one with `serve`",
            decky.name
        ))),
    }
}

/// What is asked of the library.
pub fn deploy_request(args: &Deploy, fleet: FleetConfig) -> DeployRequest {
    let mut request =
        DeployRequest::new(fleet).overlap(overlap(&args.terms)).relocate(args.relocate).prune(args.prune);
    if let Some(key) = args.terms.key.clone() {
        request = request.key(key);
    }
    match args.only.clone() {
        Some(only) => request.only(only),
        None => request,
    }
}

/// What is asked of a running master.
pub fn deploy_query(args: &Deploy) -> form_urlencoded::Serializer<'static, String> {
    let mut query = query(&args.terms);
    for decky in args.only.iter().flatten() {
        query.append_pair("only", decky.as_str());
    }
    for (field, is_asked) in [("move", args.relocate), ("prune", args.prune)] {
        if is_asked {
            query.append_pair(field, "true");
        }
    }
    query
}
