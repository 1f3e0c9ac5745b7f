//! The simulated master's own engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_lite::FutureExt;

use crate::clock::Clock;
use crate::engine::{Engine, Report, Turns, Work};
use crate::lifecycle::{Failure, FailureKind, LifecycleId};

use super::dice::Dice;
use super::network::Network;
use super::{Planted, Weather};

/// An engine that succeeds mostly, and otherwise does what engines do.
#[derive(Debug)]
pub(super) struct SimEngine {
    pub(super) net: Arc<Network>,
    weather: Weather,
    turns: Turns,
    /// What really succeeded.
    did: Mutex<BTreeSet<LifecycleId>>,
    /// When a call for a row ended, since the master's last start.
    ended: Mutex<BTreeMap<LifecycleId, Duration>>,
}

impl SimEngine {
    pub(super) fn new(net: Arc<Network>, weather: Weather, turns: Turns) -> Self {
        Self { net, weather, turns, did: Mutex::default(), ended: Mutex::default() }
    }

    /// The rows whose call ended by this time, each once, if the master that
    /// made it lives.
    pub(super) fn take_ended(&self, by: Duration) -> Vec<LifecycleId> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.extract_if(.., |_, at| *at <= by).map(|(id, _)| id).collect()
    }

    /// The master is gone, and with it whom the ends were told.
    pub(super) fn master_died(&self) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn did(&self, id: LifecycleId) -> bool {
        self.did.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    fn dice(&self) -> &Dice {
        &self.net.dice
    }

    async fn play(&self, work: &Work) -> Result<Report, Failure> {
        let report = self.work(work).await;
        let now = self.net.clock.monotonic();
        let ids = work.deckies.values().map(|task| (task.id, now));
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
        // When it matters most.
        if self.weather.blind_commits && self.net.mishap(40) {
            self.net.blind(0);
        }
        if self.weather.planted == Some(Planted::EngineUnheard) && self.dice().percent(20) {
            return std::future::pending().await;
        }
        report
    }

    async fn work(&self, work: &Work) -> Result<Report, Failure> {
        let dice = self.dice();
        let kind = FailureKind::Engine;
        if dice.percent(3) {
            std::panic::resume_unwind(Box::new("scripted panic"));
        }
        if dice.percent(5) {
            return Err(Failure::new(kind, "no daemon"));
        }
        let mut report = Report::new();
        for (decky, task) in &work.deckies {
            let takes = dice.up_to(Duration::from_secs(120));
            match dice.below(100) {
                0..70 => {
                    work.clock.sleep(takes).await;
                    self.did.lock().unwrap_or_else(PoisonError::into_inner).insert(task.id);
                    report.succeeded(decky.clone());
                }
                70..82 if self.weather.planted == Some(Planted::EngineBoasts) => {
                    report.succeeded(decky.clone())
                }
                70..82 => report.failed(decky.clone(), Failure::new(kind, "no such image")),
                82..90 => {}
                90..98 => {
                    let bored = work.clock.sleep(Duration::from_secs(4 * 60 * 60));
                    work.cancelled(decky).or(bored).await;
                    report.failed(decky.clone(), Failure::new(FailureKind::Cancelled, "stopped"));
                }
                _ => std::future::pending().await,
            }
        }
        Ok(report)
    }
}

#[async_trait]
impl Engine for SimEngine {
    fn turns(&self) -> Turns {
        self.turns
    }

    async fn deploy(&self, work: &Work) -> Result<Report, Failure> {
        self.play(work).await
    }

    async fn mutate(&self, work: &Work) -> Result<Report, Failure> {
        self.play(work).await
    }

    async fn teardown(&self, work: &Work) -> Result<Report, Failure> {
        self.play(work).await
    }
}
