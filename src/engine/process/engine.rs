use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::converge::Converge;
use super::files::{Files, State, list};
use super::lanes;
use crate::engine::{Engine, Report, Work};
use crate::lifecycle::{DeckyName, Failure, FailureKind, ServiceName, Timestamp};

/// Deckies worked on at once.
const AT_ONCE: usize = 8;

/// Runs every service of a decky as a decoy process.
///
/// Decoys listen on loopback only, unless told otherwise, at the port in
/// `service_config.<service>.port`, or one that the system chooses. They
/// survive the master; [`ProcessEngine::running`] finds them again.
///
/// A deploy converges: decoys that are as the fleet wants them are kept, the
/// others are stopped or started. A mutate starts the new services first, and
/// stops those no longer listed only once all new ones answer; decoys of
/// services in both are kept as they are. If one service of a decky fails to
/// come up, those started with it are stopped again. If a call is dropped,
/// decoys of deckies that aren't complete yet are killed; complete deckies
/// stay.
///
/// To see that a new decoy answers, the engine connects to it, so that the
/// first visit in its log is the engine's own.
///
/// ```no_run
/// use decnet_lifecycle::process::ProcessEngine;
///
/// // The same program runs the decoys; see `decoy_main`.
/// let engine = ProcessEngine::new("/var/lib/decnet/decoys".into());
/// for decoy in engine.running()? {
///     println!("{}/{} listens on {}", decoy.decky, decoy.service, decoy.addr);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct ProcessEngine {
    setup: Arc<Setup>,
}

/// A decoy that is alive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decoy {
    /// The decky that it is a part of.
    pub decky: DeckyName,
    /// What it pretends to be.
    pub service: ServiceName,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its process id, to look at; not to send signals to, since by then it
    /// may be another process's.
    pub pid: u32,
    /// Since when it listens.
    pub since: Timestamp,
}

/// What every operation needs to know.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    dir: PathBuf,
    program: Option<PathBuf>,
    leading: Vec<OsString>,
    pub(super) bind: IpAddr,
    /// Decoys started by this value, kept for reaping them only.
    children: Arc<Mutex<Vec<Child>>>,
}

impl ProcessEngine {
    /// An engine that keeps its files in this directory, which it makes when
    /// first needed, and whose decoys are this program with the first
    /// argument `decoy`.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        let setup = Setup {
            // A decoy must find it from wherever it is started.
            dir: std::path::absolute(&dir).unwrap_or(dir),
            program: None,
            leading: vec![OsString::from("decoy")],
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            children: Arc::default(),
        };
        Self { setup: Arc::new(setup) }
    }

    /// The same engine with another program for its decoys, and the arguments
    /// that stand before the decoy's own. The program hands the latter to
    /// [`decoy_main`](super::decoy_main).
    #[must_use]
    pub fn program(self, program: PathBuf, leading: Vec<OsString>) -> Self {
        self.with(|setup| {
            setup.program = Some(program);
            setup.leading = leading;
        })
    }

    /// The same engine with decoys that listen on this address.
    ///
    /// **Dangerous**: off loopback, whoever reaches the host reaches the
    /// decoys, which is what honeypots are for, and what a host that also
    /// does something else is not for. Decoys that listen elsewhere are
    /// replaced by the next deploy.
    #[must_use]
    pub fn expose_on(self, ip: IpAddr) -> Self {
        self.with(|setup| setup.bind = ip)
    }

    /// Where the files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.setup.dir
    }

    /// The decoys that are alive and listen, whoever started them, in order.
    /// Blocks on the file system for a moment.
    ///
    /// # Errors
    /// If the directory or a decoy's file can't be read. A directory that
    /// isn't there holds no decoys.
    pub fn running(&self) -> io::Result<Vec<Decoy>> {
        self.setup.reap();
        let mut alive = Vec::new();
        for (decky, service) in list(&self.setup.dir, None)? {
            if let State::Up(ready) = self.setup.files(&decky, &service).state(&decky, &service)? {
                let since = ready.started_at.parse().unwrap_or_default();
                alive.push(Decoy { decky, service, addr: ready.addr, pid: ready.pid, since });
            }
        }
        alive.sort();
        Ok(alive)
    }

    fn with(self, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Arc::unwrap_or_clone(self.setup);
        change(&mut setup);
        Self { setup: Arc::new(setup) }
    }

    async fn each<'a, F>(&'a self, work: &'a Work, step: impl Fn(Converge<'a>) -> F + Sync) -> Report
    where
        F: Future<Output = Result<(), Failure>> + Send,
    {
        let setup = Arc::clone(&self.setup);
        blocking::unblock(move || setup.reap()).await;
        let outcomes = lanes::each(work.deckies.keys(), AT_ONCE, |decky| {
            let done = step(Converge::new(Arc::clone(&self.setup), work, decky));
            async move { (decky, done.await) }
        })
        .await;
        let mut report = Report::new();
        for (decky, outcome) in outcomes {
            match outcome {
                Ok(()) => report.succeeded(decky.clone()),
                Err(failure) => report.failed(decky.clone(), failure),
            }
        }
        report
    }
}

impl fmt::Debug for ProcessEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup { dir, program, bind, .. } = &*self.setup;
        f.debug_struct("ProcessEngine").field("dir", dir).field("program", program).field("bind", bind).finish()
    }
}

#[async_trait]
impl Engine for ProcessEngine {
    async fn deploy(&self, work: &Work) -> Result<Report, Failure> {
        Ok(self.each(work, |decky| async move { decky.deploy().await }).await)
    }

    async fn mutate(&self, work: &Work) -> Result<Report, Failure> {
        Ok(self.each(work, |decky| async move { decky.mutate().await }).await)
    }

    async fn teardown(&self, work: &Work) -> Result<Report, Failure> {
        Ok(self.each(work, |decky| async move { decky.teardown().await }).await)
    }
}

impl Setup {
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn files(&self, decky: &DeckyName, service: &ServiceName) -> Files {
        Files::of(&self.dir, decky, service)
    }

    /// The program that is a decoy, and its first arguments.
    pub(super) fn command(&self) -> Result<(PathBuf, Vec<OsString>), Failure> {
        let program = match &self.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(|err| {
                let text = format!("can't find this program, to start decoys with it: {err}; name the program");
                Failure::new(FailureKind::Engine, &text)
            })?,
        };
        Ok((program, self.leading.clone()))
    }

    pub(super) fn keep(&self, children: impl IntoIterator<Item = Child>) {
        self.children().extend(children);
    }

    /// Collects the exit codes of those that have ended.
    fn reap(&self) {
        self.children().retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }

    fn children(&self) -> MutexGuard<'_, Vec<Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
