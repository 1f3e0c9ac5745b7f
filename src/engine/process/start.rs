//! Starts one decoy, and ends it again unless it is kept.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_lite::FutureExt as _;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::engine::Work;
use crate::fleet::DeckyConfig;
use crate::lifecycle::{Failure, FailureKind, ServiceName};

use super::files::{Files, private};
use super::knock::{self, Heard};
use super::link::{self, Link};
use super::options::to_hex;
use super::settings::{PATIENCE, STEP, Setup, engine_failure};

/// A decoy that was started for a decky that isn't up yet: unless it is kept it
/// ends, also when the call that started it is dropped at any await.
#[derive(Debug)]
pub(super) struct Started {
    files: Files,
    token: String,
    child: Option<Child>,
}

impl Started {
    /// It stays.
    pub(super) fn keep(mut self) {
        if let Some(child) = self.child.take() {
            super::children::keep(child);
        }
    }

    /// Ends it and waits until it has. Dropped while it waits, the next start of
    /// the same decoy is not disturbed.
    pub(super) async fn end(mut self) {
        let child = self.kill();
        blocking::unblock(move || {
            if let Some(mut child) = child {
                let _ = child.wait();
            }
            let gate = gate(self.files.base());
            let _alone = lock(&gate);
            // A file that can't be removed names no decoy that lives.
            if matches!(self.files.ready(), Ok(Some(decoy)) if decoy.token == self.token) {
                let _ = self.files.forget_ready();
            }
        })
        .await;
    }

    /// Kills what was started. It wasn't waited for yet: its id is its own.
    fn kill(&mut self) -> Option<Child> {
        let child = self.child.take()?;
        if matches!(self.files.token(), Ok(Some(token)) if token == self.token)
            && let Err(error) = self.files.stop()
        {
            log::error!(target: "decnet_lifecycle::engine", error:% = error; "a decoy could not be told to stop");
        }
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            // It fails only for a group that has ended.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        Some(child)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = self.kill() {
            super::children::keep(child);
        }
    }
}

/// Between the thread that starts a decoy and whoever waits for it. A thread
/// can't be stopped: what it has started for nobody ends before the next start
/// of the same decoy begins.
#[derive(Default)]
struct Handover {
    is_abandoned: bool,
    started: Option<io::Result<(Started, Link)>>,
}

/// Who waits; dropped, nobody does.
struct Waits(Arc<Mutex<Handover>>);

impl Drop for Waits {
    fn drop(&mut self) {
        let mut handover = lock(&self.0);
        handover.is_abandoned = true;
        drop(handover.started.take());
    }
}

/// One start at a time under the same files, in this process.
fn gate(base: &Path) -> Arc<Mutex<()>> {
    static GATES: Mutex<BTreeMap<PathBuf, Arc<Mutex<()>>>> = Mutex::new(BTreeMap::new());
    let mut gates = lock(&GATES);
    gates.retain(|_, gate| Arc::strong_count(gate) > 1);
    Arc::clone(gates.entry(base.to_owned()).or_default())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What came first while a decoy was starting.
enum Came {
    Up,
    /// It hung up.
    Ended,
    Cancelled,
    Late,
}

/// Starts a decoy and waits until it answers on its port.
pub(super) async fn start(
    setup: &Arc<Setup>,
    work: &Work,
    config: &DeckyConfig,
    service: &ServiceName,
    port: u16,
) -> Result<Started, Failure> {
    let _turn = setup.starts.acquire().await;
    if work.is_cancelled(&config.name) {
        return Err(cancelled(service));
    }
    let waits = Waits(Arc::default());
    let spawn = {
        let (setup, config, service) = (Arc::clone(setup), config.clone(), service.clone());
        let handover = Arc::clone(&waits.0);
        move || {
            let gate = gate(Files::new(&setup.settings.dir, &config.name, &service).base());
            let _alone = lock(&gate);
            if lock(&handover).is_abandoned {
                return;
            }
            let started = spawn(&setup, &config, &service, port);
            let mut handover = lock(&handover);
            // Else it ends here, before anybody else may start.
            if !handover.is_abandoned {
                handover.started = Some(started);
            }
        }
    };
    blocking::unblock(spawn).await;
    let started = lock(&waits.0).started.take();
    let started = started.unwrap_or_else(|| Err(io::ErrorKind::Interrupted.into()));
    let (mut started, mut link) = started.map_err(|error| {
        engine_failure(format!(
            "{service}: the decoy could not be started: {error}; is the program still there?"
        ))
    })?;
    let cancel = async {
        work.cancelled(&config.name).await;
        Came::Cancelled
    };
    let late = async {
        work.clock.sleep(PATIENCE).await;
        Came::Late
    };
    let up = async { if link.listens().await { Came::Up } else { Came::Ended } };
    let failure = match up.or(cancel).or(late).await {
        Came::Up => match answers(work, &started, service).await {
            Ok(addr) => {
                work.note(&config.name, &format!("{service} on {addr}"));
                return Ok(started);
            }
            Err(failure) => failure,
        },
        Came::Cancelled => cancelled(service),
        Came::Late => started.failed(service, link.is_decoy(), "it did not listen within 10 s"),
        Came::Ended => {
            let how = started.status(work).await;
            started.failed(service, link.is_decoy(), &how)
        }
    };
    started.end().await;
    Err(failure)
}

impl Started {
    /// How the program ended, which has hung up.
    async fn status(&mut self, work: &Work) -> String {
        let mut waited = Duration::ZERO;
        while waited < PATIENCE {
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                return format!("it ended at once ({status})");
            }
            work.clock.sleep(STEP).await;
            waited += STEP;
        }
        "it hung up and went on with something else".to_owned()
    }

    fn failed(&self, service: &ServiceName, is_decoy: bool, how: &str) -> Failure {
        let said = tail(&self.files.errors());
        engine_failure(if is_decoy {
            format!("{service}: the decoy did not come up: {how}: {said}")
        } else {
            format!(
                "{service}: this program doesn't answer `decoy`; let its main call process::decoy_main first of all; {how}: {said}"
            )
        })
    }
}

/// Calls on a decoy that listens until it answers; gives its address.
async fn answers(work: &Work, started: &Started, service: &ServiceName) -> Result<SocketAddr, Failure> {
    let decoy = match started.files.ready() {
        Ok(Some(decoy)) if decoy.token == started.token => decoy,
        Ok(_) => return Err(engine_failure(format!("{service}: the decoy's file was replaced or removed"))),
        Err(error) => return Err(engine_failure(format!("{service}: the decoy's file: {error}"))),
    };
    let addr = decoy.addr;
    let mut waited = Duration::ZERO;
    loop {
        let late = async {
            work.clock.sleep(PATIENCE).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        match knock::call(addr, &decoy.token).or(late).await {
            Ok(Heard::Itself) => return Ok(addr),
            // It has more visitors than it takes.
            Ok(Heard::Nothing) if waited < PATIENCE => {
                work.clock.sleep(STEP).await;
                waited += STEP;
            }
            Ok(_) => return Err(engine_failure(format!("{service}: something else answers on {addr}"))),
            Err(error) => return Err(engine_failure(format!("{service}: {addr} does not answer: {error}"))),
        }
    }
}

fn spawn(
    setup: &Setup,
    config: &DeckyConfig,
    service: &ServiceName,
    port: u16,
) -> io::Result<(Started, Link)> {
    let program = setup.settings.program.as_ref().map_err(|error| io::Error::other(error.as_str()))?;
    let files = Files::new(&setup.settings.dir, &config.name, service);
    let token = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let (link, stdin) = Link::new()?;
    files.forget_ready()?;
    let errors = private().create(true).write(true).truncate(true).open(files.errors())?;
    let mut command = Command::new(program);
    command
        .args(&setup.settings.leading)
        .args(["--service", service.as_str(), "--decky", config.name.as_str()])
        .args(["--hostname", &config.hostname])
        .arg("--listen")
        .arg(SocketAddr::new(setup.settings.bind, port).to_string())
        .arg("--home")
        .arg(files.base())
        .env(link::MARK.0, link::MARK.1)
        // Where the master keeps its rows, and whom it tells of them, is nothing
        // that decoys need to know.
        .env_remove("DECNET_LIFECYCLE_STORE")
        .env_remove("PGPASSWORD")
        .env_remove("NATS_PASSWORD")
        .env_remove("NATS_TOKEN")
        .env_remove("NATS_CREDS")
        .env_remove("NATS_CA")
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(errors)
        .process_group(0);
    if let Some(greeting) = setup.settings.own.get(service) {
        command.arg("--greeting").arg(to_hex(greeting));
    }
    files.set_token(&token)?;
    match command.spawn() {
        Ok(child) => Ok((Started { files, token, child: Some(child) }, link)),
        Err(error) => {
            files.stop()?;
            Err(error)
        }
    }
}

pub(super) fn cancelled(service: &ServiceName) -> Failure {
    Failure::new(FailureKind::Cancelled, &format!("cancelled while {service} was starting"))
}

/// The end of what a decoy said on stderr.
fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let start = text.len().saturating_sub(500);
    let said = String::from_utf8_lossy(text.get(start..).unwrap_or_default()).trim().to_owned();
    if said.is_empty() { "it said nothing".to_owned() } else { said }
}
