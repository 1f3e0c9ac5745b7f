use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_lock::Mutex as AsyncMutex;
use async_trait::async_trait;

use crate::clock::{Clock, SystemClock};
use crate::engine::{Engine, Report, Work};
use crate::fleet::{DeckyRuntime, FleetConfig, Problem, Problems};
use crate::lifecycle::{DeckyName, Failure, ServiceName};

use super::catalogue::{Catalogue, Protocol};
use super::composer::{self, Composed};
use super::containers::{self, Container};
use super::doctor::{self, Finding};
use super::document::ComposeFile;
use super::failed;
use super::file;
use super::network;
use super::project_lock::ProjectLock;
use super::settings::ComposeSettings;
use super::staging;
use super::tool::{Build, Tool};
use super::up::Bringing;
use super::verdict;

/// Brings deckies up as containers, by a compose tool that is on the machine:
/// `docker compose`, `docker-compose` or `podman compose`.
///
/// A deploy is one `up` for all of its deckies; if that fails for a reason
/// that may be one decky's, halves are tried, so that a missing image fails
/// its own decky only. A decky counts as up once each of its containers runs,
/// is healthy where it has a health check, and has stayed up for
/// [`ComposeSettings::settle`]. What a failed or cancelled decky has got new
/// is removed again; nothing of another decky is touched.
///
/// One call at a time works on a compose project: a lock file in the engine's
/// directory says so across processes. Two masters that share a project must
/// share the directory.
///
/// ```
/// use decnet_lifecycle::compose::{Catalogue, ComposeEngine, ComposeSettings};
///
/// let engine = ComposeEngine::new("/var/lib/decnet/compose")
///     .settings(ComposeSettings::default())
///     .catalogue(Catalogue::builtin());
/// assert_eq!(engine.compose_path().to_str(), Some("/var/lib/decnet/compose/compose.yml"));
/// ```
#[derive(Debug, Clone)]
pub struct ComposeEngine {
    shared: Arc<Shared>,
}

#[derive(Debug, Clone)]
struct Setup {
    dir: PathBuf,
    settings: ComposeSettings,
    catalogue: Catalogue,
    clock: Arc<dyn Clock>,
    seed: Option<u64>,
}

#[derive(Debug)]
struct Shared {
    setup: Setup,
    tool: AsyncMutex<Option<Tool>>,
    dice: Mutex<fastrand::Rng>,
}

impl ComposeEngine {
    /// An engine with the original's settings and services, whose compose file
    /// and lock lie in this directory; it is made (mode 0700) when needed.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self::of(Setup {
            dir: dir.into(),
            settings: ComposeSettings::default(),
            catalogue: Catalogue::builtin(),
            clock: Arc::new(SystemClock::new()),
            seed: None,
        })
    }

    /// The same engine with other settings.
    #[must_use]
    pub fn settings(self, settings: ComposeSettings) -> Self {
        Self::of(Setup { settings, ..self.shared.setup.clone() })
    }

    /// The same engine with other services.
    #[must_use]
    pub fn catalogue(self, catalogue: Catalogue) -> Self {
        Self::of(Setup { catalogue, ..self.shared.setup.clone() })
    }

    /// The same engine with another clock for what isn't part of a call
    /// ([`ComposeEngine::running`], [`ComposeEngine::examine`]); calls use
    /// their own.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self::of(Setup { clock, ..self.shared.setup.clone() })
    }

    /// Seeds the jitter between tries, for tests that replay.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self::of(Setup { seed: Some(seed), ..self.shared.setup.clone() })
    }

    fn of(setup: Setup) -> Self {
        let dice = Mutex::new(setup.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed));
        Self { shared: Arc::new(Shared { setup, tool: AsyncMutex::new(None), dice }) }
    }

    fn dice(&self) -> std::sync::MutexGuard<'_, fastrand::Rng> {
        self.shared.dice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn setup(&self) -> &Setup {
        &self.shared.setup
    }

    /// The compose file.
    #[must_use]
    pub fn compose_path(&self) -> PathBuf {
        self.setup().dir.join("compose.yml")
    }

    /// The compose file that a deploy of this fleet would write: of its
    /// deckies that run on the machine itself.
    ///
    /// # Errors
    /// All that keeps the fleet from being composed: services that nobody has
    /// defined, container names that clash, text that YAML can't carry.
    pub fn compose(&self, fleet: &FleetConfig) -> Result<ComposeFile, Problems> {
        self.composed(fleet).map(|composed| composed.file)
    }

    /// What a deploy of this fleet would leave out, in a word each: services
    /// that are no containers of a decky, and settings that no service has.
    ///
    /// # Errors
    /// As [`compose`](Self::compose).
    pub fn left_out(&self, fleet: &FleetConfig) -> Result<Vec<Problem>, Problems> {
        self.composed(fleet).map(|composed| composed.notes.into_iter().map(|(_, note)| note).collect())
    }

    fn composed(&self, fleet: &FleetConfig) -> Result<Composed, Problems> {
        composer::compose(&self.setup().settings, &self.setup().catalogue, composer::local(fleet))
    }

    /// The containers that really are there, running or not, found by their
    /// labels: also those of an earlier start of the master.
    ///
    /// # Errors
    /// No tool, no daemon, or an answer that can't be read.
    pub async fn running(&self) -> Result<Vec<Container>, Failure> {
        let clock = &self.setup().clock;
        let tool = self.tool(clock).await?;
        containers::list(&tool, &self.setup().settings, clock).await
    }

    /// Where a decky's services should answer, such as `192.168.50.10:22`.
    #[must_use]
    pub fn ports(&self, fleet: &FleetConfig, container: &Container) -> Vec<String> {
        let spec = container.service.as_ref().and_then(|service| self.setup().catalogue.get(service));
        let (Some(spec), Some(decky)) = (spec, fleet.decky(&container.decky)) else {
            return Vec::new();
        };
        let shown = |port: &super::catalogue::Port| {
            let address = std::net::SocketAddr::new(decky.ip, port.number);
            match port.protocol {
                Protocol::Tcp => address.to_string(),
                Protocol::Udp => format!("{address}/udp"),
            }
        };
        spec.ports.iter().map(shown).collect()
    }

    /// Examines daemon, compose tool, templates, and, with a fleet, its
    /// network and services.
    pub async fn examine(&self, fleet: Option<&FleetConfig>) -> Vec<Finding> {
        let setup = self.setup();
        let tool = self.tool(&setup.clock).await;
        doctor::examine(tool, &setup.settings, &setup.catalogue, &setup.dir, &setup.clock, fleet).await
    }

    async fn tool(&self, clock: &Arc<dyn Clock>) -> Result<Tool, Failure> {
        let mut found = self.shared.tool.lock().await;
        match &*found {
            Some(tool) => Ok(tool.clone()),
            None => {
                let tool = Tool::find(&self.setup().settings, clock).await?;
                Ok(found.insert(tool).clone())
            }
        }
    }

    async fn lock(&self, work: &Work) -> Result<ProjectLock, Failure> {
        let dir = &self.setup().dir;
        let path = dir.join(format!("{}.lock", self.setup().settings.project));
        let failed = |error: std::io::Error| {
            failed(&format!("the engine's directory {}: {error}; check its permissions", dir.display()))
        };
        file::make_dir(dir).map_err(failed)?;
        let waiting = |holder: &str| {
            for decky in work.deckies.keys() {
                work.note(decky, &format!("waits: the project is held by {holder}"));
            }
        };
        ProjectLock::take(&path, &*work.clock, waiting).await.map_err(failed)
    }

    /// Brings the deckies of a call up, and removes what a failed one has got
    /// new.
    async fn bring_up(&self, work: &Work, build: Build, keep: Keep) -> Result<Report, Failure> {
        let settings = &self.setup().settings;
        let composed = self.composed(&work.fleet).map_err(|problems| failed(&problems.to_string()))?;
        for (decky, note) in composed.notes.iter().filter(|(decky, _)| work.deckies.contains_key(decky)) {
            work.note(decky, &note.to_string());
        }
        let mut composed = composed.file;
        let mut report = Report::new();
        let mut wanted: BTreeSet<DeckyName> = work.deckies.keys().cloned().collect();
        let mut unready = unbuildable(&mut composed, &work.fleet);
        unready.extend(staging::stage(&settings.templates, &mut composed, &work.fleet));
        for (decky, failure) in unready {
            if wanted.remove(&decky) {
                report.failed(decky, failure);
            }
        }
        wanted.retain(|decky| {
            let is_there = composed.containers(decky).next().is_some();
            if !is_there {
                let text =
                    format!("the fleet has no decky {decky} on this machine; deploy it with its fleet file");
                report.failed(decky.clone(), failed(&text));
            }
            is_there
        });
        let tool = self.tool(&work.clock).await?;
        let lock = self.lock(work).await?;
        network::ensure(&tool, settings, &work.clock, &work.fleet).await?;
        let before = containers::list(&tool, settings, &work.clock).await?;
        let path = self.compose_path();
        let mut before_file = file::write(&path, &composed)?;
        let dice = || self.dice().f64();
        let bringing = Bringing {
            tool: &tool,
            settings,
            work,
            file: &composed,
            path: &path,
            lock: &lock,
            build,
            dice: &dice,
        };
        for (decky, failure) in bringing.all(wanted.clone()).await {
            wanted.remove(&decky);
            report.failed(decky, failure);
        }
        for (decky, outcome) in verdict::wait(&tool, settings, work, &composed, &wanted).await {
            match outcome {
                Ok(()) => report.succeeded(decky),
                Err(failure) => report.failed(decky, failure),
            }
        }
        let known: BTreeSet<&str> = before.iter().map(|container| container.id.as_str()).collect();
        let there = containers::list(&tool, settings, &work.clock).await?;
        let stray: Vec<&Container> = there
            .iter()
            .filter(|container| work.deckies.contains_key(&container.decky))
            .filter(|container| match report.outcome(&container.decky) {
                // New, and its decky is not up.
                Err(_) => !known.contains(container.id.as_str()),
                // Of a service that the decky no longer offers.
                Ok(()) => !composed.has(&container.decky, &container.name),
            })
            .collect();
        if let Err(failure) = containers::remove(&tool, settings, &work.clock, &stray).await {
            for decky in stray.iter().map(|container| &container.decky) {
                if report.outcome(decky).is_ok() {
                    let text =
                        format!("up, but its old containers could not be removed: {}", failure.message());
                    report.failed(decky.clone(), failed(&text));
                }
            }
        }
        if keep == Keep::Always || work.deckies.keys().all(|decky| report.outcome(decky).is_ok()) {
            before_file.keep_new();
        }
        Ok(report)
    }

    async fn take_down(&self, work: &Work) -> Result<Report, Failure> {
        let settings = &self.setup().settings;
        let tool = self.tool(&work.clock).await?;
        let _lock = self.lock(work).await?;
        let named = |container: &&Container| work.deckies.contains_key(&container.decky);
        let there = containers::list(&tool, settings, &work.clock).await?;
        let doomed: Vec<&Container> = there.iter().filter(named).collect();
        for container in &doomed {
            work.note(&container.decky, &format!("stopping {}", container.name));
        }
        let removed = containers::remove(&tool, settings, &work.clock, &doomed).await;
        let left = containers::list(&tool, settings, &work.clock).await?;
        let mut still: BTreeMap<&DeckyName, &str> = BTreeMap::new();
        for container in left.iter().filter(named) {
            still.insert(&container.decky, &container.name);
        }
        let mut report = Report::new();
        for decky in work.deckies.keys() {
            match still.get(decky) {
                None => report.succeeded(decky.clone()),
                Some(name) => {
                    let why = removed.as_ref().err().map_or("it is still there", |failure| failure.message());
                    report.failed(decky.clone(), failed(&format!("{name} could not be removed: {why}")));
                }
            }
        }
        self.forget(&tool, work, &report, left.is_empty()).await?;
        Ok(report)
    }

    /// Takes what was torn down out of the compose file; the last one takes
    /// file and network with it.
    async fn forget(&self, tool: &Tool, work: &Work, report: &Report, is_last: bool) -> Result<(), Failure> {
        let path = self.compose_path();
        if is_last {
            file::remove(&path);
            network::remove_if_unused(tool, &self.setup().settings, &work.clock).await;
            return Ok(());
        }
        let gone = |decky: &DeckyName| work.deckies.contains_key(decky) && report.outcome(decky).is_ok();
        let left = composer::local(&work.fleet).filter(|(_, decky)| !gone(&decky.name));
        // A fleet that can't be composed any more leaves the file as it is.
        if let Ok(composed) = composer::compose(&self.setup().settings, &self.setup().catalogue, left) {
            file::write(&path, &composed.file)?.keep_new();
        }
        Ok(())
    }
}

#[async_trait]
impl Engine for ComposeEngine {
    fn check(&self, fleet: &FleetConfig) -> Result<(), Problems> {
        self.compose(fleet).map(drop)
    }

    async fn deploy(&self, work: &Work) -> Result<Report, Failure> {
        self.bring_up(work, Build::Always, Keep::Always).await
    }

    async fn mutate(&self, work: &Work) -> Result<Report, Failure> {
        self.bring_up(work, Build::IfMissing, Keep::OnSuccess).await
    }

    async fn runtime(&self, fleet: &FleetConfig) -> Result<BTreeMap<DeckyName, DeckyRuntime>, Failure> {
        let mut runtime: BTreeMap<DeckyName, DeckyRuntime> =
            fleet.names().map(|decky| (decky.clone(), DeckyRuntime::default())).collect();
        for container in self.running().await? {
            if let (Some(decky), Some(service)) = (runtime.get_mut(&container.decky), &container.service) {
                decky.services.insert(service.to_string(), container.state);
            }
        }
        for decky in &fleet.deckies {
            if let Some(seen) = runtime.get_mut(&decky.name) {
                let runs = |service: &ServiceName| {
                    seen.services.get(service.as_str()).is_some_and(|s| s == "running")
                        || self.setup().catalogue.left_out(service).is_some()
                };
                seen.running = decky.services.iter().all(runs);
            }
        }
        Ok(runtime)
    }

    async fn teardown(&self, work: &Work) -> Result<Report, Failure> {
        self.take_down(work).await
    }
}

/// When the new compose file stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// It says what was asked for, also of deckies that didn't come up.
    Always,
    /// Else the old one comes back.
    OnSuccess,
}

/// Takes out the deckies whose images would be built from folders that aren't
/// there: a compose tool may refuse the whole file for one of them.
fn unbuildable(file: &mut ComposeFile, fleet: &FleetConfig) -> Vec<(DeckyName, Failure)> {
    let mut refused = Vec::new();
    for decky in fleet.names() {
        let Some(missing) = file.build_contexts(decky).find(|context| !Path::new(context).is_dir()) else {
            continue;
        };
        let text = format!(
            "the template {missing} isn't there; install DECNET's templates, or name their folder with the setting \
             `templates`"
        );
        file.remove(decky);
        refused.push((decky.clone(), failed(&text)));
    }
    refused
}
