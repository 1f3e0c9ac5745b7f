//! Brings back what is placed and doesn't run: regularly by itself, or all at
//! once when somebody asks.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_lite::FutureExt as _;
use futures_lite::future::poll_once;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::lifecycle::text::without_secrets;
use crate::lifecycle::{DeckyName, LifecycleId, Operation, Record, Revision};
use crate::placement::{Placed, Standing, fleet_of};
use crate::store::StoreError;

use super::backoff::{Backoff, Healing};
use super::drift::Looked;
use super::{AcceptError, Accepted, DeckyStatus, DeployRequest, Health, Runner};

/// The most characters of why a decky is brought back.
const WHY: usize = 80;
/// From an engine's word to the look: what happens at once is seen at once.
const SETTLES: Duration = Duration::from_secs(2);

/// What is known of a decky that has drifted, from look to look.
#[derive(Debug, Clone, Default)]
pub(super) struct Patient {
    /// Its newest row, once ended, and for how long it had been then.
    row: Option<LifecycleId>,
    ended_before: Duration,
    /// Since when that is known, in monotonic time.
    seen_at: Duration,
    /// Tries that were refused since that row, so that there is no other.
    refused: u32,
}

/// What a restore came to.
#[derive(Debug, Default)]
#[must_use = "run what was accepted"]
#[non_exhaustive]
pub struct Restored {
    /// The work: spawn each, as any accepted work.
    pub accepted: Vec<Accepted>,
    /// Deckies that run as they are placed.
    pub up: BTreeSet<DeckyName>,
    /// Deckies that were left as they are, and why.
    pub left: BTreeMap<DeckyName, String>,
}

/// A decky to bring up again as it is placed.
#[derive(Debug, Clone)]
struct Again {
    placed: Arc<Placed>,
    revision: Revision,
    healing: Option<Healing>,
}

impl Runner {
    /// Looks as [`Runner::drift`] does, and accepts a deploy of what is placed
    /// and doesn't run, just as it is placed. Its rows are as any others; their
    /// key says why they were made ([`Healing`]). Spawn the work of each.
    ///
    /// Left alone are: deckies with an open row; deckies whose newest request is
    /// a teardown, also one that failed; those whose bringing back somebody has
    /// cancelled, until something else is asked of them; those that were brought
    /// back a short time ago, by the back-off; and those that nobody is sure of,
    /// unless what runs is just one of what they may be: then that is deployed,
    /// and they are sure. A request that comes between the look and the deploy
    /// wins. Dropping: as for [`Runner::accept_deploy`].
    ///
    /// # Errors
    /// [`StoreError`] if placements or rows can't be read. A decky that can't be
    /// deployed as it is placed is told in the log, and tried again by the
    /// back-off.
    pub async fn heal(&self, backoff: Backoff) -> Result<Vec<Accepted>, StoreError> {
        let looked = self.look().await?;
        self.tell_drift(&looked);
        let mut groups: BTreeMap<_, Vec<Again>> = BTreeMap::new();
        for again in self.due(&looked, backoff) {
            groups.entry((kind(&again.placed), again.healing.clone())).or_default().push(again);
        }
        let mut accepted = Vec::new();
        for (number, group) in groups.into_values().enumerate() {
            let (work, refused) = self.bring_back(group, number).await;
            self.shared
                .heals
                .fetch_add(work.iter().map(|one| one.ids().len() as u64).sum(), Ordering::Relaxed);
            accepted.extend(work);
            for (decky, error) in refused {
                log::warn!(target: "decnet_lifecycle::drift", decky:% = decky, error:% = error; "it was not brought back");
                let mut patients = self.patients();
                let patient = patients.entry(decky).or_default();
                patient.refused = patient.refused.saturating_add(1);
                patient.seen_at = self.shared.master.time.clock.monotonic();
                patient.ended_before = Duration::ZERO;
            }
        }
        Ok(accepted)
    }

    /// Brings everything back that is placed on this master itself and isn't
    /// seen to run, as after a restart of the machine. Who calls it has asked for
    /// it: also a decky whose teardown has failed is brought back. Deckies with
    /// an open row, and those that nobody is sure of, are left, with a reason.
    /// Dropping: as for [`Runner::accept_deploy`].
    ///
    /// # Errors
    /// [`StoreError`] if placements or rows can't be read.
    pub async fn restore(&self) -> Result<Restored, StoreError> {
        let own = self.shared.master.home();
        let mut restored = Restored::default();
        let mut groups: BTreeMap<_, Vec<Again>> = BTreeMap::new();
        for Looked { status, is_steady } in self.look().await? {
            let Some(placement) = status.placement.as_ref().filter(|_| status.home == own) else { continue };
            let decky = status.decky.clone();
            let Standing::Up { placed, .. } = &placement.standing else {
                if matches!(placement.standing, Standing::Unsure { .. }) && placement.tried.is_empty() {
                    restored.left.insert(decky, "nobody is sure how it stands; deploy it anew".to_owned());
                } else {
                    restored.left.insert(decky, "a row of it is open".to_owned());
                }
                continue;
            };
            if !is_steady {
                restored.left.insert(decky, "a row of it is open".to_owned());
            } else if status.health() == Health::Up {
                restored.up.insert(decky);
            } else {
                let again = Again { placed: Arc::clone(placed), revision: placement.revision, healing: None };
                groups.entry(kind(placed)).or_default().push(again);
            }
        }
        for group in groups.into_values() {
            let (work, refused) = self.bring_back(group, 0).await;
            restored.accepted.extend(work);
            restored.left.extend(refused.into_iter().map(|(decky, error)| (decky, error.to_string())));
        }
        Ok(restored)
    }

    /// Looks for drift regularly, and as soon as the engine tells that something
    /// may have changed, for as long as it is polled; with a back-off it also
    /// brings back what has drifted, see [`Runner::heal`], and drives that.
    /// If it is dropped, the next sweep fails the rows that it still drove.
    pub async fn watch_drift(&self, every: Duration, heal: Option<Backoff>) {
        let master = &self.shared.master;
        let mut works = FuturesUnordered::new();
        loop {
            let mut told = pin!(master.local.engine.changed());
            // What happens from here on is heard, also during the look.
            let is_told = poll_once(&mut told).await.is_some();
            let looked = match heal {
                Some(backoff) => self.heal(backoff).await,
                None => self.drift().await.map(|_| Vec::new()),
            };
            match looked {
                Ok(accepted) => works.extend(accepted.into_iter().map(|one| Box::pin(one.run()))),
                Err(error) => {
                    log::error!(target: "decnet_lifecycle::drift", error:% = error; "what runs was not compared with what is placed");
                }
            }
            let tick = master.time.clock.sleep(every);
            let told = async {
                if !is_told {
                    told.await;
                }
                master.time.clock.sleep(SETTLES).await;
            };
            let working = async {
                while works.next().await.is_some() {}
                std::future::pending().await
            };
            tick.or(told).or(working).await;
        }
    }

    /// What is to be brought back now.
    fn due(&self, looked: &[Looked], backoff: Backoff) -> Vec<Again> {
        let time = &self.shared.master.time.clock;
        let (monotonic, now) = (time.monotonic(), time.now());
        let mut patients = self.patients();
        let ill = |looked: &&Looked| {
            looked.is_steady && matches!(looked.status.health(), Health::Down | Health::Unsure)
        };
        let names: BTreeSet<&DeckyName> =
            looked.iter().filter(ill).map(|looked| &looked.status.decky).collect();
        patients.retain(|decky, _| names.contains(decky));
        let mut all = Vec::new();
        for status in looked.iter().filter(ill).map(|looked| &looked.status) {
            let Some((placed, revision)) = to_bring_back(status) else { continue };
            let patient = patients.entry(status.decky.clone()).or_default();
            let row = status.last.as_ref();
            if patient.seen_at.is_zero() || patient.row != row.map(|row| row.id) {
                let ended_before =
                    row.and_then(Record::completed_at).map_or(Duration::MAX, |at| now.since(at));
                *patient =
                    Patient { row: row.map(|row| row.id), ended_before, seen_at: monotonic, refused: 0 };
            }
            let rests = patient.ended_before.saturating_add(monotonic.saturating_sub(patient.seen_at));
            let earlier =
                row.and_then(|row| row.key.as_ref()).and_then(Healing::of).map(|healing| healing.tries);
            let failed = u32::from(row.is_some_and(|row| row.failure().is_some()));
            let tries = earlier.unwrap_or(failed).saturating_add(patient.refused);
            if tries > 0 && rests < backoff.after(tries) {
                continue;
            }
            let tries = if rests >= backoff.forgives_after() { 1 } else { tries.saturating_add(1) };
            let why = without_secrets(&self.secrets().hide(&why(status)), WHY);
            all.push(Again { placed, revision, healing: Some(Healing { tries, why }) });
        }
        all
    }

    /// Accepts the deploy of some deckies of one kind, together; if one is in
    /// the way, each by itself.
    async fn bring_back(
        &self,
        group: Vec<Again>,
        number: usize,
    ) -> (Vec<Accepted>, Vec<(DeckyName, AcceptError)>) {
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        let mut todo = vec![group];
        while let Some(group) = todo.pop() {
            let Some(request) = self.request_of(&group, (number, todo.len())) else { continue };
            match self.accept_deploy(request).await {
                // Another has this key: nothing to drive.
                Ok(work) if work.is_repeat() => {}
                Ok(work) => accepted.push(work),
                Err(_) if group.len() > 1 => todo.extend(group.into_iter().map(|one| vec![one])),
                Err(error) => {
                    let decky = group.into_iter().next().map(|one| one.placed.config.name.clone());
                    refused.extend(decky.map(|decky| (decky, error)));
                }
            }
        }
        (accepted, refused)
    }

    fn request_of(&self, group: &[Again], (number, part): (usize, usize)) -> Option<DeployRequest> {
        let fleet = fleet_of(group.iter().map(|again| &*again.placed))?;
        let mut request = DeployRequest::new(fleet);
        request.placed_at =
            group.iter().map(|again| (again.placed.config.name.clone(), again.revision)).collect();
        let healing = group.first().and_then(|again| again.healing.as_ref());
        let now = self.shared.master.time.clock.now().as_micros();
        // No two parts of a look have the same.
        let number = number.saturating_mul(1_000_000).saturating_add(part);
        Some(match healing.and_then(|healing| healing.key(now, number)) {
            Some(key) => request.key(key),
            None => request,
        })
    }

    fn patients(&self) -> std::sync::MutexGuard<'_, BTreeMap<DeckyName, Patient>> {
        self.shared.patients.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What deckies have in common that are deployed as one fleet.
fn kind(placed: &Placed) -> impl Ord + use<> {
    let engine = placed.engine.clone();
    (placed.home.clone(), placed.network.clone(), engine, placed.log_file.clone(), placed.mutate_interval)
}

/// What a decky that has drifted is to be again; none if it is to be left
/// alone.
fn to_bring_back(status: &DeckyStatus) -> Option<(Arc<Placed>, Revision)> {
    let placement = status.placement.as_ref()?;
    if let Some(row) = &status.last {
        let heals = row.key.as_ref().is_some_and(|key| Healing::of(key).is_some());
        let is_unwanted = row.operation == Operation::Teardown
            || row.is_open()
            || (heals && row.cancel_requested_at.is_some());
        if is_unwanted {
            return None;
        }
    }
    let placed = match &placement.standing {
        Standing::Nothing => None,
        Standing::Up { placed, .. } => Some(placed),
        Standing::Unsure { perhaps, .. } => {
            let runtime = status.runtime.as_ref()?;
            let runs = runtime.running && runtime.services.values().all(|state| state == "running");
            let is_seen = |placed: &&Arc<Placed>| {
                placed.config.services.len() == runtime.services.len()
                    && placed.config.services.iter().all(|one| runtime.services.contains_key(one.as_str()))
            };
            let mut seen = perhaps.iter().filter(is_seen);
            // Two that have the same services can't be told apart.
            seen.next().filter(|_| runs && seen.next().is_none())
        }
    };
    placed.map(|placed| (Arc::clone(placed), placement.revision))
}

/// Why a decky is brought back.
fn why(status: &DeckyStatus) -> String {
    if status.health() == Health::Unsure {
        return "nobody was sure of it and it runs".to_owned();
    }
    let not = status.not_running();
    if not.len() == status.services().len() { "nothing of it runs".to_owned() } else { not.join(", ") }
}
