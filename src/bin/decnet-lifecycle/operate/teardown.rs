//! `teardown`: deckies taken down, or forgotten.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;

use decnet_lifecycle::http::wire::forgotten;
use decnet_lifecycle::store::PlacementQuery;
use serde_json::Value;

use super::drive::{finish_earlier, master};
use super::{Ask, Asked, carry_out, query};
use crate::args::Teardown;
use crate::client::RunningMaster;
use crate::engines::Chosen;
use crate::home::{Home, Make};
use crate::live::Live;
use crate::output::Output;
use crate::{Complaint, Done};

pub async fn teardown(home: &Home, out: &Output, args: Teardown) -> Result<Done, Complaint> {
    if args.forget {
        return forget(home, out, args).await;
    }
    if args.deckies.is_empty() && !args.yes && !may_take_all_down(home).await? {
        crate::output::aside("nothing was changed");
        return Ok(Done::Refused);
    }
    let ask = Ask::Teardown(args.deckies.into_iter().collect());
    carry_out(home, out, &args.terms, async |_| Ok(Asked::of(vec![ask]))).await
}

/// Asks whether all is meant, whoever can answer.
async fn may_take_all_down(home: &Home) -> Result<bool, Complaint> {
    let placements = home.store_to_look_at().await?.placements(&PlacementQuery::All).await?;
    let names: Vec<&str> = placements.iter().map(|placement| placement.decky.as_str()).collect();
    let some: Vec<&str> = names.iter().take(5).copied().collect();
    let all = match names.len() {
        // There is nothing to lose, and whoever takes it says so.
        0 => return Ok(true),
        1 => some.join(", "),
        all if all > some.len() => format!("all {all} deckies ({}, ..)", some.join(", ")),
        all => format!("all {all} deckies ({})", some.join(", ")),
    };
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Complaint(format!("this takes down {all}: name those that you mean, or write --yes")));
    }
    // There is nobody to answer whom this doesn't reach.
    let _ = write!(std::io::stderr().lock(), "take down {all} of {}? [y/N] ", home.shown());
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

async fn forget(home: &Home, out: &Output, args: Teardown) -> Result<Done, Complaint> {
    if let Some(master) = RunningMaster::find(home)? {
        let mut query = query(&args.terms);
        for decky in &args.deckies {
            query.append_pair("only", decky.as_str());
        }
        query.append_pair("forget", "true");
        let path = format!("/deckies/teardown?{}", query.finish());
        let answer = master.post(&path, args.terms.key.as_ref(), String::new()).await?;
        let forgotten = answer.get("forgotten").and_then(Value::as_array).into_iter().flatten();
        forgotten.for_each(|one| out.say(|| one.clone(), || forgotten_words(one)));
        return Ok(Done::Well);
    }
    let store = home.writer(Make::IfMissing, args.terms.wait.into()).await?;
    let chosen = Chosen::for_placed(home, &*store).await?;
    let live = Arc::new(Live::new(*out));
    let (runner, recovered) = master(home, &live, store, &chosen).await?;
    let gone = runner.forget(&args.deckies.into_iter().collect()).await;
    finish_earlier(recovered).await;
    for placement in gone? {
        let one = forgotten(&placement);
        out.say(|| one.clone(), || forgotten_words(&one));
    }
    Ok(Done::Well)
}

fn forgotten_words(forgotten: &Value) -> String {
    let field = |name| forgotten.get(name).and_then(Value::as_str).unwrap_or("?");
    format!(
        "{}: forgotten; whatever of it is on {} may run on, at {}",
        field("decky"),
        field("home"),
        field("ip")
    )
}
