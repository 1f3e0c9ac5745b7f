//! What is placed, what really runs of it, and what a deploy would change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::decide::{Batch, Change, Outcome, Refusal};
use crate::fleet::{DeckyRuntime, FleetConfig};
use crate::lifecycle::{DeckyName, EngineName, Record, Timestamp};
use crate::placement::{Home, Placed, Placement, Placements, Plan, Standing, fleet_of, plan};
use crate::store::{PlacementQuery, Query, StoreError};

use super::backoff::Healing;
use super::{AcceptError, DeployRequest, Runner};

/// One decky as it is placed and as it really runs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeckyStatus {
    /// Which decky.
    pub decky: DeckyName,
    /// Where it is, may be, is to be, or was found.
    pub home: Home,
    /// What is known of it; none of one that nobody has placed and that runs
    /// all the same.
    pub placement: Option<Placement>,
    /// What really runs of it; none if that can't be seen now.
    pub runtime: Option<DeckyRuntime>,
    /// Its newest row.
    pub last: Option<Record>,
    /// Since when this master has seen it run otherwise than it is placed.
    pub drifted_since: Option<Timestamp>,
}

/// Whether a decky runs as it is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// All of its services run.
    Up,
    /// Something that should run doesn't.
    Down,
    /// Nobody can see what runs now.
    Unseen,
    /// A row ended without evidence: it may be there or not.
    Unsure,
    /// Its first row is still open, or it is being taken down.
    Underway,
    /// It runs, and nobody has placed it.
    Stranger,
}

impl DeckyStatus {
    /// How it stands.
    #[must_use]
    pub fn health(&self) -> Health {
        let Some(placement) = &self.placement else { return Health::Stranger };
        match &placement.standing {
            Standing::Nothing => Health::Underway,
            Standing::Unsure { .. } => Health::Unsure,
            Standing::Up { .. } => match &self.runtime {
                None => Health::Unseen,
                Some(_) if self.running().0 == self.running().1 => Health::Up,
                Some(_) => Health::Down,
            },
        }
    }

    /// How many of its services run, of how many.
    #[must_use]
    pub fn running(&self) -> (usize, usize) {
        let services = self.services();
        let up =
            services.iter().filter(|service| self.state(service).is_some_and(|state| state == "running"));
        (up.count(), services.len())
    }

    /// Its services, as placed; of one that nobody placed, as found.
    #[must_use]
    pub fn services(&self) -> Vec<String> {
        match self.placement.as_ref().and_then(Placement::likeliest) {
            Some(placed) => {
                placed.config.services.iter().map(|service| service.as_str().to_owned()).collect()
            }
            None => self.runtime.iter().flat_map(|runtime| runtime.services.keys().cloned()).collect(),
        }
    }

    /// The services that should run and don't, and how each is.
    pub(super) fn not_running(&self) -> Vec<String> {
        let services = self.services();
        let not = services.iter().filter(|service| self.state(service) != Some("running"));
        not.map(|service| format!("{service} {}", self.state(service).unwrap_or("not there"))).collect()
    }

    /// What is seen of it, whoever has seen to it since: `2/3 (ssh dead)`.
    pub(super) fn seen(&self) -> String {
        let (up, all) = self.running();
        let counted = || match self.not_running() {
            not if not.is_empty() => format!("{up}/{all}"),
            not => format!("{up}/{all} ({})", not.join(", ")),
        };
        match self.health() {
            Health::Up | Health::Down => counted(),
            Health::Unseen => format!("?/{all}"),
            Health::Underway => "under way".to_owned(),
            Health::Stranger => "not placed by this master".to_owned(),
            Health::Unsure => {
                let failure = self.last.as_ref().and_then(Record::failure);
                let why = failure.map_or("a row ended without evidence", |failure| failure.message());
                let seen = self.runtime.as_ref().map(|_| format!("; seen: {}", counted()));
                format!("unsure: {why}{}", seen.unwrap_or_default())
            }
        }
    }

    fn state(&self, service: &str) -> Option<&str> {
        self.runtime.as_ref()?.services.get(service).map(String::as_str)
    }
}

/// `3/3`, `2/3 (ssh dead), drifted since ..`, `unsure: its worker was lost`.
impl fmt::Display for DeckyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.seen())?;
        if self.health() != Health::Down {
            return Ok(());
        }
        if let Some(since) = self.drifted_since {
            write!(f, ", drifted since {since}")?;
        }
        match self.last.as_ref().and_then(|row| row.key.as_ref()).and_then(Healing::of) {
            Some(Healing { tries: 1, .. }) => f.write_str(", was brought back once"),
            Some(Healing { tries, .. }) => write!(f, ", was brought back {tries} times"),
            None => Ok(()),
        }
    }
}

impl Runner {
    /// What a deploy would change, and what stands in its way. Changes
    /// nothing. Cancel-safe.
    ///
    /// # Errors
    /// [`AcceptError`] as accepting it would give, but for what stands in its
    /// way: that is in the plan.
    pub async fn plan(&self, request: &DeployRequest) -> Result<Plan, AcceptError> {
        let deckies = request.deckies();
        let named: BTreeSet<&DeckyName> = request.fleet.names().collect();
        if let Some(decky) = deckies.iter().find(|decky| !named.contains(decky)) {
            let known = request.fleet.names().cloned().collect();
            return Err(AcceptError::UnknownDecky { decky: decky.clone(), known });
        }
        self.fits(&request.fleet, &deckies)?;
        let placements: Placements = self.placements(&PlacementQuery::All).await?.into_iter().collect();
        let master = &self.shared.master;
        let engine = master.local.engine.name();
        Ok(plan(&request.fleet, &deckies, request.plan, &master.name, engine.as_ref(), &placements))
    }

    /// What is placed, by name. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if the placements can't be read.
    pub async fn placements(&self, query: &PlacementQuery) -> Result<Vec<Placement>, StoreError> {
        self.shared.master.journal.store().placements(query).await
    }

    /// Every decky that is placed, and what really runs of it by the engine's
    /// and the workers' words; then what runs and nobody has placed.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if placements or rows can't be read. An engine that can't
    /// say what runs is no error: [`DeckyStatus::runtime`] is none then.
    pub async fn deckies(&self) -> Result<Vec<DeckyStatus>, StoreError> {
        let placements = self.placements(&PlacementQuery::All).await?;
        let own = self.shared.master.home();
        let here = self.runtime_here(&placements).await;
        let there = self.shared.master.swarm.heard.runtimes();
        let mut all = Vec::new();
        let mut placed: BTreeSet<(DeckyName, Home)> = BTreeSet::new();
        for placement in placements {
            let home = placement.likeliest().map(|placed| placed.home.clone());
            // What an orphan's teardown notes is at no home.
            let Some(home) = home else { continue };
            let runtime = match &home {
                home if *home == own => {
                    here.as_ref().map(|here| here.get(&placement.decky).cloned().unwrap_or_default())
                }
                Home::Host(host) => there
                    .get(host)
                    .filter(|_| self.silent_for(host).is_some())
                    .map(|runtime| runtime.get(&placement.decky).cloned().unwrap_or_default()),
                Home::Master(_) => None,
            };
            let newest = Query::new().decky(placement.decky.clone()).limit(1);
            let last = self.list(&newest).await?.records.pop();
            placed.insert((placement.decky.clone(), home.clone()));
            all.push(DeckyStatus {
                decky: placement.decky.clone(),
                drifted_since: self.shared.drifting.since(&placement.decky, &home),
                home,
                placement: Some(placement),
                runtime,
                last,
            });
        }
        let found = self.shared.master.local.engine.found().await.unwrap_or_default();
        let strangers = found.into_iter().map(|(decky, runtime)| (decky, own.clone(), runtime)).chain(
            there.into_iter().flat_map(|(host, runtime)| {
                runtime.into_iter().map(move |(decky, runtime)| (decky, Home::Host(host.clone()), runtime))
            }),
        );
        for (decky, home, runtime) in strangers {
            if !placed.contains(&(decky.clone(), home.clone())) {
                let drifted_since = self.shared.drifting.since(&decky, &home);
                let runtime = Some(runtime);
                all.push(DeckyStatus { decky, home, placement: None, runtime, last: None, drifted_since });
            }
        }
        Ok(all)
    }

    /// What the engine says of what is at home here; none if it can't.
    async fn runtime_here(&self, placements: &[Placement]) -> Option<BTreeMap<DeckyName, DeckyRuntime>> {
        let own = self.shared.master.home();
        let here = placements.iter().filter_map(Placement::now).filter(|placed| placed.home == own);
        let Some(fleet) = fleet_of(here.map(|placed| &**placed)) else { return Some(BTreeMap::new()) };
        match self.shared.master.local.engine.runtime(&fleet).await {
            Ok(runtime) => Some(runtime),
            Err(failure) => {
                let failure = failure.hiding(&self.secrets());
                log::warn!(target: "decnet_lifecycle::runner", error:% = failure; "what runs can't be seen");
                None
            }
        }
    }

    /// What runs and is not placed, and where: found by the engine, or told by
    /// workers.
    pub(super) async fn unplaced(&self) -> BTreeMap<DeckyName, Home> {
        let mut all = BTreeMap::new();
        for (host, runtime) in self.shared.master.swarm.heard.runtimes() {
            all.extend(runtime.into_keys().map(|decky| (decky, Home::Host(host.clone()))));
        }
        match self.shared.master.local.engine.found().await {
            Ok(found) => {
                let own = self.shared.master.home();
                all.extend(found.into_keys().map(|decky| (decky, own.clone())));
            }
            Err(failure) => {
                let failure = failure.hiding(&self.secrets());
                log::warn!(target: "decnet_lifecycle::runner", error:% = failure; "what runs can't be seen");
            }
        }
        all
    }

    /// Takes deckies out of the placements without taking them down, whatever
    /// of them may run on: for hosts that are gone, and placements that are
    /// damaged. Gives how each was placed, but for those.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if one is not placed, or has an open row;
    /// nothing was changed. Else as the store says.
    pub async fn forget(&self, deckies: &BTreeSet<DeckyName>) -> Result<Vec<Placement>, StoreError> {
        let refused = |what: String| StoreError::Refused { what };
        let mut known = Vec::new();
        for decky in deckies {
            match self.placements(&PlacementQuery::Of(vec![decky.clone()])).await {
                Ok(found) if found.is_empty() => return Err(refused(format!("{decky} is not placed"))),
                Ok(found) => known.extend(found),
                // How it was placed can't be told, and is no reason to keep it.
                Err(StoreError::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let changes = deckies.iter().cloned().map(Change::Forget).collect();
        let refusals = self.shared.master.journal.place(Batch::all_or_none(changes)).await?;
        let busy = refusals.iter().find_map(|outcome| match outcome {
            Outcome::Refused(Refusal::Busy { decky, open }) => Some((decky, open)),
            _ => None,
        });
        match busy {
            Some((decky, open)) => {
                let ids: Vec<String> = open.iter().map(ToString::to_string).collect();
                Err(refused(format!("{decky} has open rows ({}); cancel them first", ids.join(", "))))
            }
            None => Ok(known),
        }
    }

    /// Takes deckies over that something else brought up, as this fleet has
    /// them and without touching them: they are placed from now on. All in one
    /// commit; a decky that can't be placed so stays out, and is told with the
    /// reason. Doing it twice does it once.
    ///
    /// # Errors
    /// [`StoreError`] as the store says; nothing was changed.
    pub async fn take_over(
        &self,
        fleet: &FleetConfig,
        engine: Option<&EngineName>,
    ) -> Result<BTreeMap<DeckyName, String>, StoreError> {
        let master = &self.shared.master.name;
        let placements = fleet.deckies.iter().map(|config| {
            Change::Place(Box::new(Placement::taken_over(Placed::new(fleet, config, master, engine))))
        });
        let outcomes = self.shared.master.journal.place(Batch::per_row(placements.collect())).await?;
        let told = fleet.names().zip(outcomes).filter_map(|(decky, outcome)| match outcome {
            Outcome::Refused(refusal) => Some((decky.clone(), refusal.to_string())),
            _ => None,
        });
        Ok(told.collect())
    }
}
