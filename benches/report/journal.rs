//! Steps through the journal, beside redb doing the same tables raw.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use decnet_lifecycle::testkit::encode_stored_row;
use decnet_lifecycle::{
    bus::NullBus,
    journal::Journal,
    lifecycle::{AnyLifecycle, Lifecycle, Pending, Phase},
    store::{RedbStore, Store},
    *,
};
use futures_lite::future::block_on;
use redb::{ConcurrencyMode, Database, Durability, ReadableTable as _, TableDefinition};

use super::rows::{at, commit, insert, pending};
use super::{median, micros, rate, timed};

const ROWS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("rows");
const OPEN: TableDefinition<'_, (&str, u128), ()> = TableDefinition::new("open");
const DEADLINES: TableDefinition<'_, (i64, u128), ()> = TableDefinition::new("deadlines");
const FEED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("feed");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

pub fn report(quick: bool) {
    println!("## Steps through the journal\n");
    println!(
        "Each submitter takes its own rows from pending to running to succeeded, one step after the other. Raw is \
         redb with the same durability, writing the same tables and bytes, as many steps a transaction as there are \
         submitters, with nothing decided, read or answered but the row's old value.\n"
    );
    println!(
        "| submitters | steps/s | raw steps/s | of raw | p99 of a step | median of a raw commit | p99 over it |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    for submitters in [1, 8, 64, 512] {
        let each = match (quick, submitters) {
            (true, _) => 2,
            (_, 1) => 600,
            (_, 8) => 200,
            (_, 64) => 100,
            _ => 60,
        };
        let dir = tempfile::tempdir().unwrap();
        let (mut ours, mut theirs) = (Duration::MAX, Duration::MAX);
        let (mut latencies, mut raw_commits) = (Vec::new(), Vec::new());
        for round in 0..3 {
            let (time, mut each_step) = journal(&dir.path().join(format!("ours-{round}")), submitters, each);
            let (raw_time, commits) = raw(&dir.path().join(format!("raw-{round}")), submitters, each);
            ours = ours.min(time);
            theirs = theirs.min(raw_time);
            latencies.append(&mut each_step);
            raw_commits.extend(commits);
        }
        latencies.sort_unstable();
        let p99 = latencies[latencies.len() * 99 / 100];
        let one = median(raw_commits);
        let steps = 2 * submitters * each;
        println!(
            "| {submitters} | {} | {} | {:.0}% | {} | {} | {:.1} |",
            rate(steps, ours),
            rate(steps, theirs),
            100.0 * theirs.as_secs_f64() / ours.as_secs_f64(),
            micros(p99),
            micros(one),
            p99.as_secs_f64() / one.as_secs_f64()
        );
    }
    println!("\nThe best of three runs each; the percentiles are over all three.\n");
}

fn journal(path: &Path, submitters: usize, each: usize) -> (Duration, Vec<Duration>) {
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(path).unwrap());
    let journal = Journal::new(Arc::clone(&store), Arc::new(NullBus));
    let mut handles: Vec<Vec<Lifecycle<Pending>>> = Vec::new();
    for submitter in 0..submitters {
        // Rows that take steps at the same time were made at the same time.
        let numbers = (0..each).map(|round| (round * submitters + submitter) as u64);
        let rows = commit(&*store, numbers.map(|number| insert(pending(number, number))).collect());
        let load = |row: &Record| match block_on(journal.load(row.id)).unwrap() {
            Some(AnyLifecycle::Pending(row)) => row,
            other => panic!("{other:?}"),
        };
        handles.push(rows.iter().map(load).collect());
    }
    let executor = smol::LocalExecutor::new();
    let tasks: Vec<_> = handles
        .into_iter()
        .map(|rows| {
            let journal = journal.clone();
            executor.spawn(async move {
                let mut times = Vec::with_capacity(2 * rows.len());
                for row in rows {
                    let began = Instant::now();
                    let row = journal.commit(row.start(at(1), at(9_999))).await.unwrap();
                    times.push(began.elapsed());
                    let began = Instant::now();
                    let _ = journal.commit(row.succeed(at(2))).await.unwrap();
                    times.push(began.elapsed());
                }
                times
            })
        })
        .collect();
    timed(|| {
        block_on(executor.run(async {
            let mut times = Vec::new();
            for task in tasks {
                times.append(&mut task.await);
            }
            times
        }))
    })
}

/// What one step writes, made beforehand.
struct Prepared {
    id: u128,
    decky: String,
    row: Vec<u8>,
    entry: Vec<u8>,
    deadline: i64,
    ends: Ends,
}

enum Ends {
    No,
    Yes,
}

fn raw(path: &Path, submitters: usize, each: usize) -> (Duration, Vec<Duration>) {
    let mut builder = redb::Builder::new();
    builder.set_cache_size(64 << 20).set_concurrency_mode(ConcurrencyMode::SingleWriter);
    let db = builder.create(path).unwrap();
    let prepare = |number: usize, ends: Ends| {
        let mut row = pending(number as u64, number as u64);
        let before = row.deadline().unwrap().as_micros();
        row.updated_at = at(2);
        row.phase = match ends {
            Ends::No => Phase::Running { since: at(1), deadline: at(9_999) },
            Ends::Yes => Phase::Succeeded { since: at(1), at: at(2) },
        };
        let deadline = if matches!(ends, Ends::No) { before } else { at(9_999).as_micros() };
        let bytes = encode_stored_row(&row).unwrap();
        // An entry holds what a row does, but for owner, key and deadline.
        let entry = bytes[..bytes.len() * 2 / 3].to_vec();
        Prepared { id: row.id.as_u128(), decky: row.decky.to_string(), row: bytes, entry, deadline, ends }
    };
    let numbers: Vec<Vec<usize>> = (0..each)
        .map(|round| (0..submitters).map(|submitter| round * submitters + submitter).collect())
        .collect();
    let txn = db.begin_write().unwrap();
    {
        let mut rows = txn.open_table(ROWS).unwrap();
        let mut open = txn.open_table(OPEN).unwrap();
        let mut deadlines = txn.open_table(DEADLINES).unwrap();
        for number in numbers.iter().flatten() {
            let row = pending(*number as u64, *number as u64);
            let bytes = encode_stored_row(&row).unwrap();
            rows.insert(row.id.as_u128(), bytes.as_slice()).unwrap();
            open.insert((row.decky.as_str(), row.id.as_u128()), ()).unwrap();
            deadlines.insert((row.deadline().unwrap().as_micros(), row.id.as_u128()), ()).unwrap();
        }
    }
    txn.commit().unwrap();
    let batches: Vec<Vec<Prepared>> = numbers
        .iter()
        .flat_map(|batch| {
            let starts = batch.iter().map(|number| prepare(*number, Ends::No)).collect();
            let ends = batch.iter().map(|number| prepare(*number, Ends::Yes)).collect();
            [starts, ends]
        })
        .collect();
    let mut commits = Vec::new();
    let (time, ()) = timed(|| {
        let mut revision = 0;
        for batch in &batches {
            let (time, ()) = timed(|| write(&db, batch, &mut revision));
            commits.push(time);
        }
    });
    (time, commits)
}

fn write(db: &Database, batch: &[Prepared], revision: &mut u64) {
    let mut txn = db.begin_write().unwrap();
    txn.set_two_phase_commit(true);
    txn.set_durability(Durability::Immediate).unwrap();
    {
        let mut rows = txn.open_table(ROWS).unwrap();
        let mut open = txn.open_table(OPEN).unwrap();
        let mut deadlines = txn.open_table(DEADLINES).unwrap();
        let mut feed = txn.open_table(FEED).unwrap();
        let mut meta = txn.open_table(META).unwrap();
        for step in batch {
            *revision += 1;
            std::hint::black_box(rows.get(step.id).unwrap().map(|row| row.value().len()));
            feed.insert(*revision, step.entry.as_slice()).unwrap();
            rows.insert(step.id, step.row.as_slice()).unwrap();
            deadlines.remove((step.deadline, step.id)).unwrap();
            match step.ends {
                Ends::No => drop(deadlines.insert((at(9_999).as_micros(), step.id), ()).unwrap()),
                Ends::Yes => drop(open.remove((step.decky.as_str(), step.id)).unwrap()),
            }
        }
        meta.insert("head", *revision).unwrap();
    }
    txn.commit().unwrap();
}
