//! Which engine brings deckies up here, and what it is set to.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use decnet_lifecycle::engine::compose::{Catalogue, ComposeEngine, ComposeSettings, Health};
use decnet_lifecycle::engine::process::ProcessEngine;
use decnet_lifecycle::{
    FleetConfig, Runner, RunnerBuilder,
    engine::{Engine, Progress},
    lifecycle::EngineName,
    placement::{Home as Machine, Placement},
    store::{PlacementQuery, Store},
    strategy::{Ending, Strategies},
};
use serde::{Deserialize, Serialize};

use crate::Complaint;
use crate::args::{Compose, EngineChoice};
use crate::files::{read_at_most, replace};
use crate::home::Home;
use crate::place::Place;

/// The engine of this data directory.
pub enum Chosen {
    Process(ProcessEngine),
    Compose(ComposeEngine),
}

/// What a deploy by compose was set to, for the commands after it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    settings: ComposeSettings,
    catalogue: Option<PathBuf>,
}

impl Chosen {
    /// The engine for a deploy: the one asked for, or the one that can be
    /// used here. Says which and why.
    pub async fn for_deploy(
        home: &Home,
        store: &dyn Store,
        choice: EngineChoice,
        compose: &Compose,
        fleet: &FleetConfig,
    ) -> Result<Self, Complaint> {
        let (chosen, kept) = Self::choose(home, store, choice, compose, Some(fleet)).await?;
        kept.map_or(Ok(()), |kept| keep(home, &kept))?;
        Ok(chosen)
    }

    /// The engine that a deploy would take; keeps nothing.
    pub async fn for_plan(
        home: &Home,
        store: &dyn Store,
        choice: EngineChoice,
        compose: &Compose,
        fleet: &FleetConfig,
    ) -> Result<Self, Complaint> {
        Ok(Self::choose(home, store, choice, compose, Some(fleet)).await?.0)
    }

    /// The engine of a master or worker that stays, whatever it will be asked
    /// to bring up.
    pub async fn for_staying(
        home: &Home,
        store: &dyn Store,
        choice: EngineChoice,
        compose: &Compose,
    ) -> Result<Self, Complaint> {
        let (chosen, kept) = Self::choose(home, store, choice, compose, None).await?;
        kept.map_or(Ok(()), |kept| keep(home, &kept))?;
        Ok(chosen)
    }

    async fn choose(
        home: &Home,
        store: &dyn Store,
        choice: EngineChoice,
        compose: &Compose,
        fleet: Option<&FleetConfig>,
    ) -> Result<(Self, Option<Kept>), Complaint> {
        let placed = Self::placed_by(home, store).await?;
        // Options of containers say that containers are meant.
        let choice = match choice {
            EngineChoice::Auto if compose.means_containers() => {
                crate::output::aside("engine: compose; the options are of containers");
                EngineChoice::Compose
            }
            choice => choice,
        };
        let chosen = match (choice, placed) {
            (EngineChoice::Compose, Some(EngineChoice::Process)) => return Err(other_runs("process")),
            (EngineChoice::Process, Some(EngineChoice::Compose)) => return Err(other_runs("compose")),
            (EngineChoice::Process, _) => None,
            (EngineChoice::Auto, Some(EngineChoice::Process)) => {
                crate::output::aside("engine: process, which runs what is placed here");
                None
            }
            (EngineChoice::Compose, _) => Some(compose_engine(home, compose)?),
            (EngineChoice::Auto, Some(EngineChoice::Compose)) => {
                crate::output::aside("engine: compose, which runs what is placed here");
                Some(compose_engine(home, compose)?)
            }
            (EngineChoice::Auto, _) => usable(home, compose, fleet).await?,
        };
        if placed == Some(EngineChoice::Compose) && chosen.is_some() {
            same_project(home, compose)?;
        }
        Ok(match chosen {
            Some((engine, kept)) => (Self::Compose(engine), Some(kept)),
            None => (Self::Process(home.process_engine()), None),
        })
    }

    /// The engine that runs what is placed here. Of what nobody has placed, the
    /// one that a deploy was last set to.
    pub async fn for_placed(home: &Home, store: &dyn Store) -> Result<Self, Complaint> {
        let was_compose = || home.compose_dir().join("settings.json").exists();
        Ok(match Self::placed_by(home, store).await? {
            Some(EngineChoice::Process) => Self::Process(home.process_engine()),
            None if !was_compose() => Self::Process(home.process_engine()),
            _ => Self::Compose(compose_engine(home, &Compose::default())?.0),
        })
    }

    /// The same; where nothing is placed, the engine of this name.
    pub async fn for_placed_or(
        home: &Home,
        store: &dyn Store,
        engine: Option<&EngineName>,
    ) -> Result<Self, Complaint> {
        match engine.map(EngineName::as_str) {
            Some("process") if Self::placed_by(home, store).await?.is_none() => {
                Ok(Self::Process(home.process_engine()))
            }
            _ => Self::for_placed(home, store).await,
        }
    }

    /// Where containers' compose file lies.
    pub fn compose_file(home: &Home) -> Result<String, Complaint> {
        Ok(compose_engine(home, &Compose::default())?.0.compose_path().display().to_string())
    }

    async fn placed_by(home: &Home, store: &dyn Store) -> Result<Option<EngineChoice>, Complaint> {
        let here = PlacementQuery::At(Machine::Master(home.master()?));
        let placements = store.placements(&here).await?;
        let possible = placements.iter().flat_map(Placement::possibilities);
        let mut engines = possible.filter_map(|placed| placed.engine.as_ref());
        Ok(engines.next().map(|name| match name.as_str() {
            "compose" => EngineChoice::Compose,
            _ => EngineChoice::Process,
        }))
    }

    pub const fn name(&self) -> &'static str {
        match self {
            Self::Process(_) => "process",
            Self::Compose(_) => "compose",
        }
    }

    pub fn engine(&self) -> Arc<dyn Engine> {
        match self {
            Self::Process(engine) => Arc::new(engine.clone()),
            Self::Compose(engine) => Arc::new(engine.clone()),
        }
    }

    /// A master over the store with this engine.
    pub fn runner(&self, store: Arc<dyn Store>, progress: Arc<dyn Progress>) -> RunnerBuilder {
        let strategies = Strategies::ending(Ending::AsReported);
        Runner::builder(store, self.engine()).progress(progress).strategies(strategies)
    }

    /// What the fleet's state says of where the compose file lies.
    pub fn compose_path(&self) -> String {
        match self {
            Self::Process(_) => String::new(),
            Self::Compose(engine) => engine.compose_path().display().to_string(),
        }
    }

    /// Where what runs on this machine can be reached: the master's own
    /// deckies, and those of workers that have their files here.
    pub async fn all_places(home: &Home) -> Result<Vec<Place>, Complaint> {
        let mut places = Vec::new();
        for home in std::iter::once(home).chain(home.of_workers().iter()) {
            let store = home.store_to_look_at().await?;
            places.extend(Self::for_placed(home, &*store).await?.places(home, &*store).await?);
        }
        Ok(places)
    }

    /// Where what this engine runs can be reached.
    pub async fn places(&self, home: &Home, store: &dyn Store) -> Result<Vec<Place>, Complaint> {
        match self {
            Self::Process(engine) => {
                let mut places: Vec<Place> = engine
                    .running()?
                    .into_iter()
                    .map(|d| Place::new(d.decky, &d.service, d.addr.to_string(), true))
                    .collect();
                let dead = engine.dead()?;
                places.extend(dead.into_iter().map(|(decky, service)| Place::dead(decky, &service)));
                Ok(places)
            }
            Self::Compose(engine) => {
                let here = PlacementQuery::At(Machine::Master(home.master()?));
                let fleet = Placement::fleet(&store.placements(&here).await?);
                let containers = match engine.running().await {
                    Ok(containers) => containers,
                    Err(failure) => {
                        crate::output::aside(&format!(
                            "note: what runs can't be seen: {}",
                            failure.message()
                        ));
                        Vec::new()
                    }
                };
                let place = |container: &decnet_lifecycle::engine::compose::Container| {
                    let service = container.service.as_ref()?;
                    let ports =
                        fleet.as_ref().map(|fleet| engine.ports(fleet, container)).unwrap_or_default();
                    let at = match ports.first() {
                        Some(port) if container.is_up() => port.clone(),
                        _ => container.state.clone(),
                    };
                    Some(Place::new(container.decky.clone(), service, at, container.is_up()))
                };
                Ok(containers.iter().filter_map(place).collect())
            }
        }
    }

    /// Where to look for what they have caught and said.
    pub fn logs(&self, home: &Home) -> String {
        match self {
            Self::Process(_) => {
                let workers = home.of_workers();
                let dirs = std::iter::once(home).chain(&workers).map(Home::decoys_dir);
                let there: Vec<String> =
                    dirs.filter(|dir| dir.is_dir()).map(|dir| dir.display().to_string()).collect();
                format!("their logs are in {}", there.join(", "))
            }
            Self::Compose(engine) => format!("their compose file is {}", engine.compose_path().display()),
        }
    }
}

/// The engine that containers would be made with, as asked and as kept.
pub fn compose_engine(home: &Home, asked: &Compose) -> Result<(ComposeEngine, Kept), Complaint> {
    let kept = asked_and_kept(home, asked)?;
    let catalogue = read_catalogue(&kept)?;
    let engine = ComposeEngine::new(home.compose_dir()).settings(kept.settings.clone()).catalogue(catalogue);
    Ok((engine, kept))
}

/// The services that containers would be made of.
pub fn catalogue(home: &Home, asked: &Compose) -> Result<Catalogue, Complaint> {
    read_catalogue(&asked_and_kept(home, asked)?)
}

/// Refuses another project while containers of one are placed: containers are
/// found by their project, and those of the other would be no longer.
fn same_project(home: &Home, asked: &Compose) -> Result<(), Complaint> {
    let kept = read_kept(home)?.settings.project;
    match asked.project.as_ref().filter(|asked| **asked != kept) {
        None => Ok(()),
        Some(asked) => Err(Complaint(format!(
            "what is deployed here are containers of the project {kept}, not of {asked}; take them down first (`teardown`), or name another --data"
        ))),
    }
}

fn read_kept(home: &Home) -> Result<Kept, Complaint> {
    let path = home.compose_dir().join("settings.json");
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| Complaint(format!("{}: {error}; mend or remove it", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Kept::default()),
        Err(error) => Err(Complaint(format!("{}: {error}", path.display()))),
    }
}

fn asked_and_kept(home: &Home, asked: &Compose) -> Result<Kept, Complaint> {
    let mut kept = read_kept(home)?;
    let settings = &mut kept.settings;
    let absolute = |path: &Path| std::path::absolute(path);
    if let Some(project) = &asked.project {
        settings.project = project.clone();
    }
    if let Some(network) = &asked.network {
        settings.network = network.clone();
    }
    if let Some(driver) = asked.network_driver {
        settings.driver = Some(driver);
    }
    if let Some(templates) = &asked.templates {
        settings.templates = absolute(templates)?;
    }
    if let Some(artifacts) = &asked.artifacts {
        settings.artifacts = absolute(artifacts)?;
    }
    if !asked.share.is_empty() {
        settings.shared = asked.share.iter().map(|folder| absolute(folder)).collect::<Result<_, _>>()?;
    }
    if let Some(bait) = &asked.bait {
        settings.bait = Some(absolute(bait)?);
    }
    if let Some(program) = &asked.compose_program {
        settings.program = Some(program.clone());
    }
    if let Some(catalogue) = &asked.catalogue {
        kept.catalogue = Some(absolute(catalogue)?);
    }
    Ok(kept)
}

fn read_catalogue(kept: &Kept) -> Result<Catalogue, Complaint> {
    let mut catalogue = Catalogue::builtin();
    if let Some(path) = &kept.catalogue {
        let complain =
            |error: &dyn std::fmt::Display| Complaint(format!("catalogue file {}: {error}", path.display()));
        let bytes = read_at_most(path, Catalogue::MAX_BYTES).map_err(|error| complain(&error))?;
        catalogue = catalogue.with_json(&bytes).map_err(|error| complain(&error))?;
    }
    Ok(catalogue)
}

/// Compose, if nothing stands in its way here.
async fn usable(
    home: &Home,
    compose: &Compose,
    fleet: Option<&FleetConfig>,
) -> Result<Option<(ComposeEngine, Kept)>, Complaint> {
    let (engine, kept) = compose_engine(home, compose)?;
    let findings = engine.examine(fleet).await;
    let needed = ["compose", "daemon", "templates"];
    let in_the_way =
        findings.iter().find(|found| found.health == Health::Bad && needed.contains(&found.what));
    let templates = &kept.settings.templates;
    match in_the_way {
        Some(found) => {
            crate::output::aside(&format!("engine: process; not compose: {}", found.text));
            Ok(None)
        }
        None if fleet.is_none() && !templates.is_dir() => {
            crate::output::aside(&format!(
                "engine: process; not compose: there are no templates at {}",
                templates.display()
            ));
            Ok(None)
        }
        None => {
            let daemon =
                findings.iter().find(|found| found.what == "daemon").map_or("", |found| found.text.as_str());
            crate::output::aside(&format!("engine: compose; {daemon}"));
            Ok(Some((engine, kept)))
        }
    }
}

fn keep(home: &Home, kept: &Kept) -> Result<(), Complaint> {
    let dir = home.compose_dir();
    home.make(&dir)?;
    replace(&dir.join("settings.json"), &serde_json::to_vec_pretty(kept)?)
}

fn other_runs(engine: &str) -> Complaint {
    Complaint(format!(
        "what is deployed here runs under the {engine} engine; take it down first (`teardown`), or name another --data"
    ))
}
