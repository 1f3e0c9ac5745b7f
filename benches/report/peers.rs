//! The same work on ours and on SQLite by hand, idle and under load.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use decnet_lifecycle::testkit::{FakeAgents, FakeEngine};
use decnet_lifecycle::{
    agent::{Host, Pin, StaticHosts},
    beat::{Delta, Reported},
    fleet::DeckyConfig,
    store::{Query, RedbStore},
    *,
};
use futures_lite::future::{block_on, yield_now};

use super::by_hand::{self, Grouped, Step};
use super::{deploy, median, micros, rate, rows, timed};

const CHILD: &str = "DECNET_LIFECYCLE_BENCH_PEER";

/// Loops that want all of the processors for as long as this lives.
struct Busy {
    over: Arc<AtomicBool>,
    loops: Vec<JoinHandle<()>>,
}

impl Busy {
    fn new(loops: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let turn = |over: Arc<AtomicBool>| move || while !over.load(Ordering::Relaxed) {};
        let loops = (0..loops).map(|_| std::thread::spawn(turn(Arc::clone(&over)))).collect();
        Self { over, loops }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for one in self.loops.drain(..) {
            let _ = one.join();
        }
    }
}

/// How long operations took, and how long all of them together.
#[derive(Default)]
struct Run {
    time: Duration,
    each: Vec<Duration>,
}

impl Run {
    fn add(&mut self, other: Self) {
        self.time += other.time;
        self.each.extend(other.each);
        self.each.sort_unstable();
    }

    fn a_second(&self) -> f64 {
        self.each.len() as f64 / self.time.as_secs_f64()
    }

    fn percentile(&self, percent: usize) -> Duration {
        self.each.get(self.each.len() * percent / 100).copied().unwrap_or_default()
    }
}

/// Lets callers do one operation after the other on one thread, until the time
/// is over; what had begun by then is done.
fn drive<F: Future<Output = ()>>(callers: usize, time: Duration, operation: impl Fn(usize) -> F) -> Run {
    let executor = smol::LocalExecutor::new();
    let began = Instant::now();
    let operation = &operation;
    let calls = (0..callers).map(|caller| {
        executor.spawn(async move {
            let mut each = Vec::new();
            while began.elapsed() < time {
                let began = Instant::now();
                operation(caller).await;
                each.push(began.elapsed());
            }
            each
        })
    });
    let calls: Vec<_> = calls.collect();
    let each = block_on(executor.run(async {
        let mut all = Vec::new();
        for call in calls {
            all.extend(call.await);
        }
        all
    }));
    Run { time: began.elapsed(), each }
}

/// On an engine of the master's own that takes one call at a time, as a compose
/// project does.
fn one_at_a_time(dir: &Path, callers: usize, time: Duration) -> Run {
    on_engine(&dir.join("one"), FakeEngine::new(), callers, time)
}

/// On one that is called about different deckies at once, as decoy processes
/// are.
fn side_by_side(dir: &Path, callers: usize, time: Duration) -> Run {
    on_engine(&dir.join("side"), FakeEngine::side_by_side(), callers, time)
}

fn on_engine(file: &Path, engine: FakeEngine, callers: usize, time: Duration) -> Run {
    let store = Arc::new(RedbStore::open(file).unwrap());
    let runner = Runner::builder(store, Arc::new(engine)).build().unwrap();
    let (runner, _) = block_on(runner.recover()).unwrap();
    let fleets = fleets(callers, 0);
    let run = drive(callers, time, |caller| {
        let accepting = runner.accept_deploy(DeployRequest::new(fleets[caller].clone()));
        async { accepting.await.unwrap().run().await }
    });
    check(&runner, &run);
    run
}

/// On a worker for each caller, whose beat ends the row.
fn on_workers(dir: &Path, callers: usize, time: Duration) -> Run {
    let store = Arc::new(RedbStore::open(dir.join("workers")).unwrap());
    let host = |caller| HostId::parse(&format!("w{caller}")).unwrap();
    let hosts =
        (0..callers).map(|caller| Host { id: host(caller), address: String::new(), pin: Pin::CaOnly });
    let runner = Runner::builder(store, Arc::new(FakeEngine::new()))
        .swarm(Arc::new(FakeAgents::new()), Arc::new(StaticHosts::new(hosts)))
        .build()
        .unwrap();
    let (runner, _) = block_on(runner.recover()).unwrap();
    let fleets = fleets(callers, callers);
    let run = drive(callers, time, |caller| {
        let accepting = runner.accept_deploy(DeployRequest::new(fleets[caller].clone()));
        let (runner, host) = (&runner, host(caller));
        async move {
            let accepted = accepting.await.unwrap();
            let ended = |(decky, id): (&DeckyName, &LifecycleId)| Delta {
                lifecycle_id: Some(*id),
                decky: decky.clone(),
                operation: Operation::Deploy,
                report: Reported::Succeeded,
                completed_at: None,
            };
            let deltas: Vec<Delta> = accepted.ids().iter().map(ended).collect();
            accepted.run().await;
            runner.apply_deltas(&host, &deltas).await.unwrap();
        }
    });
    check(&runner, &run);
    run
}

fn check(runner: &Runner, run: &Run) {
    let open = block_on(runner.list(&Query::new().open())).unwrap();
    assert!(open.records.is_empty() && runner.counters().steps == 3 * run.each.len() as u64);
}

/// A fleet of one decky for each caller.
fn fleets(callers: usize, hosts: usize) -> Vec<FleetConfig> {
    let fleet = deploy::fleet(callers, hosts);
    let alone = |decky: &DeckyConfig| FleetConfig { deckies: vec![decky.clone()], ..fleet.clone() };
    fleet.deckies.iter().map(alone).collect()
}

fn step_by_step(dir: &Path, callers: usize, time: Duration) -> Run {
    let db = by_hand::open(&dir.join("steps"));
    let ids = std::cell::Cell::new(0);
    drive(callers, time, |caller| {
        let (db, ids) = (&db, &ids);
        async move {
            for step in steps_of(ids.replace(ids.get() + 1), caller) {
                by_hand::apply(db, &step);
                yield_now().await;
            }
        }
    })
}

fn grouped(dir: &Path, callers: usize, time: Duration) -> Run {
    let writer = Grouped::new(&dir.join("grouped"));
    let ids = std::cell::Cell::new(0);
    drive(callers, time, |caller| {
        let (writer, ids) = (&writer, &ids);
        async move {
            for step in steps_of(ids.replace(ids.get() + 1), caller) {
                writer.commit(step).await;
            }
        }
    })
}

fn steps_of(id: u128, caller: usize) -> [Step; 3] {
    [Step::Insert { id, decky: format!("decky-{caller:05}") }, Step::Start(id), Step::Succeed(id)]
}

pub fn report(quick: bool) {
    println!("## Beside SQLite by hand\n");
    println!(
        "Callers each take one operation after the other from accept to its end, three steps each. Ours on workers: \
         each caller has one, that takes no time. Ours on the master's engine takes no time either: side by side as decoy \
         processes are, or one call at a time as containers of one project are, where callers wait for each other. \
         By hand is one table of SQLite in WAL with FULL, without a feed, \
         keys, deadlines or readers to tell: what has gathered as one by a thread that writes, or a commit a step. \
         Under load four other threads are busy all the time.\n"
    );
    println!(
        "| load | callers | workers/s | side by side/s | grouped by hand/s | side by side : grouped | one call at a \
         time/s | a commit a step by hand/s | one call : a commit a step | p50 and p99 of these five |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---|");
    let callers: &[usize] = if quick { &[1, 8] } else { &[1, 8, 64] };
    for (load, loops) in [("idle", 0), ("four busy loops", 4)] {
        let _busy = Busy::new(loops);
        for callers in callers {
            throughput(load, *callers, quick);
        }
    }
    println!("\nThree turns each, one after the other.\n");
    stored(if quick { 1_000 } else { 100_000 });
}

fn throughput(load: &str, callers: usize, quick: bool) {
    let (turns, time) = if quick { (1, Duration::from_millis(20)) } else { (3, Duration::from_secs(1)) };
    let mut runs: [Run; 5] = Default::default();
    for _ in 0..turns {
        let dir = tempfile::tempdir().unwrap();
        for (run, peer) in
            runs.iter_mut().zip([on_workers, side_by_side, grouped, one_at_a_time, step_by_step])
        {
            run.add(peer(dir.path(), callers, time));
        }
    }
    let [workers, side, grouped, one, steps] = &runs;
    let rate = |run: &Run| rate(run.each.len(), run.time);
    let times = |run: &Run| format!("{}, {}", micros(run.percentile(50)), micros(run.percentile(99)));
    println!(
        "| {load} | {callers} | {} | {} | {} | {:.2} | {} | {} | {:.2} | {} |",
        rate(workers),
        rate(side),
        rate(grouped),
        side.a_second() / grouped.a_second(),
        rate(one),
        rate(steps),
        one.a_second() / steps.a_second(),
        runs.each_ref().map(times).join("; ")
    );
}

/// What closed rows take on disk, and how long it is until the first accept
/// after the process that wrote them was killed.
fn stored(rows: u64) {
    println!("| {rows} closed rows | bytes a row on disk | SIGKILL to first accept | under load |");
    println!("|---|---:|---:|---:|");
    for peer in ["ours", "by hand"] {
        let dir = tempfile::tempdir().unwrap();
        let first = || {
            let times = (0..5).map(|_| {
                write_and_kill(peer, dir.path(), rows);
                timed(|| accept_one(peer, dir.path())).0
            });
            micros(median(times.collect()))
        };
        let idle = first();
        let busy = Busy::new(4);
        let loaded = first();
        drop(busy);
        let files = std::fs::read_dir(dir.path()).unwrap();
        let size: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        println!("| {peer} | {} | {idle} | {loaded} |", size / rows);
    }
    println!(
        "\nMedians of five kills; the file is opened anew, and what was open is looked for and ended.\n"
    );
}

fn accept_one(peer: &str, dir: &Path) {
    if peer == "ours" {
        let store = Arc::new(RedbStore::open(dir.join(peer)).unwrap());
        let runner = Runner::builder(store, Arc::new(FakeEngine::new())).build().unwrap();
        block_on(async {
            let (runner, _) = runner.recover().await.unwrap();
            let fleet = deploy::fleet(1, 0);
            // What the kill before left accepted makes room. The work is not
            // what is measured.
            let request = DeployRequest::new(fleet).overlap(Overlap::Supersede);
            drop(runner.accept_deploy(request).await.unwrap());
        });
    } else {
        let db = by_hand::open(&dir.join(peer));
        db.execute("UPDATE lifecycle SET status = 'failed' WHERE status IN ('pending', 'running')", ())
            .unwrap();
        by_hand::apply(&db, &one_more());
    }
}

fn one_more() -> Step {
    Step::Insert { id: fastrand::u128(1 << 64..), decky: "decky-000001".to_owned() }
}

/// Has a process of its own fill the store if it is empty, write one row more,
/// and be killed.
fn write_and_kill(peer: &str, dir: &Path, rows: u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, dir.join(peer))
        .env("ROWS", rows.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let written = BufReader::new(child.stdout.take().unwrap()).lines().next();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(written.is_some_and(|line| line.is_ok()), "the child ended early");
}

pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Writes what it was asked to, says so, and waits to be killed.
pub fn child() {
    let path = std::env::var_os(CHILD).unwrap();
    let path = Path::new(&path);
    let wanted: u64 = std::env::var("ROWS").unwrap().parse().unwrap();
    let fresh = !path.exists();
    if path.ends_with("ours") {
        let store = RedbStore::open(path).unwrap();
        if fresh {
            rows::fill(&store, wanted);
        }
        let row = rows::pending(1 << 40 | u64::from(std::process::id()), 1);
        rows::commit(&store, vec![rows::insert(row)]);
        written();
    } else {
        let db = by_hand::open(path);
        if fresh {
            by_hand::fill(&db, u128::from(wanted));
        }
        by_hand::apply(&db, &one_more());
        written();
    }
}

fn written() {
    println!("written");
    std::thread::park();
}
