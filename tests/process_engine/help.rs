//! An engine in a directory of its own, and a fleet for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use decnet_lifecycle::engine::Engine as _;
use decnet_lifecycle::engine::process::{Decoy, ProcessEngine};
use decnet_lifecycle::{
    clock::{Clock, SystemClock},
    engine::{CancelToken, NoProgress, Task, Work},
    *,
};
use futures_lite::future::block_on;

pub fn engine(dir: &Path) -> ProcessEngine {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_decnet-lifecycle"));
    ProcessEngine::new(dir).program(program, vec!["decoy".into()])
}

pub fn fleet(services: &[&str]) -> FleetConfig {
    let fleet = FleetConfig::from_json(include_bytes!("../../examples/fleet.json")).unwrap();
    let services = services.iter().map(|name| ServiceName::parse(name).unwrap()).collect();
    fleet.with_services(&decky(), services).unwrap()
}

pub fn decky() -> DeckyName {
    DeckyName::parse("decky-01").unwrap()
}

pub fn work(fleet: FleetConfig, cancel: &CancelToken) -> Work {
    work_on(fleet, &["decky-01"], cancel)
}

pub fn work_on(fleet: FleetConfig, deckies: &[&str], cancel: &CancelToken) -> Work {
    let task = |name: &&str| {
        (DeckyName::parse(name).unwrap(), Task { id: LifecycleId::from_u128(1), cancel: cancel.clone() })
    };
    Work {
        fleet: Arc::new(fleet),
        deckies: deckies.iter().map(task).collect(),
        clock: Arc::new(SystemClock::new()),
        progress: Arc::new(NoProgress),
    }
}

/// A clock whose waits are over at once: whoever waits with patience loses it.
#[derive(Debug, Default)]
pub struct Hasty(std::sync::Mutex<std::time::Duration>);

#[async_trait::async_trait]
impl Clock for Hasty {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(0)
    }

    fn monotonic(&self) -> std::time::Duration {
        *self.0.lock().unwrap()
    }

    async fn sleep(&self, duration: std::time::Duration) {
        *self.0.lock().unwrap() += duration;
    }
}

/// Sends a signal to a process of this test's own.
pub fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Waits until something is so. What never is hangs the test.
pub fn until(mut so: impl FnMut() -> bool) {
    while !so() {
        std::thread::yield_now();
    }
}

/// The processes, zombies aside, whose command line names this text.
pub fn processes(text: &str) -> Vec<u32> {
    let named = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let words = std::fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&words).contains(text).then_some(pid)
    };
    std::fs::read_dir("/proc").unwrap().filter_map(named).collect()
}

/// Whether this process is there, if only as a zombie.
pub fn is_there(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

pub fn up(engine: &ProcessEngine, services: &[&str]) -> Result<(), Failure> {
    let work = work(fleet(services), &CancelToken::new());
    block_on(engine.deploy(&work)).unwrap().outcome(&decky())
}

pub fn down(engine: &ProcessEngine) {
    let work = work(fleet(&["ssh"]), &CancelToken::new());
    block_on(engine.teardown(&work)).unwrap().outcome(&decky()).unwrap();
    assert!(engine.running().unwrap().is_empty());
}

pub fn pids(decoys: &[Decoy]) -> BTreeMap<String, u32> {
    decoys.iter().map(|decoy| (decoy.service.to_string(), decoy.pid)).collect()
}
