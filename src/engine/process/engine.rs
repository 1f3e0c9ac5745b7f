use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::engine::{Engine, Report, Work};
use crate::fleet::{DeckyConfig, DeckyRuntime, FleetConfig};
use crate::lifecycle::{DeckyName, EngineName, Failure, FailureKind, ServiceName};

use super::files::{Decoy, Files, known, private};

/// How long a decoy may take to listen, and to stop.
const PATIENCE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(25);

/// Brings deckies up as small decoy processes on this machine, on loopback
/// unless told otherwise.
///
/// Decoys are detached: they outlive the master and are found again through
/// the engine's directory. None is ever stopped by its process id: each lives
/// by a file, and ends when that file goes. A deploy succeeds once each port
/// has answered.
///
/// The port of a service is `service_config.<service>.port` of the fleet, or a
/// free one; [`ProcessEngine::running`] tells which.
#[derive(Debug, Clone)]
pub struct ProcessEngine {
    setup: Arc<Setup>,
}

#[derive(Debug)]
struct Setup {
    dir: PathBuf,
    program: io::Result<PathBuf>,
    leading: Vec<OsString>,
    bind: IpAddr,
    /// Decoys that this value has started, kept only to be reaped.
    children: Mutex<Vec<Child>>,
}

impl ProcessEngine {
    /// An engine with its files in this directory, which is made (mode 0700)
    /// when it is needed. Decoys are this same program, called as
    /// `PROGRAM decoy --service ..`: its `main` must hand that to
    /// [`run_decoy`](super::run_decoy).
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self::with(dir.into(), std::env::current_exe(), vec!["decoy".into()], IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// The same engine with another program, called with these arguments
    /// before the decoy's own.
    #[must_use]
    pub fn program(self, program: impl Into<PathBuf>, leading: Vec<OsString>) -> Self {
        Self::with(self.setup.dir.clone(), Ok(program.into()), leading, self.setup.bind)
    }

    /// The same engine with decoys that listen on this address instead of
    /// loopback. Dangerous: whoever reaches the address reaches the decoys.
    #[must_use]
    pub fn expose_on(self, bind: IpAddr) -> Self {
        let program = match &self.setup.program {
            Ok(program) => Ok(program.clone()),
            Err(error) => Err(io::Error::from(error.kind())),
        };
        Self::with(self.setup.dir.clone(), program, self.setup.leading.clone(), bind)
    }

    fn with(dir: PathBuf, program: io::Result<PathBuf>, leading: Vec<OsString>, bind: IpAddr) -> Self {
        Self { setup: Arc::new(Setup { dir, program, leading, bind, children: Mutex::default() }) }
    }

    /// The decoys that are alive, those of an earlier start of the master too.
    ///
    /// # Errors
    /// The directory or a file in it can't be read.
    pub fn running(&self) -> io::Result<Vec<Decoy>> {
        self.setup.running()
    }

    /// Works on each decky in turn and reports on each.
    async fn each(&self, work: &Work, job: Job) -> Result<Report, Failure> {
        let setup = Arc::clone(&self.setup);
        blocking::unblock(move || setup.prepare())
            .await
            .map_err(|error| setup_failed(&self.setup.dir, &error))?;
        let mut report = Report::new();
        for decky in work.deckies.keys() {
            let done = if work.is_cancelled(decky) {
                Err(Failure::new(FailureKind::Cancelled, "cancelled before any decoy was started"))
            } else {
                self.one(work, decky, job).await
            };
            match done {
                Ok(()) => report.succeeded(decky.clone()),
                Err(failure) => report.failed(decky.clone(), failure),
            }
        }
        Ok(report)
    }

    async fn one(&self, work: &Work, decky: &DeckyName, job: Job) -> Result<(), Failure> {
        let alive = self.alive(decky).await?;
        if job == Job::Down {
            for decoy in &alive {
                self.stop(work, decoy).await?;
            }
            work.note(decky, "down");
            return Ok(());
        }
        let config = work.fleet.decky(decky).ok_or_else(|| {
            engine_failure(format!("the fleet has no decky {decky}; deploy it with its fleet file"))
        })?;
        let mut fresh = Fresh { setup: Arc::clone(&self.setup), decoys: Vec::new() };
        if let Err(failure) = self.bring_up(work, config, &alive, &mut fresh).await {
            for files in std::mem::take(&mut fresh.decoys) {
                self.gone(work, &files).await?;
            }
            return Err(failure);
        }
        // The old services go only now, with the new ones answering.
        fresh.decoys.clear();
        for decoy in alive.iter().filter(|decoy| !config.services.contains(&decoy.service)) {
            self.stop(work, decoy).await?;
        }
        Ok(())
    }

    /// Starts what the fleet lists for a decky and isn't alive yet.
    async fn bring_up(
        &self,
        work: &Work,
        config: &DeckyConfig,
        alive: &[Decoy],
        fresh: &mut Fresh,
    ) -> Result<(), Failure> {
        for service in &config.services {
            let port = port(config, service)?;
            let files = Files::new(&self.setup.dir, &config.name, service);
            let kept = alive.iter().find(|decoy| decoy.service == *service);
            if let Some(kept) = kept
                && (port == 0 || kept.addr.port() == port)
                && self.is_wanted(&files, kept)?
            {
                work.note(&config.name, &format!("{service} already on {}", kept.addr));
                continue;
            }
            // One on another port, one that was told to stop and has not yet,
            // or one that a killed master was just starting.
            self.gone(work, &files).await?;
            self.start(work, config, service, port, fresh).await?;
        }
        Ok(())
    }

    /// Whether a decoy that lives has not been told to stop.
    fn is_wanted(&self, files: &Files, decoy: &Decoy) -> Result<bool, Failure> {
        let token = files.token().map_err(|error| setup_failed(&self.setup.dir, &error))?;
        Ok(token.as_ref() == Some(&decoy.token))
    }

    async fn alive(&self, decky: &DeckyName) -> Result<Vec<Decoy>, Failure> {
        let setup = Arc::clone(&self.setup);
        let found = blocking::unblock(move || setup.running()).await;
        let mut found = found.map_err(|error| setup_failed(&self.setup.dir, &error))?;
        found.retain(|decoy| decoy.decky == *decky);
        Ok(found)
    }

    /// Starts a decoy and waits until its port answers.
    async fn start(
        &self,
        work: &Work,
        config: &DeckyConfig,
        service: &ServiceName,
        port: u16,
        fresh: &mut Fresh,
    ) -> Result<(), Failure> {
        let files = Files::new(&self.setup.dir, &config.name, service);
        let token = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let (setup, decky, service_name) = (Arc::clone(&self.setup), config.clone(), service.clone());
        let (paths, word) = (files.clone(), token.clone());
        fresh.decoys.push(files.clone());
        let spawned =
            blocking::unblock(move || setup.spawn(&decky, &service_name, port, &paths, &word)).await;
        let mut child = spawned.map_err(|error| {
            engine_failure(format!(
                "{service}: the decoy could not be started: {error}; is the program still there?"
            ))
        })?;
        let mut waited = Duration::ZERO;
        let decoy = loop {
            if work.is_cancelled(&config.name) {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Failure::new(
                    FailureKind::Cancelled,
                    &format!("cancelled while {service} was starting"),
                ));
            }
            if let Ok(Some(decoy)) = files.ready()
                && decoy.token == token
            {
                break decoy;
            }
            if let Ok(Some(status)) = child.try_wait() {
                let said = tail(&files.errors());
                return Err(engine_failure(format!("{service}: the decoy ended at once ({status}): {said}")));
            }
            if waited >= PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                return Err(engine_failure(format!(
                    "{service}: the decoy did not listen within 10 s: {}",
                    tail(&files.errors())
                )));
            }
            work.clock.sleep(STEP).await;
            waited += STEP;
        };
        self.setup.children().push(child);
        let (addr, greets) =
            (decoy.addr, !super::banners::Talk::of(service.as_str(), "").greeting.is_empty());
        blocking::unblock(move || answers(addr, greets))
            .await
            .map_err(|error| engine_failure(format!("{service}: {addr} does not answer: {error}")))?;
        work.note(&config.name, &format!("{service} on {addr}"));
        Ok(())
    }

    /// Tells a decoy to stop and waits until it has.
    async fn stop(&self, work: &Work, decoy: &Decoy) -> Result<(), Failure> {
        self.gone(work, &Files::new(&self.setup.dir, &decoy.decky, &decoy.service)).await?;
        work.note(&decoy.decky, &format!("{} stopped", decoy.service));
        Ok(())
    }
}

impl ProcessEngine {
    /// Takes a decoy's token away and waits until it no longer lives.
    async fn gone(&self, work: &Work, files: &Files) -> Result<(), Failure> {
        let failed = |error: &io::Error| setup_failed(&self.setup.dir, error);
        files.stop().map_err(|error| failed(&error))?;
        let mut waited = Duration::ZERO;
        while files.is_alive().map_err(|error| failed(&error))? {
            if waited >= PATIENCE {
                let who = files.ready().ok().flatten().map_or_else(
                    || files.base().display().to_string(),
                    |decoy| format!("{} on {} (process {})", decoy.service, decoy.addr, decoy.pid),
                );
                return Err(engine_failure(format!("{who} does not stop; look at it and end it by hand")));
            }
            work.clock.sleep(STEP).await;
            waited += STEP;
        }
        files.forget_ready().map_err(|error| failed(&error))?;
        self.setup.reap();
        Ok(())
    }
}

/// What is done to each decky.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Up,
    Down,
}

#[async_trait]
impl Engine for ProcessEngine {
    fn name(&self) -> Option<EngineName> {
        EngineName::parse("process").ok()
    }

    async fn runtime(&self, fleet: &FleetConfig) -> Result<BTreeMap<DeckyName, DeckyRuntime>, Failure> {
        let setup = Arc::clone(&self.setup);
        let running = blocking::unblock(move || setup.running()).await;
        let running = running.map_err(|error| setup_failed(&self.setup.dir, &error))?;
        let mut runtime = BTreeMap::<DeckyName, DeckyRuntime>::new();
        for config in &fleet.deckies {
            let lives = |service: &ServiceName| {
                running.iter().any(|decoy| decoy.decky == config.name && decoy.service == *service)
            };
            let word = |service| if lives(service) { "running" } else { "gone" }.to_owned();
            let services =
                config.services.iter().map(|service| (service.to_string(), word(service))).collect();
            let running = config.services.iter().all(lives);
            runtime.insert(config.name.clone(), DeckyRuntime { running, services });
        }
        Ok(runtime)
    }

    async fn deploy(&self, work: &Work) -> Result<Report, Failure> {
        self.each(work, Job::Up).await
    }

    async fn mutate(&self, work: &Work) -> Result<Report, Failure> {
        self.each(work, Job::Up).await
    }

    async fn teardown(&self, work: &Work) -> Result<Report, Failure> {
        self.each(work, Job::Down).await
    }
}

/// Decoys that were started for a decky that isn't up yet: unless it comes up,
/// they are told to stop, also when the call is dropped.
struct Fresh {
    setup: Arc<Setup>,
    decoys: Vec<Files>,
}

impl Drop for Fresh {
    fn drop(&mut self) {
        for files in &self.decoys {
            if let Err(error) = files.stop() {
                log::error!(target: "decnet_lifecycle::engine", error:% = error; "a decoy could not be told to stop");
            }
        }
        self.setup.reap();
    }
}

impl Setup {
    fn prepare(&self) -> io::Result<()> {
        self.reap();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)
    }

    fn running(&self) -> io::Result<Vec<Decoy>> {
        let mut alive = Vec::new();
        for decoy in known(&self.dir)? {
            let files = Files::new(&self.dir, &decoy.decky, &decoy.service);
            if files.is_alive()? {
                alive.push(decoy);
            }
        }
        Ok(alive)
    }

    fn spawn(
        &self,
        config: &DeckyConfig,
        service: &ServiceName,
        port: u16,
        files: &Files,
        token: &str,
    ) -> io::Result<Child> {
        let program =
            self.program.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
        files.forget_ready()?;
        files.set_token(token)?;
        let errors = private().create(true).write(true).truncate(true).open(files.errors())?;
        Command::new(program)
            .args(&self.leading)
            .args([
                "--service",
                service.as_str(),
                "--decky",
                config.name.as_str(),
                "--hostname",
                &config.hostname,
            ])
            .arg("--listen")
            .arg(SocketAddr::new(self.bind, port).to_string())
            .arg("--home")
            .arg(files.base())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .process_group(0)
            .spawn()
    }

    fn children(&self) -> std::sync::MutexGuard<'_, Vec<Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reap(&self) {
        self.children().retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}

/// The port that the fleet gives a service; 0 if it gives none.
fn port(config: &DeckyConfig, service: &ServiceName) -> Result<u16, Failure> {
    let settings: BTreeMap<_, _> =
        config.service_config.iter().map(|(name, set)| (name.as_str(), set)).collect();
    match settings.get(service.as_str()).and_then(|settings| settings.get("port")) {
        None => Ok(0),
        Some(port) => {
            port.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).ok_or_else(
                || {
                    engine_failure(format!(
                        "{}: service_config.{service}.port is no port; write 1 to 65535",
                        config.name
                    ))
                },
            )
        }
    }
}

/// Connects, and hears the first byte of a service that greets.
fn answers(addr: SocketAddr, greets: bool) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    if greets {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read_exact(&mut [0])?;
    }
    Ok(())
}

/// The end of what a decoy said on stderr.
fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let start = text.len().saturating_sub(500);
    let said = String::from_utf8_lossy(text.get(start..).unwrap_or_default()).trim().to_owned();
    if said.is_empty() { "it said nothing".to_owned() } else { said }
}

fn setup_failed(dir: &Path, error: &io::Error) -> Failure {
    engine_failure(format!("the engine's directory {}: {error}; check its permissions", dir.display()))
}

fn engine_failure(message: impl AsRef<str>) -> Failure {
    Failure::new(FailureKind::Engine, message.as_ref())
}
