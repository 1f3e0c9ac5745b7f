//! PostgreSQL beside redb, on the same disk: changes that are each a commit of
//! their own, by few and by many submitters. Starts a server of its own, with
//! its flushes on, or takes that of DECNET_LIFECYCLE_TEST_POSTGRES.

use std::sync::Arc;
use std::time::{Duration, Instant};

use decnet_lifecycle::store::{PostgresStore, RedbStore, Store};
use futures_lite::future::block_on;
use futures_util::future::join_all;

#[allow(dead_code)]
#[path = "../tests/postgres/server.rs"]
mod server;
#[allow(dead_code)]
#[path = "../tests/postgres/work.rs"]
mod work;

const SUBMITTERS: [u16; 3] = [1, 64, 512];

fn main() {
    let quick = std::env::var_os("QUICK").is_some();
    let time = if quick { Duration::from_millis(200) } else { Duration::from_secs(8) };
    let server = match server::own_server() {
        Some(server) => {
            server.set("fsync = on");
            server.crash();
            server
        }
        None => match server::Server::given() {
            Some(server) => server,
            None => return,
        },
    };
    println!("| submitters | store | changes/s | p50 ms | p99 ms |\n|---|---|---|---|---|");
    for submitters in SUBMITTERS {
        let dir = tempfile::tempdir().unwrap();
        let redb: Arc<dyn Store> = Arc::new(RedbStore::open(dir.path().join("rows.redb")).unwrap());
        measure("redb", &redb, submitters, time);
        drop(redb);
        for (name, notify) in [("PostgreSQL", true), ("PostgreSQL, notify=off", false)] {
            let settings = server.fresh().notify(notify);
            let store: Arc<dyn Store> = Arc::new(block_on(PostgresStore::connect(settings)).unwrap());
            measure(name, &store, submitters, time);
        }
    }
    println!("\n{}", server.sql("select version()"));
}

/// Rows are accepted, started and ended, each change by itself.
fn measure(name: &str, store: &Arc<dyn Store>, submitters: u16, time: Duration) {
    let began = Instant::now();
    let work = (0..submitters).map(|submitter| async move {
        let mut taken = Vec::new();
        let mut number = 0;
        while began.elapsed() < time {
            number += 1;
            let mut record = None;
            for step in 0..3 {
                let change = work::bare(submitter, number, step, record.as_ref());
                let asked = Instant::now();
                record = Some(work::applied(&**store, change).await.unwrap());
                taken.push(asked.elapsed());
            }
        }
        taken
    });
    let mut taken: Vec<Duration> = block_on(join_all(work)).into_iter().flatten().collect();
    let seconds = began.elapsed().as_secs_f64();
    taken.sort_unstable();
    let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize].as_secs_f64() * 1_000.0;
    let rate = taken.len() as f64 / seconds;
    println!("| {submitters} | {name} | {rate:.0} | {:.2} | {:.2} |", at(0.5), at(0.99));
}
