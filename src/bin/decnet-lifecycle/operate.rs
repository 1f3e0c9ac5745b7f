//! Commands that change deckies: deploy, mutate, teardown.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use decnet_lifecycle::{
    AcceptError, Accepted, DeployRequest, FleetConfig, LifecycleId, Mode, MutateRequest, Overlap, Record,
    Revision, Runner, Seen, Status, Store as _, SystemClock, TeardownRequest, Watch,
};
use serde_json::json;
use smol::future::FutureExt as _;

use crate::args::{Deploy, EngineChoice, Mutate, Teardown, Terms};
use crate::client::{RunningMaster, ids};
use crate::engines::Chosen;
use crate::home::{Home, Make};
use crate::output::{Output, Place};
use crate::progress::Printed;
use crate::{Complaint, Done};

pub async fn deploy(home: &Home, out: &Output, args: Deploy) -> Result<Done, Complaint> {
    let fleet = read_fleet(&args.fleet)?;
    if let Some(master) = RunningMaster::find(home)? {
        if args.engine != EngineChoice::Auto || args.compose.is_given() {
            return Err(Complaint(
                "the master that runs has its own engine; give these options to `serve`".into(),
            ));
        }
        let mut query = query(&args.terms);
        for decky in args.only.iter().flatten() {
            query.append_pair("only", decky.as_str());
        }
        let path = format!("/deckies/deploy?{}", query.finish());
        let answer = master.post(&path, args.terms.key.as_ref(), fleet.to_json()).await?;
        return follow(home, out, &ids(&answer)?).await;
    }
    if let Some(decky) =
        fleet.deckies.iter().find(|decky| fleet.mode == Mode::Swarm && decky.host_uuid.is_some())
    {
        return Err(Complaint(format!(
            "{} is for a worker host, whose beats only a running master hears; start one with `serve`",
            decky.name
        )));
    }
    let chosen = Chosen::for_deploy(home, args.engine, &args.compose, &fleet).await?;
    let mut request = DeployRequest::new(fleet).overlap(overlap(&args.terms));
    if let Some(key) = args.terms.key.clone() {
        request = request.key(key);
    }
    if let Some(only) = args.only {
        request = request.only(only);
    }
    let runner = master(home, out, &chosen, &args.terms).await?;
    let accepted = runner.accept_deploy(request).await;
    drive(home, out, &chosen, &runner, accepted).await
}

pub async fn mutate(home: &Home, out: &Output, args: Mutate) -> Result<Done, Complaint> {
    if let Some(master) = RunningMaster::find(home)? {
        let path = format!("/deckies/{}/mutate?{}", args.decky, query(&args.terms).finish());
        let body = json!({"services": args.services}).to_string();
        let answer = master.post(&path, args.terms.key.as_ref(), body).await?;
        return follow(home, out, &ids(&answer)?).await;
    }
    let chosen = Chosen::for_deployed(home)?;
    let runner = master(home, out, &chosen, &args.terms).await?;
    let fleet = deployed(home).await?;
    let mut request = MutateRequest::new(fleet, args.decky, args.services).overlap(overlap(&args.terms));
    if let Some(key) = args.terms.key.clone() {
        request = request.key(key);
    }
    let accepted = runner.accept_mutate(request).await;
    drive(home, out, &chosen, &runner, accepted).await
}

pub async fn teardown(home: &Home, out: &Output, args: Teardown) -> Result<Done, Complaint> {
    if let Some(master) = RunningMaster::find(home)? {
        let decky = args.decky.as_ref().map(|decky| format!("/{decky}")).unwrap_or_default();
        let path = format!("/deckies{decky}/teardown?{}", query(&args.terms).finish());
        let answer = master.post(&path, args.terms.key.as_ref(), String::new()).await?;
        return follow(home, out, &ids(&answer)?).await;
    }
    let chosen = Chosen::for_deployed(home)?;
    let runner = master(home, out, &chosen, &args.terms).await?;
    let fleet = deployed(home).await?;
    let deckies = match args.decky {
        Some(decky) => BTreeSet::from([decky]),
        None => fleet.names().cloned().collect(),
    };
    let mut request = TeardownRequest::new(fleet, deckies).overlap(overlap(&args.terms));
    if let Some(key) = args.terms.key.clone() {
        request = request.key(key);
    }
    let accepted = runner.accept_teardown(request).await;
    drive(home, out, &chosen, &runner, accepted).await
}

/// Reads a fleet file, from a regular file or a pipe.
pub fn read_fleet(path: &std::path::Path) -> Result<FleetConfig, Complaint> {
    let complain =
        |error: &dyn std::fmt::Display| Complaint(format!("fleet file {}: {error}", path.display()));
    let bytes = read_at_most(path, FleetConfig::MAX_BYTES).map_err(|error| complain(&error))?;
    FleetConfig::from_json(&bytes).map_err(|error| complain(&error))
}

/// Reads a file, and of one that is too large one byte too many.
pub fn read_at_most(path: &std::path::Path, bytes: usize) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut read = Vec::new();
    std::fs::File::open(path)?.take(bytes as u64 + 1).read_to_end(&mut read)?;
    Ok(read)
}

fn query(terms: &Terms) -> form_urlencoded::Serializer<'static, String> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if terms.supersede {
        query.append_pair("supersede", "true");
    }
    query
}

/// Follows rows that a running master drives, to their ends.
async fn follow(home: &Home, out: &Output, ids: &[LifecycleId]) -> Result<Done, Complaint> {
    let store = home.reader()?;
    let records = store.read(ids).await?;
    let oldest = records.iter().map(|row| row.revision.get()).min().unwrap_or(1);
    let after = Revision::new(oldest.saturating_sub(1));
    let mut watch = Watch::new(store.clone(), Arc::new(SystemClock::new()), after);
    let interrupted = interrupts()?;
    let mut open: BTreeSet<LifecycleId> = ids.iter().copied().collect();
    let followed = async {
        while !open.is_empty() {
            match watch.next().await? {
                Seen::Changed(entry) => {
                    print_own(out, &Seen::Changed(entry.clone()), ids);
                    if !entry.status.is_open() {
                        open.remove(&entry.id);
                    }
                }
                Seen::Compacted { .. } => {
                    let rows = store.read(ids).await?;
                    open = rows.iter().filter(|row| row.is_open()).map(|row| row.id).collect();
                }
            }
        }
        Ok::<(), Complaint>(())
    };
    let stopper = async {
        while !interrupted.load(Ordering::SeqCst) {
            smol::Timer::after(Duration::from_millis(50)).await;
        }
        eprintln!("interrupted: the master goes on; `watch` follows it, `cancel ID` stops a row");
        Ok(())
    };
    let dead = async {
        while RunningMaster::find(home)?.is_some() {
            smol::Timer::after(Duration::from_secs(2)).await;
        }
        Err(Complaint(
            "the master has stopped; its rows are kept, `serve` goes on with them and `ls` shows them".into(),
        ))
    };
    followed.or(stopper).or(dead).await?;
    let records = store.read(ids).await?;
    let logs = Chosen::for_deployed(home)?.logs(home);
    finish(out, &logs, &Chosen::all_places(home).await?, &records, interrupted.load(Ordering::SeqCst))
}

const fn overlap(terms: &Terms) -> Overlap {
    if terms.supersede { Overlap::Supersede } else { Overlap::Reject }
}

/// The master: the store is ours, and what an earlier one left open has ended.
async fn master(home: &Home, out: &Output, chosen: &Chosen, terms: &Terms) -> Result<Runner, Complaint> {
    let store = home.writer(Make::IfMissing, terms.wait.into()).await?;
    let runner = home.runner(store, chosen, Arc::new(Printed(Output::new(out.is_json()))))?;
    let recovered = runner.recover().await?;
    if recovered.failed > 0 {
        let places = chosen.places(home).await?.into_iter().filter(|place| !place.is_dead());
        let running: BTreeSet<_> = places.map(|place| place.decky).collect();
        let names: Vec<&str> = running.iter().map(|decky| decky.as_str()).collect();
        let running = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        eprintln!(
            "note: {} row(s) that an earlier master left open have been failed; of its deckies there still is: {running}",
            recovered.failed
        );
    }
    Ok(runner)
}

async fn deployed(home: &Home) -> Result<FleetConfig, Complaint> {
    home.deployed().await?.ok_or_else(|| {
        Complaint("nothing is deployed; bring a fleet up with `deploy FLEET.json` first".into())
    })
}

/// Runs accepted rows to their end, printing each change as it is committed.
async fn drive(
    home: &Home,
    out: &Output,
    chosen: &Chosen,
    runner: &Runner,
    accepted: Result<Accepted, AcceptError>,
) -> Result<Done, Complaint> {
    let accepted = accepted?;
    let ids: Vec<LifecycleId> = accepted.ids().values().copied().collect();
    if accepted.is_repeat() {
        eprintln!("note: this request was accepted before under its key; these are its rows");
    }
    let oldest = runner.get(&ids).await?.iter().map(|row| row.revision.get()).min().unwrap_or(1);
    let mut watch = runner.watch(Revision::new(oldest.saturating_sub(1)));
    let interrupted = interrupts()?;
    let work = accepted.run();
    let stopper = async {
        while !interrupted.load(Ordering::SeqCst) {
            smol::Timer::after(Duration::from_millis(50)).await;
        }
        eprintln!("interrupted: asking what runs to stop; press Ctrl-C again to leave at once");
        for id in &ids {
            if let Err(error) = runner.cancel(*id).await {
                eprintln!("error: {error}");
            }
        }
        std::future::pending::<()>().await;
    };
    let printer = async {
        loop {
            match watch.next().await {
                Ok(seen) => print_own(out, &seen, &ids),
                Err(error) => {
                    eprintln!("error: {error}");
                    smol::Timer::after(Duration::from_secs(1)).await;
                }
            }
        }
    };
    // The work alone says when it is over.
    work.or(stopper).or(printer).await;
    rest(out, &mut watch, &ids).await;
    let records = runner.get(&ids).await?;
    let decoys = chosen.places(home).await?;
    finish(out, &chosen.logs(home), &decoys, &records, interrupted.load(Ordering::SeqCst))
}

fn print_own(out: &Output, seen: &Seen, ids: &[LifecycleId]) {
    if let Seen::Changed(entry) = seen
        && ids.contains(&entry.id)
    {
        out.change(entry);
    }
}

/// Prints what was committed since the watcher last looked.
async fn rest(out: &Output, watch: &mut Watch, ids: &[LifecycleId]) {
    while let Ok(Some(seen)) = watch.try_next().await {
        print_own(out, &seen, ids);
    }
}

fn finish(
    out: &Output,
    logs: &str,
    decoys: &[Place],
    records: &[Record],
    interrupted: bool,
) -> Result<Done, Complaint> {
    if !out.is_json() {
        crate::output::line("");
    }
    out.table(records, decoys);
    let running = decoys.iter().filter(|decoy| !decoy.is_dead()).count();
    let failed = records.iter().filter(|row| row.status() == Status::Failed).count();
    let open = records.iter().filter(|row| row.is_open()).count();
    out.say(
        || {
            json!({"event": "end", "succeeded": records.len() - failed - open, "failed": failed, "open": open,
                  "decoys": running})
        },
        || {
            let sum = format!("{} succeeded, {failed} failed", records.len() - failed - open);
            let open = if open > 0 { format!(", {open} handed to workers") } else { String::new() };
            format!("\n{sum}{open}; {running} decoys are running, {logs}")
        },
    );
    Ok(match (interrupted, failed) {
        (true, _) => Done::Interrupted,
        (false, 0) => Done::Well,
        (false, _) => Done::RowsFailed,
    })
}

/// Raised by the first Ctrl-C; the second ends the program at once.
fn interrupts() -> Result<Arc<AtomicBool>, Complaint> {
    let raised = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&raised))?;
        signal_hook::flag::register(signal, Arc::clone(&raised))?;
    }
    Ok(raised)
}
