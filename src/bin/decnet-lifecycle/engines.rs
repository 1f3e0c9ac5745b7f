//! Which engine brings deckies up here, and what it is set to.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use decnet_lifecycle::compose::{Catalogue, ComposeEngine, ComposeSettings, Health};
use decnet_lifecycle::process::ProcessEngine;
use decnet_lifecycle::{DeployedFleet, Engine, FleetConfig};
use serde::{Deserialize, Serialize};

use crate::Complaint;
use crate::args::{Compose, EngineChoice};
use crate::home::Home;
use crate::output::Place;

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
        choice: EngineChoice,
        compose: &Compose,
        fleet: &FleetConfig,
    ) -> Result<Self, Complaint> {
        Self::choose(home, choice, compose, Some(fleet)).await
    }

    /// The engine of a master or worker that stays, whatever it will be asked
    /// to bring up.
    pub async fn for_staying(
        home: &Home,
        choice: EngineChoice,
        compose: &Compose,
    ) -> Result<Self, Complaint> {
        Self::choose(home, choice, compose, None).await
    }

    async fn choose(
        home: &Home,
        choice: EngineChoice,
        compose: &Compose,
        fleet: Option<&FleetConfig>,
    ) -> Result<Self, Complaint> {
        let deployed = Self::deployed_by(home)?;
        let chosen = match (choice, deployed) {
            (EngineChoice::Compose, Some(EngineChoice::Process)) => return Err(other_runs("process")),
            (EngineChoice::Process, Some(EngineChoice::Compose)) => return Err(other_runs("compose")),
            (EngineChoice::Process, _) | (EngineChoice::Auto, Some(EngineChoice::Process)) => {
                return Ok(Self::Process(home.process_engine()));
            }
            (EngineChoice::Compose, _) | (EngineChoice::Auto, Some(EngineChoice::Compose)) => {
                Some(compose_engine(home, compose)?)
            }
            (EngineChoice::Auto, _) => usable(home, compose, fleet).await?,
        };
        let Some((engine, kept)) = chosen else {
            return Ok(Self::Process(home.process_engine()));
        };
        keep(home, &kept)?;
        Ok(Self::Compose(engine))
    }

    /// The engine that what is deployed here was deployed by.
    pub fn for_deployed(home: &Home) -> Result<Self, Complaint> {
        Ok(match Self::deployed_by(home)? {
            Some(EngineChoice::Compose) => Self::Compose(compose_engine(home, &Compose::default())?.0),
            _ => Self::Process(home.process_engine()),
        })
    }

    fn deployed_by(home: &Home) -> Result<Option<EngineChoice>, Complaint> {
        let path = home.fleet_state_path();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Complaint(format!("{}: {error}", path.display()))),
        };
        // What is malformed is told by who uses it.
        let state = DeployedFleet::from_json(&bytes).ok();
        Ok(state.map(|state| match state.compose_path.is_empty() {
            true => EngineChoice::Process,
            false => EngineChoice::Compose,
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
        let mut places = Self::for_deployed(home)?.places(home).await?;
        for worker in home.of_workers() {
            places.extend(Self::for_deployed(&worker)?.places(&worker).await?);
        }
        Ok(places)
    }

    /// Where what this engine runs can be reached.
    pub async fn places(&self, home: &Home) -> Result<Vec<Place>, Complaint> {
        match self {
            Self::Process(engine) => {
                let mut places: Vec<Place> = engine
                    .running()?
                    .into_iter()
                    .map(|d| Place::new(d.decky, &d.service, d.addr.to_string()))
                    .collect();
                let dead = engine.dead()?;
                places.extend(dead.into_iter().map(|(decky, service)| Place::dead(decky, &service)));
                Ok(places)
            }
            Self::Compose(engine) => {
                let fleet = home.deployed().await?;
                let containers = match engine.running().await {
                    Ok(containers) => containers,
                    Err(failure) => {
                        eprintln!("note: what runs can't be seen: {}", failure.message());
                        Vec::new()
                    }
                };
                let place = |container: &decnet_lifecycle::compose::Container| {
                    let service = container.service.as_ref()?;
                    let ports =
                        fleet.as_ref().map(|fleet| engine.ports(fleet, container)).unwrap_or_default();
                    let at = match (container.state.as_str(), ports.first()) {
                        ("running", Some(port)) => port.clone(),
                        (state, _) => state.to_owned(),
                    };
                    Some(Place::new(container.decky.clone(), service, at))
                };
                Ok(containers.iter().filter_map(place).collect())
            }
        }
    }

    /// Where to look for what they have caught and said.
    pub fn logs(&self, home: &Home) -> String {
        match self {
            Self::Process(_) => format!("their logs are in {}", home.decoys_dir().display()),
            Self::Compose(engine) => format!("their compose file is {}", engine.compose_path().display()),
        }
    }
}

/// The engine that containers would be made with, as asked and as kept.
pub fn compose_engine(home: &Home, asked: &Compose) -> Result<(ComposeEngine, Kept), Complaint> {
    let path = home.compose_dir().join("settings.json");
    let mut kept: Kept = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| Complaint(format!("{}: {error}; mend or remove it", path.display())))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Kept::default(),
        Err(error) => return Err(Complaint(format!("{}: {error}", path.display()))),
    };
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
    if let Some(program) = &asked.compose_program {
        settings.program = Some(program.clone());
    }
    if let Some(catalogue) = &asked.catalogue {
        kept.catalogue = Some(absolute(catalogue)?);
    }
    let mut catalogue = Catalogue::builtin();
    if let Some(path) = &kept.catalogue {
        let complain =
            |error: &dyn std::fmt::Display| Complaint(format!("catalogue file {}: {error}", path.display()));
        let bytes =
            crate::operate::read_at_most(path, Catalogue::MAX_BYTES).map_err(|error| complain(&error))?;
        catalogue = catalogue.with_json(&bytes).map_err(|error| complain(&error))?;
    }
    let engine = ComposeEngine::new(home.compose_dir()).settings(kept.settings.clone()).catalogue(catalogue);
    Ok((engine, kept))
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
            eprintln!("engine: process; not compose: {}", found.text);
            Ok(None)
        }
        None if fleet.is_none() && !templates.is_dir() => {
            eprintln!("engine: process; not compose: there are no templates at {}", templates.display());
            Ok(None)
        }
        None => {
            let daemon =
                findings.iter().find(|found| found.what == "daemon").map_or("", |found| found.text.as_str());
            eprintln!("engine: compose; {daemon}");
            Ok(Some((engine, kept)))
        }
    }
}

fn keep(home: &Home, kept: &Kept) -> Result<(), Complaint> {
    let dir = home.compose_dir();
    home.make(&dir)?;
    crate::home::replace(&dir.join("settings.json"), &serde_json::to_vec_pretty(kept)?)
}

fn other_runs(engine: &str) -> Complaint {
    Complaint(format!(
        "what is deployed here runs under the {engine} engine; take it down first (`teardown`), or name another --data"
    ))
}
