//! Drift: what is placed against what really runs, told as it begins, changes
//! and ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::bus::{DriftEvent, DriftState};
use crate::lifecycle::text::without_secrets;
use crate::lifecycle::{DeckyName, Timestamp};
use crate::placement::{Home, Placement, Placements};
use crate::store::{PlacementQuery, StoreError};

use super::{DeckyStatus, Health, Runner};

/// The most characters of what is told of one decky.
const WORDS: usize = 500;

/// A decky that doesn't run as it is placed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drift {
    /// Which decky.
    pub decky: DeckyName,
    /// Where it is placed, or was found.
    pub home: Home,
    /// What is wrong: [`DriftState::Drifted`] or [`DriftState::Stranger`].
    pub state: DriftState,
    /// What runs of it, such as `1/2 (ssh dead)`.
    pub what: String,
    /// When this master first saw that it had drifted.
    pub since: Timestamp,
}

/// What was seen at the last look.
#[derive(Debug, Default)]
pub(super) struct Drifting {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    drifts: BTreeMap<(DeckyName, Home), Drift>,
    /// How often a decky began to drift.
    begun: u64,
}

impl Drifting {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when a decky has drifted, if it had at the last look.
    pub(super) fn since(&self, decky: &DeckyName, home: &Home) -> Option<Timestamp> {
        self.lock().drifts.get(&(decky.clone(), home.clone())).map(|drift| drift.since)
    }

    /// How many deckies had drifted at the last look, and how often one began
    /// to.
    pub(super) fn counts(&self) -> (usize, u64) {
        let known = self.lock();
        (known.drifts.len(), known.begun)
    }
}

impl Runner {
    /// Compares what is placed with what runs, once. What has begun to differ
    /// since the last look, differs in another way, or no longer differs, is
    /// told on the bus ([`DriftEvent`], best effort) and in the log;
    /// [`Counters`](super::Counters) count it. Gives all that differs now.
    ///
    /// A decky that an open row is at work on, or that has changed while it was
    /// looked at, is judged at the next look, and so is one of which nobody can
    /// see what runs. Cancel-safe.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use decnet_lifecycle::{DeployRequest, FleetConfig, Runner, store::MemoryStore};
    /// # use decnet_lifecycle::testkit::FakeEngine;
    /// # futures_lite::future::block_on(async {
    /// # let fleet = FleetConfig::from_json(include_bytes!("../../examples/fleet.json"))?;
    /// let engine = Arc::new(FakeEngine::new());
    /// let (runner, _) = Runner::builder(Arc::new(MemoryStore::new()), engine.clone()).build()?.recover().await?;
    /// let (decky, service) = (fleet.deckies[0].name.clone(), fleet.deckies[0].services[0].clone());
    /// runner.accept_deploy(DeployRequest::new(fleet)).await?.run().await;
    /// assert!(runner.drift().await?.is_empty());
    ///
    /// engine.kill(&decky, &service);
    /// let drift = runner.drift().await?;
    /// assert_eq!(drift[0].decky, decky);
    /// assert!(drift[0].what.contains(&format!("{service} dead")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`StoreError`] if placements or rows can't be read.
    pub async fn drift(&self) -> Result<Vec<Drift>, StoreError> {
        let looked = self.look().await?;
        self.tell_drift(&looked);
        Ok(self.shared.drifting.lock().drifts.values().cloned().collect())
    }

    /// Every decky, and whether it can be judged now: nobody is at work on it,
    /// and what is placed of it has not changed while it was looked at.
    pub(super) async fn look(&self) -> Result<Vec<Looked>, StoreError> {
        let deckies = self.deckies().await?;
        let now: Placements = self.placements(&PlacementQuery::All).await?.into_iter().collect();
        let is_steady = |status: &DeckyStatus| match (&status.placement, now.get(&status.decky)) {
            (Some(then), Some(now)) => then.tried.is_empty() && then == now,
            (Some(_), None) => false,
            (None, None) => true,
            (None, Some(now)) => now.tried.is_empty() && !is_at(now, &status.home),
        };
        Ok(deckies.into_iter().map(|status| Looked { is_steady: is_steady(&status), status }).collect())
    }

    /// Tells what has changed since the last look, and keeps what is known now.
    pub(super) fn tell_drift(&self, looked: &[Looked]) {
        let master = &self.shared.master;
        let (at, secrets) = (master.time.clock.now(), self.secrets());
        let mut events = Vec::new();
        let mut known = self.shared.drifting.lock();
        let mut before = std::mem::take(&mut known.drifts);
        for Looked { status, is_steady } in looked {
            let key = (status.decky.clone(), status.home.clone());
            let was = before.remove(&key);
            let state = match status.health() {
                _ if !is_steady => None,
                Health::Down => Some(DriftState::Drifted),
                Health::Stranger => Some(DriftState::Stranger),
                Health::Up => Some(DriftState::Mended),
                // What a row has left, unsure or for the host's last teardown, is told by the row.
                Health::Unsure | Health::Left => continue,
                Health::Unseen | Health::Underway => None,
            };
            let Some(state) = state else {
                known.drifts.extend(was.map(|was| (key, was)));
                continue;
            };
            let what = without_secrets(&secrets.hide(&status.seen()), WORDS);
            let is_new = match &was {
                None => state != DriftState::Mended,
                Some(was) => (was.state, &was.what) != (state, &what),
            };
            if is_new {
                let (decky, host) = (status.decky.clone(), status.home.host().cloned());
                events.push(DriftEvent { decky, host, state, what: what.clone() });
            }
            if state != DriftState::Mended {
                known.begun += u64::from(was.is_none());
                let since = was.map_or(at, |was| was.since);
                let (decky, home) = key.clone();
                known.drifts.insert(key, Drift { decky, home, state, what, since });
            }
        }
        drop(known);
        for event in &events {
            let level = if event.state == DriftState::Mended { log::Level::Info } else { log::Level::Warn };
            log::log!(
                target: "decnet_lifecycle::drift",
                level,
                decky:% = event.decky,
                host:% = event.host.as_ref().map_or("-", |host| host.as_str()),
                state:% = event.state.as_str(),
                what:% = event.what;
                "what runs is compared with what is placed"
            );
            master.journal.publish_drift(event);
        }
    }
}

/// A decky at one look.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) status: DeckyStatus,
    /// Whether it can be judged by what was seen.
    pub(super) is_steady: bool,
}

fn is_at(placement: &Placement, home: &Home) -> bool {
    placement.possibilities().any(|placed| placed.home == *home)
}
