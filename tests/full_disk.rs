//! A disk that is full, or fails, for one commit, for two, for twenty: the store
//! says so, takes nothing meanwhile, and goes on by itself once it can; what it
//! had acknowledged is there, and rows end as they ended.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::testkit::sim::SimDisk;
use decnet_lifecycle::testkit::{FakeAgents, FakeEngine, Invariants, VirtualClock};
use decnet_lifecycle::{
    agent::{Host, Pin, StaticHosts},
    beat::{Delta, Reported, Verdict},
    clock::Clock as _,
    decide::{Batch, Change, Insert},
    store::{OpenError, Pruned, Query, RedbStore, Retention, Store, StoreHealth},
    *,
};
use futures_lite::future::{block_on, poll_once};

#[path = "rows/mod.rs"]
mod rows;

use rows::row;

#[path = "processes/mod.rs"]
mod processes;

use processes::{Data, HANGS, Process, ask, ask_tls, request, try_ask};

/// What a row's life is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum During {
    Accept,
    Step,
    Beat,
    Prune,
}

fn fleet() -> FleetConfig {
    let decky = |name: &str, ip: &str, host: Option<&str>| {
        serde_json::json!({"name": name, "ip": ip, "services": ["ssh"], "distro": "debian",
                           "base_image": "debian:12", "hostname": "srv", "host_uuid": host})
    };
    let fleet = serde_json::json!({"mode": "swarm", "interface": "eth0", "subnet": "192.0.2.0/24",
        "gateway": "192.0.2.1", "deckies": [decky("a", "192.0.2.10", None), decky("b", "192.0.2.11", Some("w1"))]});
    FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap()
}

fn name(text: &str) -> DeckyName {
    DeckyName::parse(text).unwrap()
}

/// A master over a disk, its writer polled beside whatever is done.
struct World {
    disk: SimDisk,
    store: Arc<RedbStore>,
    writer: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    runner: Runner,
    clock: Arc<VirtualClock>,
}

impl World {
    fn new() -> Self {
        let disk = SimDisk::new();
        let handle = disk.clone();
        let (store, writer) = RedbStore::simulated(move || handle.handle()).unwrap();
        let (store, clock) = (Arc::new(store), Arc::new(VirtualClock::new()));
        let w1 = Host { id: HostId::parse("w1").unwrap(), address: "w1:1".into(), pin: Pin::CaOnly };
        let runner = Runner::builder(store.clone(), Arc::new(FakeEngine::new()))
            .swarm(Arc::new(FakeAgents::new()), Arc::new(StaticHosts::new([w1])))
            .clock(clock.clone())
            .build()
            .unwrap();
        let (runner, _) = block_on(runner.recover()).unwrap();
        Self { disk, store, writer: Box::pin(writer), runner, clock }
    }

    /// Does something to its end, moving time whenever all wait for that.
    fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        for _ in 0..100_000 {
            if let Some(done) = block_on(poll_once(&mut work)) {
                // Who could not read has asked for a store that can.
                let _ = block_on(poll_once(&mut self.writer));
                return done;
            }
            assert!(block_on(poll_once(&mut self.writer)).is_none(), "the store closed for good");
            if let Some(done) = block_on(poll_once(&mut work)) {
                return done;
            }
            self.clock.advance_to_next();
        }
        panic!("it neither ends nor sleeps");
    }

    /// The disk is full from its `n`-th call on, for so many calls.
    fn fill(&self, n: u64, calls: u64, kind: io::ErrorKind) {
        self.disk.fail(self.disk.calls() + n, calls, kind);
    }

    fn rows(&mut self) -> Vec<Record> {
        for _ in 0..100 {
            let read = block_on(self.store.query(&Query::new()));
            if let Ok(page) = read {
                return page.records;
            }
            let _ = block_on(poll_once(&mut self.writer));
        }
        panic!("the store does not come back");
    }
}

/// Plays the life of two rows with a disk that fails in one part of it; gives
/// how many calls of the disk that part has.
fn play(during: During, failing: Option<(u64, u64, io::ErrorKind)>) -> u64 {
    let mut world = World::new();
    let runner = world.runner.clone();
    let mut before = 0;
    let mut begin = |world: &World, part: During| {
        if part == during {
            before = world.disk.calls();
            if let Some((n, calls, kind)) = failing {
                world.fill(n, calls, kind);
            }
        }
    };
    begin(&world, During::Accept);
    let mut refused = 0;
    let accepted = loop {
        match world.drive(runner.accept_deploy(DeployRequest::new(fleet()))) {
            Ok(accepted) => break accepted,
            // Asked again, as whoever asks does; what was in doubt stays to be
            // swept, and is in the way until then.
            Err(AcceptError::Store(_)) => refused += 1,
            Err(AcceptError::Busy(_)) => {
                let _ = world.drive(runner.sweep());
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
        assert!(
            refused < 2_000,
            "{during:?} {failing:?}: it is never accepted: {:?} {:?}",
            world.rows(),
            world.store.health()
        );
    };
    let ids = accepted.ids().clone();
    begin(&world, During::Step);
    world.drive(accepted.run());
    let after_run = world.rows();
    begin(&world, During::Beat);
    let delta = Delta {
        lifecycle_id: Some(ids[&name("b")]),
        decky: name("b"),
        operation: Operation::Deploy,
        report: Reported::Succeeded,
        completed_at: None,
    };
    let verdicts = loop {
        // As its worker does: until it was heard.
        let told = std::slice::from_ref(&delta);
        if let Ok(verdicts) = world.drive(runner.apply_deltas(&HostId::parse("w1").unwrap(), told)) {
            break verdicts;
        }
    };
    let rows = world.rows();
    let row = |decky: &str| rows.iter().find(|row| row.id == ids[&name(decky)]).expect("it is lost");
    // What could not be begun has failed for that reason, and nothing else.
    let what = format!("{during:?} {failing:?}: {:?} then {rows:?}", after_run.len());
    let at_the_start = matches!(during, During::Accept | During::Step);
    for decky in ["a", "b"] {
        match row(decky).failure() {
            None => assert_eq!(row(decky).status(), Status::Succeeded, "{what}"),
            Some(failure) => {
                assert!(at_the_start && failure.kind() == FailureKind::Store, "{what}")
            }
        }
    }
    let b_ran = row("b").failure().is_none();
    assert!(!b_ran || matches!(verdicts[0], Verdict::Applied | Verdict::AlreadyClosed), "{what}");
    assert_eq!(block_on(Invariants::new().check(&*world.store)).err(), None, "{what}");
    begin(&world, During::Prune);
    world.clock.advance(Duration::from_secs(3_600));
    let policy = Retention::closed_before(world.clock.now());
    while !matches!(world.drive(runner.prune(&policy)), Ok(Pruned { more: false, .. })) {}
    let calls = world.disk.calls() - before;
    world.disk.fail(u64::MAX, 0, io::ErrorKind::Other);
    // By itself: whoever asks once more is served.
    let again = || runner.accept_deploy(DeployRequest::new(fleet()).overlap(Overlap::Supersede));
    let taken = world.drive(again()).or_else(|_| world.drive(again()));
    drop(taken.unwrap_or_else(|error| panic!("{what}: {error}")));
    assert_eq!(world.store.health(), StoreHealth::Good);
    // A power cut loses nothing that was acknowledged.
    let acknowledged = world.rows();
    let disk = world.disk.power_cut(&mut Vec::clear);
    let store = RedbStore::with_backend(disk.handle()).unwrap();
    assert_eq!(block_on(store.query(&Query::new())).unwrap().records, acknowledged, "{what}");
    calls
}

#[test]
fn a_disk_that_was_full_is_not_the_end() {
    for during in [During::Accept, During::Step, During::Beat, During::Prune] {
        let calls = play(during, None);
        let step = (calls / 12).max(1);
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::Other] {
            for at in (1..=calls.min(60)).step_by(usize::try_from(step).unwrap()) {
                // Each commit, and each try to open anew, is a handful of calls.
                for length in [1, 2, 10, 200] {
                    play(during, Some((at, length, kind)));
                }
            }
        }
    }
}

/// A store of the first version on a disk that fails while it is taken over.
#[test]
fn a_migration_on_a_full_disk_is_made_at_the_next_start() {
    let old = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/schema-1.redb")).unwrap();
    let rows = |disk: &SimDisk| {
        let store = RedbStore::with_backend(disk.handle()).unwrap();
        block_on(store.query(&Query::new())).unwrap().records
    };
    let whole = SimDisk::holding(old.clone());
    let (known, calls) = (rows(&whole), whole.calls());
    assert!(!known.is_empty());
    let mut refused = 0;
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
        for n in 1..=calls {
            for length in [1, 2, 20] {
                let disk = SimDisk::holding(old.clone());
                disk.fail(n, length, kind);
                match RedbStore::with_backend(disk.handle()) {
                    // Not that it is damaged or another's, which would send its
                    // owner to a backup.
                    Err(error) => {
                        assert!(matches!(error, OpenError::Io { .. }), "call {n}: {error}");
                        refused += 1;
                    }
                    Ok(store) => drop(store),
                }
                disk.fail(u64::MAX, 0, kind);
                assert_eq!(rows(&disk.power_cut(&mut Vec::clear)), known, "call {n}");
            }
        }
    }
    assert!(refused > 0);
}

/// A small file system of its own, for who may mount one.
struct Small(std::path::PathBuf);

impl Small {
    fn at(path: std::path::PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let size = format!("size={size},mode=700");
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "none"])
            .arg(&path)
            .output();
        match mount {
            Ok(done) if done.status.success() => Some(Self(path)),
            other => {
                eprintln!("SKIPPED: a small file system could not be mounted (root may): {other:?}");
                None
            }
        }
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("ballast")).unwrap();
        let block = [1_u8; 4096];
        while io::Write::write_all(&mut file, &block).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a process may still be on its way out.
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn insert(number: u64) -> Change {
    Change::Insert(Box::new(Insert::new(row(number), Overlap::Reject)))
}

/// Repeats it until it is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < HANGS, "{what} is never so");
    }
}

#[test]
fn a_store_on_a_full_file_system_goes_on_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let Some(small) = Small::at(dir.path().join("small"), "6m") else { return };
    let store = RedbStore::open(small.0.join("s.redb")).unwrap();
    let (mut next, mut acknowledged) = (0, Vec::new());
    let mut commit = || {
        // Much, so that the file has to grow.
        let rows: Vec<u64> = (next..next + 200).collect();
        next += 200;
        let committed = block_on(store.commit(Batch::all_or_none(rows.iter().map(|n| insert(*n)).collect())));
        match committed {
            Ok(_) => {
                acknowledged.extend(rows);
                true
            }
            Err(StoreError::NotCommitted { .. } | StoreError::Unknown { .. }) => false,
            Err(other) => panic!("{other}"),
        }
    };
    assert!(commit());
    for failing in [1, 2, 20] {
        small.fill();
        let mut failed = 0;
        until("it is full", || {
            failed += u32::from(!commit());
            failed >= failing
        });
        small.free();
        if failing == 20 {
            // By itself: nobody asks for anything.
            until("it is well", || store.health() == StoreHealth::Good);
        }
        until("it takes rows", &mut commit);
    }
    let ids: Vec<LifecycleId> =
        acknowledged.iter().map(|number| LifecycleId::from_u128(u128::from(*number) + (1 << 90))).collect();
    assert_eq!(block_on(store.read(&ids)).unwrap().len(), ids.len());
}

const FLEET: &str = include_str!("../examples/fleet.json");

fn api(data: &Data, master: &Process, method: &str, path: &str, body: &str) -> processes::Answer {
    let bearer = format!("Bearer {}", data.token());
    ask(master.address("api"), &request(method, path, &[("authorization", &bearer)], body))
}

#[test]
fn a_master_outlives_a_full_file_system_and_says_so_meanwhile() {
    let data = Data::new();
    let Some(small) = Small::at(data.path(""), "6m") else { return };
    let mut master = Process::master(&data, &["--engine", "process"]);
    let health = || ask(master.address("api"), &request("GET", "/healthz", &[], "")).status;
    let gauge = || {
        let metrics = api(&data, &master, "GET", "/metrics", "").body;
        metrics
            .lines()
            .find_map(|line| line.strip_prefix("decnet_lifecycle_store_writable ")?.parse::<u8>().ok())
    };
    let deploy = || api(&data, &master, "POST", "/deckies/deploy?supersede=true", FLEET).status;
    assert_eq!((health(), gauge(), deploy()), (200, Some(1), 202));
    small.fill();
    // Once also what had been freed in its file is used up.
    until("it refuses", || deploy() == 503 && health() == 503 && gauge() == Some(0));
    small.free();
    until("it is well", || health() == 200);
    assert_eq!((gauge(), deploy()), (Some(1), 202));
    // What was accepted before, meanwhile and after ends.
    until("all rows have ended", || {
        let rows = data.run(&["--json", "ls", "--limit", "1000"]);
        let rows = String::from_utf8(rows.stdout).unwrap();
        !rows.contains(r#""status":"pending""#) && !rows.contains(r#""status":"running""#)
    });
    assert_eq!(master.stop(), Some(0));
    drop(small);
}

/// Commits to a file without a name would be lost with it.
#[test]
fn a_master_or_worker_whose_store_is_gone_ends() {
    for other in [false, true] {
        let data = Data::with_hosts(&["w1"]);
        let mut master = Process::master(&data, &["--engine", "process"]);
        let args = ["worker", "w1", "--engine", "process", "--master", &master.address("swarm").to_string()];
        let mut worker = Process::start(&data, &args);
        for path in ["lifecycle.redb", "workers/w1/lifecycle.redb"] {
            let path = data.path(path);
            std::fs::remove_file(&path).unwrap();
            if other {
                drop(RedbStore::open(&path).unwrap());
            }
        }
        // Nothing is taken any more,
        let bearer = format!("Bearer {}", data.token());
        let asked = request("POST", "/deckies/deploy", &[("authorization", &bearer)], FLEET);
        assert!(try_ask(master.address("api"), &asked).is_none_or(|answer| answer.status == 503));
        let ca = data.path("pki/ca.crt");
        let bundle = data.bundle("master");
        let health =
            ask_tls(worker.address("agent"), &ca, Some(&bundle), &request("GET", "/health", &[], ""));
        assert!(health.is_none_or(|answer| answer.status == 503));
        // and whoever started them hears of it.
        assert_eq!((master.wait(), worker.wait()), (Some(2), Some(2)));
    }
}
