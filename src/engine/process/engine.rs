//! The engine's face: what a call does to each of its deckies.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures_lite::FutureExt as _;
use futures_util::future::join_all;

use crate::engine::{Engine, LogLine, LogQuery, Report, Turns, Work};
use crate::fleet::{DeckyConfig, DeckyRuntime, FleetConfig, Mode, Problem, Problems};
use crate::lifecycle::{DeckyName, EngineName, Failure, FailureKind, ServiceName};

use super::children;
use super::files::{Decoy, Files, State, Trace, traces};
use super::knock::{self, Heard};
use super::link;
use super::logs;
use super::settings::{PATIENCE, Settings, Setup, engine_failure, port};
use super::start::{Started, cancelled, start};
use super::stop::gone;

/// What is wrong, and what to do, where a decoy would start decoys.
const IN_A_DECOY: (&str, &str) = (
    "this program was started as a decoy, and brings up none itself",
    "let its main call process::decoy_main first of all",
);

/// Brings deckies up as small decoy processes on this machine, on loopback
/// unless told otherwise.
///
/// **Decoys are the caller's own program**, started as `PROGRAM decoy
/// --service ..`: its `main` must call [`decoy_main`](super::decoy_main) before
/// anything else. A program that doesn't is told so, and starts none itself
/// when it was started as a decoy.
///
/// Decoys are detached: they outlive the master and are found again through
/// the engine's directory. None is ever stopped by its process id: each lives
/// by a file, and ends when that file goes. A deploy succeeds once each decoy
/// has answered on its port.
///
/// The port of a service is `service_config.<service>.port` of the fleet, or a
/// free one; [`ProcessEngine::running`] tells which. Services are those that
/// DECNET has, and those that [`ProcessEngine::service`] adds; a fleet with
/// others is refused.
///
/// ```no_run
/// use std::process::ExitCode;
/// use decnet_lifecycle::engine::process::{ProcessEngine, decoy_main};
///
/// fn main() -> ExitCode {
///     if let Some(end) = decoy_main() {
///         return end;
///     }
///     let engine = ProcessEngine::new("decoys");
///     // .. a `Runner` with this engine.
///     ExitCode::SUCCESS
/// }
/// ```
#[derive(Debug, Clone)]
pub struct ProcessEngine {
    setup: Arc<Setup>,
}

impl ProcessEngine {
    /// The most that a service of one's own says first, in bytes.
    pub const MAX_GREETING: usize = 4 << 10;

    /// An engine with its files in this directory, which is made (mode 0700)
    /// when it is needed.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self::with(Settings {
            dir: dir.into(),
            program: std::env::current_exe().map_err(|error| error.to_string()),
            leading: vec!["decoy".into()],
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            own: BTreeMap::new(),
        })
    }

    /// The same engine with another program, called with these arguments
    /// before the decoy's own; it hands the latter to
    /// [`run_decoy`](super::run_decoy).
    #[must_use]
    pub fn program(self, program: impl Into<PathBuf>, leading: Vec<OsString>) -> Self {
        Self::with(Settings { program: Ok(program.into()), leading, ..self.setup.settings.clone() })
    }

    /// The same engine with decoys that listen on this address instead of
    /// loopback. Dangerous: whoever reaches the address reaches the decoys.
    #[must_use]
    pub fn expose_on(self, bind: IpAddr) -> Self {
        Self::with(Settings { bind, ..self.setup.settings.clone() })
    }

    /// The same engine with one more service, or with another one of this name:
    /// its decoys say this first (nothing, if it is empty), then listen and log.
    /// What is beyond [`ProcessEngine::MAX_GREETING`] is cut off.
    ///
    /// ```
    /// use decnet_lifecycle::engine::process::ProcessEngine;
    /// use decnet_lifecycle::{FleetConfig, ServiceName, engine::Engine};
    ///
    /// let gopher = ServiceName::parse("gopher")?;
    /// let fleet = FleetConfig::from_json(include_bytes!("../../../examples/fleet.json"))?;
    /// let decky = fleet.deckies[0].name.clone();
    /// let fleet = fleet.with_services(&decky, vec![gopher.clone()])?;
    ///
    /// let engine = ProcessEngine::new("decoys");
    /// assert!(engine.check(&fleet).is_err());
    /// assert!(engine.service(gopher, "3Sorry\r\n").check(&fleet).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn service(self, name: ServiceName, greeting: impl Into<Vec<u8>>) -> Self {
        let mut settings = self.setup.settings.clone();
        let mut greeting = greeting.into();
        greeting.truncate(Self::MAX_GREETING);
        settings.own.insert(name, greeting);
        Self::with(settings)
    }

    fn with(settings: Settings) -> Self {
        Self { setup: Arc::new(Setup::new(settings)) }
    }

    /// The decoys that are alive, those of an earlier start of the master too.
    ///
    /// # Errors
    /// The directory or a file in it can't be read.
    pub fn running(&self) -> io::Result<Vec<Decoy>> {
        let traces = traces(&self.setup.settings.dir)?.into_iter();
        Ok(traces.filter(|trace| trace.state.lives()).filter_map(|trace| trace.decoy).collect())
    }

    /// The services that should be there and have died.
    ///
    /// # Errors
    /// As [`ProcessEngine::running`].
    pub fn dead(&self) -> io::Result<Vec<(DeckyName, ServiceName)>> {
        let dead = traces(&self.setup.settings.dir)?.into_iter().filter(|trace| trace.state == State::Dead);
        Ok(dead.map(|trace| (trace.decky, trace.service)).collect())
    }

    async fn traces(&self) -> Result<BTreeMap<DeckyName, Vec<Trace>>, Failure> {
        let setup = Arc::clone(&self.setup);
        let found = blocking::unblock(move || traces(&setup.settings.dir)).await;
        let mut of = BTreeMap::<DeckyName, Vec<Trace>>::new();
        for trace in found.map_err(|error| self.setup.failed(&error))? {
            of.entry(trace.decky.clone()).or_default().push(trace);
        }
        Ok(of)
    }

    /// Works on all deckies at once, in turns, and reports on each.
    async fn each(&self, work: &Work, job: Job) -> Result<Report, Failure> {
        if link::is_decoy() {
            return Err(engine_failure(format!("{}; {}", IN_A_DECOY.0, IN_A_DECOY.1)));
        }
        let setup = Arc::clone(&self.setup);
        blocking::unblock(move || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&setup.settings.dir)
        })
        .await
        .map_err(|error| self.setup.failed(&error))?;
        let mut traces = self.traces().await?;
        let works = work.deckies.keys().map(|decky| {
            let found = traces.remove(decky).unwrap_or_default();
            async move {
                if work.is_cancelled(decky) {
                    let text = "cancelled before any decoy was started";
                    return (decky, Err(Failure::new(FailureKind::Cancelled, text)));
                }
                let done = match job {
                    Job::Up => self.up(work, decky, found).await,
                    Job::Down => self.down(work, decky, &found).await,
                };
                work.report(decky, &done);
                (decky, done)
            }
        });
        let mut report = Report::new();
        for (decky, done) in join_all(works).await {
            match done {
                Ok(()) => report.succeeded(decky.clone()),
                Err(failure) => report.failed(decky.clone(), failure),
            }
        }
        Ok(report)
    }

    async fn up(&self, work: &Work, decky: &DeckyName, found: Vec<Trace>) -> Result<(), Failure> {
        let config = work.fleet.decky(decky).ok_or_else(|| {
            engine_failure(format!("the fleet has no decky {decky}; deploy it with its fleet file"))
        })?;
        let mut ports = Vec::with_capacity(config.services.len());
        for service in &config.services {
            if let Some((what, hint)) = self.setup.unknown(service) {
                return Err(engine_failure(format!("{what}; {hint}")));
            }
            ports.push((service, port(config, service)?));
        }
        let found = found.as_slice();
        let tries = ports.into_iter().map(|(service, port)| async move {
            let kept = found.iter().find(|trace| trace.service == *service);
            self.service_up(work, config, service, port, kept).await
        });
        let (mut fresh, mut failures) = (Vec::new(), Vec::new());
        for tried in join_all(tries).await {
            match tried {
                Ok(started) => fresh.extend(started),
                Err(failure) => failures.push(failure),
            }
        }
        if let Some(failure) = failures.into_iter().next() {
            join_all(fresh.into_iter().map(Started::end)).await;
            return Err(failure);
        }
        // The old services go only now, with the new ones answering.
        fresh.into_iter().for_each(Started::keep);
        let old = found.iter().filter(|trace| !config.services.contains(&trace.service));
        self.stop_all(work, old).await
    }

    /// Starts a service that isn't up yet as the fleet has it.
    async fn service_up(
        &self,
        work: &Work,
        config: &DeckyConfig,
        service: &ServiceName,
        port: u16,
        found: Option<&Trace>,
    ) -> Result<Option<Started>, Failure> {
        if let Some(Trace { state: State::Running, decoy: Some(decoy), .. }) = found
            && (port == 0 || decoy.addr.port() == port)
            && self.is_there(work, decoy).await
        {
            work.note(&config.name, &format!("{service} already on {}", decoy.addr));
            return Ok(None);
        }
        // One on another port, one that was told to stop and has not yet, one
        // that is dead or deaf, or one that a killed master was just starting.
        let files = Files::new(&self.setup.settings.dir, &config.name, service);
        let cancelled = async {
            work.cancelled(&config.name).await;
            Err(cancelled(service))
        };
        gone(&self.setup, work, &files).or(cancelled).await?;
        start(&self.setup, work, config, service, port).await.map(Some)
    }

    /// Whether a decoy that lives also answers; one that is full does so by
    /// hanging up.
    async fn is_there(&self, work: &Work, decoy: &Decoy) -> bool {
        let _turn = self.setup.starts.acquire().await;
        let late = async {
            work.clock.sleep(PATIENCE).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        matches!(knock::call(decoy.addr, &decoy.token).or(late).await, Ok(Heard::Itself | Heard::Nothing))
    }

    async fn down(&self, work: &Work, decky: &DeckyName, found: &[Trace]) -> Result<(), Failure> {
        self.stop_all(work, found.iter()).await?;
        work.note(decky, "down");
        Ok(())
    }

    async fn stop_all(&self, work: &Work, traces: impl Iterator<Item = &Trace>) -> Result<(), Failure> {
        let stops = traces.map(|trace| async move {
            gone(&self.setup, work, &Files::new(&self.setup.settings.dir, &trace.decky, &trace.service))
                .await?;
            let how = if trace.state.lives() { "stopped" } else { "was not up" };
            work.note(&trace.decky, &format!("{} {how}", trace.service));
            Ok(())
        });
        join_all(stops).await.into_iter().collect()
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

    /// Each decoy has files of its own, and a deploy looks at its own only.
    fn turns(&self) -> Turns {
        Turns::OneCallPerDecky
    }

    fn check(&self, fleet: &FleetConfig) -> Result<(), Problems> {
        let mut problems = Vec::new();
        if link::is_decoy() {
            let (what, hint) = (IN_A_DECOY.0.to_owned(), IN_A_DECOY.1.to_owned());
            problems.push(Problem { path: String::new(), what, hint });
        }
        for (place, decky) in fleet.deckies.iter().enumerate() {
            if fleet.mode == Mode::Swarm && decky.host_uuid.is_some() {
                continue;
            }
            for (nth, service) in decky.services.iter().enumerate() {
                if let Some((what, hint)) = self.setup.unknown(service) {
                    let path = format!("deckies[{place}].services[{nth}]");
                    problems.push(Problem { path, what, hint });
                }
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Problems::new(problems)) }
    }

    async fn runtime(&self, fleet: &FleetConfig) -> Result<BTreeMap<DeckyName, DeckyRuntime>, Failure> {
        let mut found = self.found().await?;
        let mut runtime = BTreeMap::new();
        for config in &fleet.deckies {
            let mut services = found.remove(&config.name).unwrap_or_default().services;
            for service in &config.services {
                services.entry(service.to_string()).or_insert_with(|| "gone".to_owned());
            }
            let runs = |service: &ServiceName| {
                services.get(service.as_str()).is_some_and(|state| state == State::Running.word())
            };
            let running = config.services.iter().all(runs);
            runtime.insert(config.name.clone(), DeckyRuntime { running, services });
        }
        Ok(runtime)
    }

    async fn found(&self) -> Result<BTreeMap<DeckyName, DeckyRuntime>, Failure> {
        let of = |traces: Vec<Trace>| DeckyRuntime {
            running: traces.iter().all(|trace| trace.state == State::Running),
            services: traces
                .iter()
                .map(|trace| (trace.service.to_string(), trace.state.word().to_owned()))
                .collect(),
        };
        Ok(self.traces().await?.into_iter().map(|(decky, traces)| (decky, of(traces))).collect())
    }

    /// Who came, and what they typed, as JSON; also of services that are gone.
    async fn logs(&self, query: &LogQuery, hear: &(dyn Fn(LogLine) + Send + Sync)) -> Result<(), Failure> {
        logs::tell(&self.setup, query, hear).await
    }

    /// Decoys of an earlier start of the master are no children of this one, so
    /// that their ends are seen by looking only.
    async fn changed(&self) {
        children::one_ended().await;
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
