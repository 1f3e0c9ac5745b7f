//! Rows that were accepted, to their ends: driven by a master for this command
//! alone, or followed while another one drives them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use decnet_lifecycle::{
    AcceptError, Accepted, LifecycleId, Record, Runner, Status,
    clock::SystemClock,
    lifecycle::Revision,
    runner::{Seen, Watch},
    store::Store,
};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use smol::future::FutureExt as _;

use crate::client::RunningMaster;
use crate::engines::Chosen;
use crate::home::Home;
use crate::live::{self, Live};
use crate::output::Output;
use crate::place::Place;
use crate::table::Width;
use crate::{Complaint, Done};

/// The master: the store is ours, and what an earlier one left running has
/// ended. Gives what that one had accepted and not begun.
pub async fn master(
    home: &Home,
    live: &Arc<Live>,
    store: Arc<dyn Store>,
    chosen: &Chosen,
) -> Result<(Runner, Vec<Accepted>), Complaint> {
    let progress: Arc<Live> = Arc::clone(live);
    let (runner, recovered) = chosen.runner(store.clone(), progress).build()?.recover().await?;
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

/// What there is to do for a command.
pub struct Work {
    /// What an earlier master had accepted and not begun.
    pub again: Vec<Accepted>,
    /// What this command asked for.
    pub asked: Vec<Result<Accepted, AcceptError>>,
    /// What it could not even ask for.
    pub refused: Vec<Complaint>,
}

/// Runs what was accepted to its end, printing each change as it is committed.
/// What was refused is told, and keeps nothing else back.
pub async fn drive(
    home: &Home,
    live: &Live,
    chosen: &Chosen,
    runner: &Runner,
    store: &dyn Store,
    work: Work,
) -> Result<Done, Complaint> {
    let Work { again, asked, mut refused } = work;
    let mut accepted = Vec::new();
    for asked in asked {
        match asked {
            Ok(one) => accepted.push(one),
            Err(error) => refused.push(Complaint::from(error)),
        }
    }
    if accepted.is_empty() {
        finish_earlier(again).await;
        return Ok(told(&refused, Done::Refused));
    }
    let ids: Vec<LifecycleId> = accepted.iter().flat_map(Accepted::all_ids).collect();
    if accepted.iter().any(Accepted::is_repeat) {
        crate::output::aside("note: this request was accepted before under its key; these are its rows");
    }
    let records = runner.get(&ids).await?;
    live.begin(&records);
    let oldest = records.iter().map(|row| row.revision.get()).min().unwrap_or(1);
    let mut watch = runner.watch(Revision::new(oldest.saturating_sub(1)));
    let interrupted = interrupts()?;
    let work = async {
        smol::future::zip(finish_earlier(again), finish_earlier(accepted)).await;
    };
    let stopper = async {
        while !interrupted.load(Ordering::SeqCst) {
            smol::Timer::after(Duration::from_millis(50)).await;
        }
        live.aside("interrupted: asking what runs to stop; press Ctrl-C again to leave at once");
        for id in &ids {
            if let Err(error) = runner.cancel(*id).await {
                live.aside(&format!("error: {error}"));
            }
        }
        std::future::pending::<()>().await;
    };
    let printer = async {
        loop {
            match watch.next().await {
                Ok(seen) => show_own(live, &seen, &ids),
                Err(error) => {
                    live.aside(&format!("error: {error}"));
                    smol::Timer::after(Duration::from_secs(1)).await;
                }
            }
        }
    };
    // The work alone says when it is over.
    work.or(stopper).or(printer).or(ticking(live)).await;
    rest(live, &mut watch, &ids).await;
    let records = runner.get(&ids).await?;
    let decoys = chosen.places(home, store).await?;
    let done = finish(live, &chosen.logs(home), &decoys, records, interrupted.load(Ordering::SeqCst));
    Ok(told(&refused, done))
}

/// Follows rows that a running master drives, to their ends: by the store's
/// file, which can be read beside it, since the rows' ends outlive a connection
/// to the master. It is over as well at Ctrl-C, which stops nothing here, and
/// when the master is gone, for then nobody ends the rows.
pub async fn follow(
    home: &Home,
    out: &Output,
    ids: &[LifecycleId],
    refused: &[Complaint],
) -> Result<Done, Complaint> {
    if ids.is_empty() && !refused.is_empty() {
        return Ok(told(refused, Done::Refused));
    }
    let live = Live::new(*out);
    let store = home.reader().await?;
    let records = store.read(ids).await?;
    live.begin(&records);
    let oldest = records.iter().map(|row| row.revision.get()).min().unwrap_or(1);
    let after = Revision::new(oldest.saturating_sub(1));
    let mut watch = Watch::new(store.clone(), Arc::new(SystemClock::new()), after);
    let interrupted = interrupts()?;
    let mut open: BTreeSet<LifecycleId> = ids.iter().copied().collect();
    let followed = async {
        while !open.is_empty() {
            match watch.next().await? {
                Seen::Changed(entry) => {
                    show_own(&live, &Seen::Changed(entry.clone()), ids);
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
        live.aside("interrupted: the master goes on; `watch` follows it, `cancel ID` stops a row");
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
    let ticker = async {
        ticking(&live).await;
        Ok(())
    };
    let ended = followed.or(stopper).or(dead).or(ticker).await;
    live.clear();
    ended?;
    let records = store.read(ids).await?;
    let logs = Chosen::for_placed(home, &*store).await?.logs(home);
    let done =
        finish(&live, &logs, &Chosen::all_places(home).await?, records, interrupted.load(Ordering::SeqCst));
    Ok(told(refused, done))
}

/// Tells what was refused beside what was done.
fn told(refused: &[Complaint], done: Done) -> Done {
    for Complaint(what) in refused {
        crate::output::aside(&format!("error: {what}"));
    }
    match done {
        Done::Interrupted => done,
        done if refused.is_empty() => done,
        _ => Done::Refused,
    }
}

/// Draws anew for as long as it is polled.
async fn ticking(live: &Live) {
    loop {
        smol::Timer::after(live::TICK).await;
        live.tick();
    }
}

fn show_own(live: &Live, seen: &Seen, ids: &[LifecycleId]) {
    if let Seen::Changed(entry) = seen
        && ids.contains(&entry.id)
    {
        live.change(entry);
    }
}

/// Shows what was committed since the watcher last looked.
async fn rest(live: &Live, watch: &mut Watch, ids: &[LifecycleId]) {
    while let Ok(Some(seen)) = watch.try_next().await {
        show_own(live, &seen, ids);
    }
}

fn finish(live: &Live, logs: &str, decoys: &[Place], records: Vec<Record>, interrupted: bool) -> Done {
    live.clear();
    let out = live.out();
    let failed = records.iter().filter(|row| row.status() == Status::Failed).count();
    let open = records.iter().filter(|row| row.is_open()).count();
    let is_workers = records.iter().all(|row| !row.is_open() || row.host.is_some());
    let well = records.len() - failed - open;
    let (rows, alike) = if live.is_drawn() { live::folded(records) } else { (records, Vec::new()) };
    if !out.is_json() && !live.is_drawn() {
        crate::output::line("");
    }
    if !rows.is_empty() || alike.is_empty() {
        out.table(&rows, decoys, Width::Terminal);
    }
    alike.iter().for_each(|line| crate::output::line(line));
    let running = Place::count_up(decoys);
    out.say(
        || json!({"event": "end", "succeeded": well, "failed": failed, "open": open, "decoys": running}),
        || {
            let sum = format!("{well} succeeded, {failed} failed");
            let open = match open {
                0 => String::new(),
                open if is_workers => format!(", {open} handed to workers"),
                open => format!(", {open} still open"),
            };
            format!("\n{sum}{open}; {running} decoys are running, {logs}")
        },
    );
    match (interrupted, failed) {
        (true, _) => Done::Interrupted,
        (false, 0) => Done::Well,
        (false, _) => Done::RowsFailed,
    }
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
