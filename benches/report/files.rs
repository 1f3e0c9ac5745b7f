//! What only a process of its own can show: a kill, and memory.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use decnet_lifecycle::store::Store as _;
use decnet_lifecycle::store::{Query, RedbStore};
use futures_lite::future::block_on;

const CHILD: &str = "DECNET_LIFECYCLE_BENCH_CHILD";

/// Resident memory in bytes.
#[derive(Clone, Copy)]
pub struct Memory {
    pub opened: u64,
    pub read: u64,
}

pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Opens a store, commits one row, says how much memory it takes, before and
/// after reading every row, and waits to be killed.
pub fn child() {
    let path = std::env::var_os(CHILD).unwrap();
    let store = RedbStore::open(Path::new(&path)).unwrap();
    // A clean file stays clean until something is written.
    let row = super::rows::pending(1 << 40 | u64::from(std::process::id()), 1);
    super::rows::commit(&store, vec![super::rows::insert(row)]);
    println!("{}", resident());
    let mut after = None;
    loop {
        let page = block_on(store.query(&Query::new().limit(1_000).after(after))).unwrap();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    println!("{}", resident());
    std::thread::park();
}

/// Kills a process that has the store open and has written to it.
pub fn kill_while_open(path: &Path) {
    drop(spawn(path));
}

/// How much memory a process takes that has the store open. It is killed, and
/// the row that it made is its last trace.
pub fn memory_of(path: &Path) -> Memory {
    spawn(path).1
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(path: &Path) -> (Killed, Memory) {
    let child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap().parse().unwrap();
    let memory = Memory { opened: next(), read: next() };
    (child, memory)
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}
