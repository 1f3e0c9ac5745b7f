//! The secrets that a master or worker knows, kept from every way out: rows
//! (and so feed, events and log), progress, what workers say of what runs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::decide::{Batch, Change};
use crate::engine::{Engine, Progress};
use crate::fleet::{DeckyRuntime, FleetConfig};
use crate::lifecycle::{DeckyName, Failure, Phase, Secrets};
use crate::placement::{Aim, Placed, Placement, fleet_of};
use crate::store::{PlacementQuery, Store, StoreError};

/// What is known to be secret: of every decky that is placed or was asked for
/// since this start, and of the engine.
#[derive(Debug)]
pub(crate) struct Discretion {
    engine: Arc<dyn Engine>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    secrets: Secrets,
    /// Whether what the store has placed is among them.
    has_placed: bool,
}

impl Discretion {
    pub(crate) fn new(engine: Arc<dyn Engine>) -> Self {
        let secrets = engine.secrets(&FleetConfig::nothing());
        Self { engine, known: Mutex::new(Known { secrets, has_placed: false }) }
    }

    /// All that is known now.
    pub(crate) fn secrets(&self) -> Secrets {
        self.lock().secrets.clone()
    }

    /// What a batch is about to bring into the store.
    pub(crate) fn learn(&self, batch: &Batch) {
        let placed = batch.changes.iter().flat_map(|change| -> Vec<&Placed> {
            match change {
                Change::Insert(insert) => match &insert.aim {
                    Some(Aim::Up(placed)) => vec![placed],
                    Some(Aim::Gone) | None => Vec::new(),
                },
                Change::Place(placement) => placement.possibilities().map(|placed| &**placed).collect(),
                Change::Step(_) | Change::Annotate(_) | Change::Forget(_) => Vec::new(),
            }
        });
        self.add(placed);
    }

    /// What the store has placed.
    pub(crate) fn learn_placed<'p>(&self, placements: impl IntoIterator<Item = &'p Placement>) {
        let placed = placements.into_iter().flat_map(Placement::possibilities).map(|placed| &**placed);
        self.add(placed);
        self.lock().has_placed = true;
    }

    /// Reads what the store has placed, unless that is known. A damaged
    /// placement keeps nothing from being said: what is written like a secret
    /// is hidden all the same.
    pub(crate) async fn load(&self, store: &dyn Store) -> Result<(), StoreError> {
        if self.lock().has_placed {
            return Ok(());
        }
        match store.placements(&PlacementQuery::All).await {
            Err(StoreError::Corrupt { .. }) => self.learn_placed([]),
            placements => self.learn_placed(&placements?),
        }
        Ok(())
    }

    fn add<'p>(&self, placed: impl IntoIterator<Item = &'p Placed>) {
        let set = placed.into_iter().filter(|placed| !placed.config.service_config.is_empty());
        let fleet = fleet_of(set).unwrap_or_else(FleetConfig::nothing);
        let more = Secrets::of(&fleet).and(&self.engine.secrets(&fleet));
        let mut known = self.lock();
        if !known.secrets.covers(&more) {
            known.secrets = more.and(&known.secrets);
        }
    }

    /// The batch as it may be kept: the failures in it without secrets.
    pub(crate) async fn of_batch(&self, mut batch: Batch, store: &dyn Store) -> Result<Batch, StoreError> {
        self.learn(&batch);
        let failures = batch.changes.iter_mut().filter_map(|change| match change {
            Change::Step(step) => match &mut step.next.phase {
                Phase::Failed { failure, .. } => Some(failure),
                Phase::Pending { .. } | Phase::Running { .. } | Phase::Succeeded { .. } => None,
            },
            _ => None,
        });
        let failures: Vec<&mut Failure> = failures.collect();
        if !failures.is_empty() {
            self.load(store).await?;
            let secrets = self.secrets();
            for failure in failures {
                *failure = failure.clone().hiding(&secrets);
            }
        }
        Ok(batch)
    }

    /// What a worker says of what runs, as it may be shown.
    pub(crate) fn of_runtime<'r>(
        &self,
        runtime: &'r BTreeMap<DeckyName, DeckyRuntime>,
    ) -> Cow<'r, BTreeMap<DeckyName, DeckyRuntime>> {
        let secrets = self.secrets();
        if secrets.is_empty() {
            return Cow::Borrowed(runtime);
        }
        let shown = |seen: &DeckyRuntime| DeckyRuntime {
            running: seen.running,
            services: seen
                .services
                .iter()
                .map(|(service, state)| (secrets.hide(service), secrets.hide(state)))
                .collect(),
        };
        Cow::Owned(runtime.iter().map(|(decky, seen)| (decky.clone(), shown(seen))).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Progress that tells no secrets.
pub(crate) struct Discreet {
    inner: Arc<dyn Progress>,
    discretion: Arc<Discretion>,
}

impl Discreet {
    pub(crate) fn new(inner: Arc<dyn Progress>, discretion: Arc<Discretion>) -> Self {
        Self { inner, discretion }
    }
}

impl fmt::Debug for Discreet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Progress for Discreet {
    fn note(&self, decky: &DeckyName, text: &str) {
        self.inner.note(decky, &self.discretion.secrets().hide(text));
    }

    fn ended(&self, decky: &DeckyName, outcome: &Result<(), Failure>) {
        let outcome = outcome.clone().map_err(|failure| failure.hiding(&self.discretion.secrets()));
        self.inner.ended(decky, &outcome);
    }
}
