//! A master's store in a process of its own, killed in mid-stream, again and
//! again on one file. `DECNET_LIFECYCLE_KILLS` says how often (200).

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use decnet_lifecycle::testkit::Invariants;
use decnet_lifecycle::{
    decide::{Batch, Change, Insert, Outcome, Step},
    lifecycle::{Phase, Revision},
    store::{Feed, Query, RedbStore, Store},
    *,
};
use futures_lite::future::block_on;

mod rows;

use rows::row;

const CHILD: &str = "DECNET_LIFECYCLE_KILL_CHILD";

fn main() {
    if let Some(path) = std::env::var_os(CHILD) {
        return child(Path::new(&path));
    }
    let kills =
        std::env::var("DECNET_LIFECYCLE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let seed = fastrand::u64(..);
    println!("running 1 test, {kills} kills, seed {seed}");
    let (acknowledged, slowest) = parent(kills, seed);
    println!("test a_killed_store_keeps_what_it_acknowledged ... ok");
    println!("{acknowledged} steps were acknowledged and are there; the slowest open took {slowest:?}");
    println!("\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}

/// Makes pairs of rows and takes them along, eight at a time, and prints what
/// is acknowledged, until it is killed.
fn child(path: &Path) {
    let store = Arc::new(RedbStore::open(path).unwrap());
    let first = match block_on(store.changes(Revision::ZERO, 0)).unwrap() {
        Feed::Entries { head, .. } => head.get(),
        Feed::Compacted { .. } => unreachable!("nothing is pruned"),
    };
    let executor = smol::Executor::new();
    let streams: Vec<_> = (0..8)
        .map(|stream| {
            let store = Arc::clone(&store);
            executor.spawn(async move {
                for round in 0.. {
                    pair(&*store, (first << 20) + (round << 3) + stream).await;
                }
            })
        })
        .collect();
    block_on(executor.run(async {
        for stream in streams {
            stream.await;
        }
    }));
}

async fn pair(store: &dyn Store, number: u64) {
    let at = Timestamp::from_micros(1_767_225_600_000_000 + i64::try_from(number).unwrap());
    let inserts = [0, 1].map(|half| {
        let id = LifecycleId::from_u128(u128::from(2 * number + half) + (1 << 90));
        let decky = DeckyName::parse(&format!("d{number}-{half}")).unwrap();
        let record = Record { id, decky, ..row(number) };
        Change::Insert(Box::new(Insert::new(record, Overlap::Reject)))
    });
    let mut rows = commit(store, inserts.into()).await;
    for phase in [Phase::Running { since: at, deadline: at }, Phase::Succeeded { since: at, at }] {
        let step = |row: &Record| {
            let next = Record { phase: phase.clone(), ..row.clone() };
            Change::Step(Box::new(Step::new(row.revision, next)))
        };
        rows = commit(store, rows.iter().map(step).collect()).await;
    }
}

async fn commit(store: &dyn Store, changes: Vec<Change>) -> Vec<Record> {
    let outcomes = store.commit(Batch::all_or_none(changes)).await.unwrap();
    let rows: Vec<Record> = outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Applied { record, .. } => *record,
            other => panic!("{other:?}"),
        })
        .collect();
    let mut out = std::io::stdout().lock();
    for row in &rows {
        // One write a line: a kill may cut the last line short, no other.
        let _ = out.write_all(format!("{} {}\n", row.revision, row.id).as_bytes());
    }
    rows
}

/// How many steps were acknowledged in all, and how long the slowest open took.
fn parent(kills: u32, seed: u64) -> (usize, Duration) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut total, mut slowest) = (0, Duration::ZERO);
    let mut dir = tempfile::tempdir().unwrap();
    let mut invariants = Invariants::new();
    for kill in 0..kills {
        if kill % 25 == 0 {
            // The checks read the whole file; it need not grow for ever.
            dir = tempfile::tempdir().unwrap();
            invariants = Invariants::new();
        }
        let path = dir.path().join("s.redb");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(CHILD, &path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
        let mut told = Vec::new();
        let patience = random.usize(..60);
        told.extend(lines.by_ref().take(patience));
        std::thread::sleep(Duration::from_micros(random.u64(..3_000)));
        child.kill().unwrap();
        told.extend(lines);
        child.wait().unwrap();
        let told: Vec<String> =
            told.into_iter().map(|line| String::from_utf8(line.unwrap()).unwrap()).collect();

        let began = Instant::now();
        let store = match RedbStore::open(&path) {
            Ok(store) => store,
            Err(error) => panic!("kill {kill}, seed {seed}: {error}"),
        };
        slowest = slowest.max(began.elapsed());
        block_on(invariants.check(&store))
            .unwrap_or_else(|breach| panic!("kill {kill}, seed {seed}: {breach}"));
        let Feed::Entries { entries, .. } = block_on(store.changes(Revision::ZERO, usize::MAX)).unwrap()
        else {
            panic!("compacted");
        };
        for line in &told {
            let Some((revision, id)) = line.split_once(' ') else { continue };
            let place: usize = revision.parse::<usize>().unwrap() - 1;
            let there = entries.get(place).map(|entry| entry.id.to_string());
            let cut = there.as_ref().is_some_and(|there| there.starts_with(id));
            assert!(cut, "kill {kill}, seed {seed}: acknowledged {line:?}, there is {there:?}");
        }
        let rows = block_on(store.query(&Query::new().limit(1_000))).unwrap().records.len();
        assert!(rows % 2 == 0 || rows == 1_000, "kill {kill}, seed {seed}: half a pair of {rows} rows");
        total += told.len();
    }
    assert!(total > 10 * kills as usize, "only {total} steps were acknowledged");
    (total, slowest)
}
