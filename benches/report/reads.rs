//! Reads, sweeps and opening, with few and with many closed rows.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::testkit::{FakeEngine, VirtualClock};
use decnet_lifecycle::{
    decide::Change,
    lifecycle::Phase,
    store::{Query, RedbStore, Store},
    *,
};
use futures_lite::future::block_on;

use super::rows::{at, commit, fill, insert, pending};
use super::{files, median, micros, timed};

/// How many open rows there are beside the closed ones.
const OPEN: u64 = 100;
/// How many rows are due at the sweep.
const DUE: u64 = 1_000;

struct Measured {
    rows: u64,
    open: Duration,
    get: Duration,
    page: Duration,
    history: Duration,
    sweep: Duration,
    size: u64,
    opened_clean: Duration,
    opened_killed: Duration,
    idle: files::Memory,
}

pub fn report(quick: bool) {
    let sizes: &[u64] = if quick { &[1_000] } else { &[1_000, 100_000, 1_000_000] };
    let measured: Vec<Measured> = sizes.iter().map(|rows| measure(*rows)).collect();
    println!("## Reads and sweeps\n");
    println!(
        "With this many closed rows and {OPEN} open ones, on redb; medians of 101 calls. The sweep fails {DUE:} rows \
         that are due, in one commit.\n"
    );
    println!(
        "| closed rows | find open | get 200 ids | first page of 200 | history of a decky | sweep of 1,000 due |"
    );
    println!("|---:|---:|---:|---:|---:|---:|");
    for m in &measured {
        println!(
            "| {} | {} | {} | {} | {} | {} |",
            m.rows,
            micros(m.open),
            micros(m.get),
            micros(m.page),
            micros(m.history),
            micros(m.sweep)
        );
    }
    if let (Some(first), Some(last)) = (measured.first(), measured.last()) {
        let over = |f: fn(&Measured) -> Duration| f(last).as_secs_f64() / f(first).as_secs_f64();
        println!(
            "| last over first | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
            over(|m| m.open),
            over(|m| m.get),
            over(|m| m.page),
            over(|m| m.history),
            over(|m| m.sweep)
        );
    }
    println!("\n## Files and memory\n");
    println!(
        "The same stores: opening after a clean close and after SIGKILL, the file, and the resident memory of a \
         process of its own that has opened it and is idle, and after it has read every row once (the cache is \
         bounded at 64 MiB).\n"
    );
    println!(
        "| closed rows | open, closed cleanly | open, killed | bytes a row in the file | idle | after reading all |"
    );
    println!("|---:|---:|---:|---:|---:|---:|");
    for m in &measured {
        println!(
            "| {} | {} | {} | {} | {} MiB | {} MiB |",
            m.rows,
            micros(m.opened_clean),
            micros(m.opened_killed),
            m.size / m.rows,
            m.idle.opened >> 20,
            m.idle.read >> 20
        );
    }
    println!();
}

fn repeated<T>(work: impl Fn() -> T) -> Duration {
    median((0..101).map(|_| timed(|| std::hint::black_box(work())).0).collect())
}

fn measure(rows: u64) -> Measured {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    let store = Arc::new(RedbStore::open(&path).unwrap());
    fill(&*store, rows);
    let far = 1_000_000_000;
    let open: Vec<Change> = (0..OPEN)
        .map(|number| {
            let mut row = pending(rows + number, number);
            row.phase = Phase::Pending { deadline: at(far) };
            insert(row)
        })
        .collect();
    commit(&*store, open);
    let list = |query: Query| block_on(store.query(&query)).unwrap().records;
    let ids: Vec<LifecycleId> =
        (0..200).map(|place| pending(place * (rows / 200), 0)).map(|row| row.id).collect();
    assert_eq!(block_on(store.read(&ids)).unwrap().len(), 200);
    let some = DeckyName::parse("decky-000007").unwrap();
    let measured_open = repeated(|| list(Query::new().open()));
    let get = repeated(|| block_on(store.read(&ids)).unwrap());
    let page = repeated(|| list(Query::new()));
    let history = repeated(|| list(Query::new().decky(some.clone()).limit(50)));
    let sweep = sweep(&store, rows);
    block_on(store.close()).unwrap();
    drop(store);
    let size = std::fs::metadata(&path).unwrap().len();
    let opened_clean = opened(&path);
    files::kill_while_open(&path);
    let opened_killed = opened(&path);
    let idle = files::memory_of(&path);
    Measured { rows, open: measured_open, get, page, history, sweep, size, opened_clean, opened_killed, idle }
}

fn opened(path: &Path) -> Duration {
    let (time, store) = timed(|| RedbStore::open(path).unwrap());
    drop(store);
    time
}

/// The median of five sweeps, each of as many due rows.
fn sweep(store: &Arc<RedbStore>, rows: u64) -> Duration {
    let clock = Arc::new(VirtualClock::new());
    clock.advance(Duration::from_secs(10_000_000));
    let runner = Runner::builder(Arc::clone(store) as Arc<dyn Store>, Arc::new(FakeEngine::new()))
        .clock(clock)
        .build()
        .unwrap();
    let (runner, _) = block_on(runner.recover()).unwrap();
    let times = (0..5).map(|round| {
        let from = rows + OPEN + round * DUE;
        commit(&**store, (from..from + DUE).map(|number| insert(pending(number, number))).collect());
        let (time, swept) = timed(|| block_on(runner.sweep()).unwrap());
        assert_eq!(swept.failed as u64, DUE);
        time
    });
    median(times.collect())
}
