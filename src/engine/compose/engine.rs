//! The compose engine's face: the `Engine` trait over a compose tool.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_lock::Mutex as AsyncMutex;
use async_trait::async_trait;

use crate::clock::{Clock, SystemClock};
use crate::engine::{Engine, LogLine, LogQuery, Report, Work};
use crate::fleet::{DeckyConfig, DeckyRuntime, FleetConfig, Problem, Problems};
use crate::lifecycle::{DeckyName, EngineName, Failure, Secrets, ServiceName};

use super::catalogue::{Catalogue, Protocol};
use super::composer::{self, Composed};
use super::containers::{self, Container};
use super::doctor::{self, Finding};
use super::document::ComposeFile;
use super::secrets;
use super::settings::ComposeSettings;
use super::tool::{Build, Tool};

/// Brings deckies up as containers, by a compose tool that is on the machine:
/// `docker compose` or `docker-compose`.
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
/// use decnet_lifecycle::engine::compose::{Catalogue, ComposeEngine, ComposeSettings};
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
pub(super) struct Setup {
    pub(super) dir: PathBuf,
    pub(super) settings: ComposeSettings,
    pub(super) catalogue: Catalogue,
    pub(super) clock: Arc<dyn Clock>,
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

    pub(super) fn dice(&self) -> std::sync::MutexGuard<'_, fastrand::Rng> {
        self.shared.dice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn setup(&self) -> &Setup {
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

    pub(super) fn composed(&self, fleet: &FleetConfig) -> Result<Composed, Problems> {
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
        Ok(containers::told(containers::see(&tool, &self.setup().settings, clock).await?))
    }

    /// Where a decky's services should answer, such as `192.168.50.10:22`.
    #[must_use]
    pub fn ports(&self, fleet: &FleetConfig, container: &Container) -> Vec<String> {
        let spec = container.service.as_ref().and_then(|service| self.setup().catalogue.get(service));
        let (Some(spec), Some(decky)) = (spec, fleet.decky(&container.decky)) else {
            return Vec::new();
        };
        let shown = |port: &super::catalogue::Port| {
            let address = SocketAddr::new(decky.ip, port.number);
            match port.protocol {
                Protocol::Tcp => address.to_string(),
                Protocol::Udp => format!("{address}/udp"),
            }
        };
        spec.ports.iter().map(shown).collect()
    }

    /// Where a service should answer over TCP.
    pub(super) fn doors(&self, service: &ServiceName, ip: IpAddr) -> Vec<SocketAddr> {
        let ports = self.setup().catalogue.get(service).map(|spec| spec.ports.as_slice()).unwrap_or_default();
        let is_tcp = |port: &&super::catalogue::Port| port.protocol == Protocol::Tcp;
        ports.iter().filter(is_tcp).map(|port| SocketAddr::new(ip, port.number)).collect()
    }

    /// Examines daemon, compose tool, templates, and, with a fleet, its
    /// network and services.
    pub async fn examine(&self, fleet: Option<&FleetConfig>) -> Vec<Finding> {
        let setup = self.setup();
        let tool = self.tool(&setup.clock).await;
        doctor::examine(tool, &setup.settings, &setup.catalogue, &setup.dir, &setup.clock, fleet).await
    }

    pub(super) async fn tool(&self, clock: &Arc<dyn Clock>) -> Result<Tool, Failure> {
        let mut found = self.shared.tool.lock().await;
        match &*found {
            Some(tool) => Ok(tool.clone()),
            None => {
                let tool = Tool::find(&self.setup().settings, clock).await?;
                Ok(found.insert(tool).clone())
            }
        }
    }
}

/// When the new compose file stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// It says what was asked for, also of deckies that didn't come up.
    Always,
    /// Else the old one comes back.
    OnSuccess,
}

#[async_trait]
impl Engine for ComposeEngine {
    fn name(&self) -> Option<EngineName> {
        EngineName::parse("compose").ok()
    }

    fn check(&self, fleet: &FleetConfig) -> Result<(), Problems> {
        self.compose(fleet).map(drop)
    }

    fn secrets(&self, fleet: &FleetConfig) -> Secrets {
        secrets::known(&self.setup().catalogue, fleet)
    }

    async fn deploy(&self, work: &Work) -> Result<Report, Failure> {
        self.bring_up(work, Build::Always, Keep::Always).await
    }

    async fn mutate(&self, work: &Work) -> Result<Report, Failure> {
        self.bring_up(work, Build::IfMissing, Keep::OnSuccess).await
    }

    /// Words of [`Container::state`](super::Container::state); a service whose
    /// container isn't there is left out.
    async fn runtime(&self, fleet: &FleetConfig) -> Result<BTreeMap<DeckyName, DeckyRuntime>, Failure> {
        let mut found = self.found().await?;
        let runtime = |decky: &DeckyConfig| {
            let mut seen = found.remove(&decky.name).unwrap_or_default();
            let runs = |service: &ServiceName| {
                seen.services.contains_key(service.as_str())
                    || self.setup().catalogue.left_out(service).is_some()
            };
            seen.running &= decky.services.iter().all(runs);
            (decky.name.clone(), seen)
        };
        Ok(fleet.deckies.iter().map(runtime).collect())
    }

    async fn found(&self) -> Result<BTreeMap<DeckyName, DeckyRuntime>, Failure> {
        let mut found: BTreeMap<DeckyName, DeckyRuntime> = BTreeMap::new();
        let mut down = BTreeSet::new();
        let mut bases = BTreeSet::new();
        for container in self.running().await? {
            if !container.is_up() {
                down.insert(container.decky.clone());
            }
            let decky = found.entry(container.decky.clone()).or_default();
            match container.service {
                Some(service) => {
                    decky.services.insert(service.to_string(), container.state);
                }
                None => {
                    bases.insert(container.decky);
                }
            }
        }
        for (decky, seen) in &mut found {
            seen.running = bases.contains(decky) && !down.contains(decky);
        }
        Ok(found)
    }

    /// What containers have written to their streams. Followed until they end.
    async fn logs(&self, query: &LogQuery, hear: &(dyn Fn(LogLine) + Send + Sync)) -> Result<(), Failure> {
        let tool = self.tool(&query.clock).await?;
        let mut containers = self.running().await?;
        containers.retain(|one| one.decky == query.decky && query.wants(one.service.as_ref()));
        if containers.is_empty() {
            let what = query.service.as_ref().map_or("it".to_owned(), ToString::to_string);
            return Err(super::failed(&format!("{what} has no container here, of {}", query.decky)));
        }
        let told = containers.iter().map(async |one: &Container| {
            let on_line = |line: &str| {
                if !line.is_empty() {
                    hear(LogLine::new(one.decky.clone(), one.service.clone(), line));
                }
            };
            tool.tell(&one.name, query, &self.setup().settings, &on_line).await
        });
        // One after the other, unless they have no end.
        if query.follow {
            futures_util::future::join_all(told).await.into_iter().collect::<Result<(), _>>()?;
        } else {
            for one in told {
                one.await?;
            }
        }
        Ok(())
    }

    async fn changed(&self) {
        let setup = self.setup();
        let heard = match self.tool(&setup.clock).await {
            Ok(tool) => tool.event(&setup.settings, &setup.clock).await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        // Who can't hear looks from time to time.
        if let Err(failure) = heard {
            log::debug!(target: "decnet_lifecycle::engine", error:% = failure; "the daemon's events can't be heard");
            std::future::pending().await
        }
    }

    async fn teardown(&self, work: &Work) -> Result<Report, Failure> {
        self.take_down(work).await
    }
}
