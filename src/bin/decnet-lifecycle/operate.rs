//! Commands that change deckies: deploy, mutate, teardown.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use decnet_lifecycle::{
    AcceptError, Accepted, DeployRequest, FleetConfig, LifecycleId, MutateRequest, Overlap, Record, Runner,
    Status, TeardownRequest,
    clock::SystemClock,
    fleet::Mode,
    lifecycle::Revision,
    placement::{Placement, Plan},
    runner::{Seen, Watch},
    store::Store,
};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use smol::future::FutureExt as _;

use crate::args::{Deploy, EngineChoice, Mutate, Teardown, Terms};
use crate::client::{RunningMaster, ids};
use crate::engines::Chosen;
use crate::fleet_file::read_fleet;
use crate::home::{Home, Make};
use crate::output::{Output, Place};
use crate::progress::Printed;
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
        return follow(home, out, &ids(&answer)?).await;
    }
    // Before a store is made for nothing.
    for_this_machine(&args, &fleet)?;
    let store = home.writer(Make::IfMissing, args.terms.wait.into()).await?;
    let chosen = Chosen::for_deploy(home, &*store, args.engine, &args.compose, &fleet).await?;
    let request = deploy_request(&args, fleet);
    let (runner, recovered) = master(home, out, store.clone(), &chosen).await?;
    let plan = runner.plan(&request).await?;
    if let Some(note) = unnamed(&plan) {
        crate::output::aside(&format!("note: {note}"));
    }
    let accepted = runner.accept_deploy(request).await;
    drive(home, out, &chosen, &runner, &*store, recovered, accepted).await
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
    let is_swarm = fleet.mode == Mode::Swarm;
    if let Some(decky) = fleet.deckies.iter().find(|decky| is_swarm && decky.host_uuid.is_some()) {
        return Err(Complaint(format!(
            "{} is for a worker host, whose beats only a running master hears; start one with `serve`",
            decky.name
        )));
    }
    match args.only.iter().flatten().find(|decky| fleet.decky(decky).is_none()) {
        Some(unknown) => Err(Complaint(format!("the fleet has no decky {unknown}"))),
        None => Ok(()),
    }
}

/// What a deploy leaves alone, in one line; none if that is nothing.
pub fn unnamed(plan: &Plan) -> Option<String> {
    let names: Vec<&str> = plan.unnamed.iter().map(|(decky, _)| decky.as_str()).collect();
    let some: Vec<&str> = names.iter().take(10).copied().collect();
    let more = names.len().saturating_sub(some.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    match names.len() {
        0 => None,
        1 => Some(format!(
            "1 decky runs that this file doesn't name: {}; --prune takes it down",
            some.join(", ")
        )),
        all => Some(format!(
            "{all} deckies run that this file doesn't name: {}{more}; --prune takes them down",
            some.join(", ")
        )),
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

pub async fn mutate(home: &Home, out: &Output, args: Mutate) -> Result<Done, Complaint> {
    if let Some(master) = RunningMaster::find(home)? {
        let path = format!("/deckies/{}/mutate?{}", args.decky, query(&args.terms).finish());
        let body = json!({"services": args.services}).to_string();
        let answer = master.post(&path, args.terms.key.as_ref(), body).await?;
        return follow(home, out, &ids(&answer)?).await;
    }
    let store = home.writer(Make::IfMissing, args.terms.wait.into()).await?;
    let chosen = Chosen::for_placed(home, &*store).await?;
    let (runner, recovered) = master(home, out, store.clone(), &chosen).await?;
    let mut request = MutateRequest::new(args.decky, args.services).overlap(overlap(&args.terms));
    if let Some(key) = args.terms.key.clone() {
        request = request.key(key);
    }
    let accepted = runner.accept_mutate(request).await;
    drive(home, out, &chosen, &runner, &*store, recovered, accepted).await
}

pub async fn teardown(home: &Home, out: &Output, args: Teardown) -> Result<Done, Complaint> {
    if let Some(master) = RunningMaster::find(home)? {
        let mut query = query(&args.terms);
        for decky in &args.deckies {
            query.append_pair("only", decky.as_str());
        }
        if args.forget {
            query.append_pair("forget", "true");
        }
        let path = format!("/deckies/teardown?{}", query.finish());
        let answer = master.post(&path, args.terms.key.as_ref(), String::new()).await?;
        if args.forget {
            let forgotten = answer.get("forgotten").and_then(Value::as_array).into_iter().flatten();
            forgotten.for_each(|one| out.say(|| one.clone(), || forgotten_words(one)));
            return Ok(Done::Well);
        }
        return follow(home, out, &ids(&answer)?).await;
    }
    let store = home.writer(Make::IfMissing, args.terms.wait.into()).await?;
    let chosen = Chosen::for_placed(home, &*store).await?;
    let (runner, recovered) = master(home, out, store.clone(), &chosen).await?;
    if args.forget {
        let gone = runner.forget(&args.deckies.into_iter().collect()).await;
        finish_earlier(recovered).await;
        for placement in gone? {
            let one = forgotten(&placement);
            out.say(|| one.clone(), || forgotten_words(&one));
        }
        return Ok(Done::Well);
    }
    let mut request =
        if args.deckies.is_empty() { TeardownRequest::all() } else { TeardownRequest::new(args.deckies) };
    request = request.overlap(overlap(&args.terms));
    if let Some(key) = args.terms.key.clone() {
        request = request.key(key);
    }
    let accepted = runner.accept_teardown(request).await;
    drive(home, out, &chosen, &runner, &*store, recovered, accepted).await
}

/// A decky that is not placed any more, for machines.
pub fn forgotten(placement: &Placement) -> Value {
    let placed = placement.possibilities().last();
    json!({"event": "forgotten", "decky": placement.decky, "home": placed.map(|placed| placed.home.key()),
           "ip": placed.map(|placed| placed.config.ip.to_string())})
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

fn query(terms: &Terms) -> form_urlencoded::Serializer<'static, String> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if terms.supersede {
        query.append_pair("supersede", "true");
    }
    query
}

/// Follows rows that a running master drives, to their ends: by the store's
/// file, which can be read beside it, since the rows' ends outlive a connection
/// to the master. It is over as well at Ctrl-C, which stops nothing here, and
/// when the master is gone, for then nobody ends the rows.
pub async fn follow(home: &Home, out: &Output, ids: &[LifecycleId]) -> Result<Done, Complaint> {
    let store = home.reader().await?;
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
                Seen::Compacted { .. } | Seen::Ahead { .. } => {
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
        crate::output::aside("interrupted: the master goes on; `watch` follows it, `cancel ID` stops a row");
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
    let logs = Chosen::for_placed(home, &*store).await?.logs(home);
    finish(out, &logs, &Chosen::all_places(home).await?, &records, interrupted.load(Ordering::SeqCst))
}

const fn overlap(terms: &Terms) -> Overlap {
    if terms.supersede { Overlap::Supersede } else { Overlap::Reject }
}

/// The master: the store is ours, and what an earlier one left running has
/// ended. Gives what that one had accepted and not begun.
pub async fn master(
    home: &Home,
    out: &Output,
    store: Arc<dyn Store>,
    chosen: &Chosen,
) -> Result<(Runner, Vec<Accepted>), Complaint> {
    let printed = Arc::new(Printed(Output::new(out.is_json())));
    let (runner, recovered) = chosen.runner(store.clone(), printed).build()?.recover().await?;
    let known = runner.clone();
    crate::logger::hide(move || known.secrets());
    if recovered.failed > 0 {
        let places = chosen.places(home, &*store).await?.into_iter().filter(Place::is_up);
        let running: BTreeSet<_> = places.map(|place| place.decky).collect();
        let names: Vec<&str> = running.iter().map(|decky| decky.as_str()).collect();
        let running = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        crate::output::aside(&format!(
            "note: {} row(s) that an earlier master left open have been failed; of its deckies there still is: {running}",
            recovered.failed
        ));
    }
    if !recovered.accepted.is_empty() {
        let rows: usize = recovered.accepted.iter().map(|accepted| accepted.all_ids().count()).sum();
        crate::output::aside(&format!(
            "note: {rows} row(s) that an earlier master accepted and did not begin are taken up again"
        ));
    }
    Ok((runner, recovered.accepted))
}

/// Does what an earlier master had accepted, whatever becomes of what is asked
/// now: it was said that it is taken up again.
pub async fn finish_earlier(again: Vec<Accepted>) {
    let mut again: FuturesUnordered<_> = again.into_iter().map(Accepted::run).collect();
    while again.next().await.is_some() {}
}

/// Runs accepted rows to their end, printing each change as it is committed.
async fn drive(
    home: &Home,
    out: &Output,
    chosen: &Chosen,
    runner: &Runner,
    store: &dyn Store,
    again: Vec<Accepted>,
    accepted: Result<Accepted, AcceptError>,
) -> Result<Done, Complaint> {
    let accepted = match accepted {
        Ok(accepted) => accepted,
        Err(error) => {
            finish_earlier(again).await;
            return Err(error.into());
        }
    };
    if accepted.is_repeat() {
        crate::output::aside("note: this request was accepted before under its key; these are its rows");
    }
    drive_all(home, out, chosen, runner, store, again, vec![accepted]).await
}

/// The same of several requests.
pub async fn drive_all(
    home: &Home,
    out: &Output,
    chosen: &Chosen,
    runner: &Runner,
    store: &dyn Store,
    again: Vec<Accepted>,
    accepted: Vec<Accepted>,
) -> Result<Done, Complaint> {
    let ids: Vec<LifecycleId> = accepted.iter().flat_map(Accepted::all_ids).collect();
    let oldest = runner.get(&ids).await?.iter().map(|row| row.revision.get()).min().unwrap_or(1);
    let mut watch = runner.watch(Revision::new(oldest.saturating_sub(1)));
    let interrupted = interrupts()?;
    let work = async {
        smol::future::zip(finish_earlier(again), finish_earlier(accepted)).await;
    };
    let stopper = async {
        while !interrupted.load(Ordering::SeqCst) {
            smol::Timer::after(Duration::from_millis(50)).await;
        }
        crate::output::aside("interrupted: asking what runs to stop; press Ctrl-C again to leave at once");
        for id in &ids {
            if let Err(error) = runner.cancel(*id).await {
                crate::output::aside(&format!("error: {error}"));
            }
        }
        std::future::pending::<()>().await;
    };
    let printer = async {
        loop {
            match watch.next().await {
                Ok(seen) => print_own(out, &seen, &ids),
                Err(error) => {
                    crate::output::aside(&format!("error: {error}"));
                    smol::Timer::after(Duration::from_secs(1)).await;
                }
            }
        }
    };
    // The work alone says when it is over.
    work.or(stopper).or(printer).await;
    rest(out, &mut watch, &ids).await;
    let records = runner.get(&ids).await?;
    let decoys = chosen.places(home, store).await?;
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
    let running = Place::count_up(decoys);
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
