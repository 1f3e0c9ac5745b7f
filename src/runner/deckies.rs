//! What is placed, what really runs of it, and what a deploy would change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crate::beat::Beat;
use crate::decide::{Batch, Change, Outcome, Refusal};
use crate::fleet::{DeckyRuntime, FleetConfig};
use crate::lifecycle::text::one_line;
use crate::lifecycle::{DeckyName, EngineName, HostId, Operation, Record, Status, Timestamp};
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
    /// The address that its agent says that it has, if it is not the one that
    /// it was to have: DECNET's agent gives deckies others where its network is
    /// not the one that it was told.
    pub address: Option<IpAddr>,
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
    /// It was taken down, and its agent has left its base container, which has
    /// its address: that goes with the last decky of the host.
    Left,
}

impl DeckyStatus {
    /// How it stands.
    #[must_use]
    pub fn health(&self) -> Health {
        let Some(placement) = &self.placement else {
            let torn_down = |row: &Record| {
                (row.operation, row.status()) == (Operation::Teardown, Status::Succeeded)
                    && row.host.as_ref() == self.home.host()
            };
            let is_left = self.home.host().is_some()
                && self.last.as_ref().is_some_and(torn_down)
                && !self.services().iter().any(|service| self.state(service) == Some("running"));
            return if is_left { Health::Left } else { Health::Stranger };
        };
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
            Health::Up | Health::Down => {
                let gave = self.address.map(|address| format!(", its agent gave it {address}"));
                counted() + &gave.unwrap_or_default()
            }
            Health::Left => {
                "taken down; its agent left its base container, which goes with the host's last decky"
                    .to_owned()
            }
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
        let heard = &self.shared.master.swarm.heard;
        let there = heard.runtimes();
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
            let own_ip = placement.likeliest().map(|placed| placed.config.ip);
            let kept = home.host().and_then(|host| heard.kept(host, &placement.decky));
            let address = kept.and_then(|kept| kept.ip).filter(|ip| own_ip != Some(*ip));
            all.push(DeckyStatus {
                decky: placement.decky.clone(),
                drifted_since: self.shared.drifting.since(&placement.decky, &home),
                home,
                placement: Some(placement),
                runtime,
                address,
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
                // Only of a host is anything left that its rows tell more of.
                let newest = Query::new().decky(decky.clone()).limit(1);
                let last = match home.host() {
                    Some(_) => self.list(&newest).await?.records.pop(),
                    None => None,
                };
                let drifted_since = self.shared.drifting.since(&decky, &home);
                let runtime = Some(runtime);
                let (placement, address) = (None, None);
                all.push(DeckyStatus { decky, home, placement, runtime, address, last, drifted_since });
            }
        }
        Ok(all)
    }

    /// How many bytes a beat of this host may have: it tells the settings of all
    /// deckies there, so that many as these take, and [`Beat::USUAL_BYTES`] more.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if the placements can't be read.
    pub async fn beat_bytes(&self, host: &HostId) -> Result<usize, StoreError> {
        let placements = self.placements(&PlacementQuery::At(Home::Host(host.clone()))).await?;
        let possible = placements.iter().flat_map(Placement::possibilities);
        let bytes: usize =
            possible.map(|placed| serde_json::to_vec(&placed.config).map_or(0, |json| json.len())).sum();
        // Another writer of JSON may take six bytes for a letter of two.
        Ok(bytes.saturating_mul(3).saturating_add(Beat::USUAL_BYTES).min(Beat::MAX_BYTES))
    }

    /// A beat of this host was refused, and why: if its rows fail because it is
    /// not heard, they say so.
    pub fn beat_refused(&self, host: &HostId, why: &str) {
        self.shared.master.swarm.heard.was_refused(host, one_line(why, 300));
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
