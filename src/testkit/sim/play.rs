//! One schedule: what happens when, and what must hold.

mod master;
mod truth;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_lite::future::block_on;

use crate::clock::Clock;
use crate::decide::Overlap;
use crate::engine::Turns;
use crate::fleet::FleetConfig;
use crate::lifecycle::{DeckyName, HostId, LifecycleId, Operation, Record, ServiceName, Status};
use crate::master::Deadlines;
use crate::runner::{DeployRequest, MutateRequest, Runner, TeardownRequest};
use crate::store::{Query, RedbStore, Store};
use crate::testkit::invariants::all;
use crate::testkit::{Breach, Invariants, VirtualClock, Witness};

use super::dice::Dice;
use super::engine::SimEngine;
use super::network::{MASTER, Network, WORKERS};
use super::setting::{HOSTS, fleet};
use super::watcher::Watcher;
use super::worker::{Kind, Worker};
use super::{Broken, Executor, Honesty, Planted, Played, SimDisk, Weather};

pub(super) struct Play {
    seed: u64,
    weather: Weather,
    dice: Dice,
    executor: Executor,
    clock: Arc<VirtualClock>,
    net: Arc<Network>,
    engine: Arc<SimEngine>,
    fleet: FleetConfig,
    disk: SimDisk,
    backup: Option<Vec<u8>>,
    store: Option<Arc<RedbStore>>,
    writer_ended: Arc<AtomicBool>,
    /// How often the store was opened, and had been at the last whole check.
    opened: Arc<AtomicU64>,
    opened_before: u64,
    witness: Arc<Witness>,
    invariants: Invariants,
    watcher: Watcher,
    /// Rows whose acceptance was told, with the time they were accepted at.
    told: Arc<Mutex<BTreeMap<LifecycleId, Duration>>>,
    /// Whether the wall clock steps in this schedule.
    steps: bool,
    stepped_back: Duration,
    /// When the weather became fair.
    fair_since: Option<Duration>,
    played: Played,
}

impl Play {
    pub(super) fn new(seed: u64, weather: Weather) -> Self {
        let dice = Dice::new(seed);
        let executor = Executor::new(seed);
        let clock = Arc::new(VirtualClock::new());
        let disk = SimDisk::new();
        let empty: Arc<dyn Store> = Arc::new(crate::store::MemoryStore::new());
        let witness = Witness::new(empty);
        let workers = (0..HOSTS).filter_map(|place| {
            let kind = if place == 2 { Kind::Original } else { Kind::Ours };
            let skew = i64::try_from(dice.below(200)).unwrap_or(0) - 100;
            let host = HostId::parse(&format!("w{place}")).ok()?;
            Some((host.clone(), Arc::new(Worker::new(host, kind, WORKERS + place, skew))))
        });
        let net = Arc::new(Network {
            executor: executor.clone(),
            dice: dice.clone(),
            clock: Arc::clone(&clock),
            workers: workers.collect(),
            witness: Arc::clone(&witness),
            master: Mutex::new(None),
            ids: Mutex::default(),
            wrong: Mutex::default(),
            fair: AtomicBool::new(false),
            faulty: Mutex::default(),
            blind_commits: AtomicU64::new(0),
            lost_words: match weather.planted {
                Some(Planted::BlindBeats) => 100,
                _ => weather.lost_words,
            },
            planted: weather.planted,
        });
        // Both kinds of engines, without a throw of the dice.
        let turns = if seed.is_multiple_of(2) { Turns::OneCall } else { Turns::OneCallPerDecky };
        Self {
            seed,
            weather,
            engine: Arc::new(SimEngine::new(Arc::clone(&net), weather, turns)),
            invariants: Invariants::new().with_witness(Arc::clone(&witness)),
            dice,
            executor,
            clock,
            net,
            fleet: fleet(),
            disk,
            backup: None,
            store: None,
            writer_ended: Arc::default(),
            opened: Arc::default(),
            opened_before: 0,
            witness,
            watcher: Watcher::default(),
            told: Arc::default(),
            steps: seed.is_multiple_of(2),
            stepped_back: Duration::ZERO,
            fair_since: None,
            played: Played::default(),
        }
    }

    pub(super) fn run(mut self) -> Result<Played, Broken> {
        let begun = self.clock.monotonic();
        if let Err(Breach(what)) = self.play() {
            return Err(Broken { seed: self.seed, polls: self.executor.polls(), what });
        }
        self.played.watched = self.watcher.heard;
        self.played.blind_commits = self.net.blind_commits.load(Ordering::Relaxed);
        self.played.polls = self.executor.polls();
        self.played.time = self.clock.monotonic().saturating_sub(begun);
        self.played.trace = self.executor.trace();
        Ok(self.played)
    }

    fn play(&mut self) -> Result<(), Breach> {
        let lies = match self.weather.planted {
            Some(Planted::UnknownLies) => Honesty::Lies,
            _ => self.weather.disk,
        };
        self.disk.set_honesty(lies, self.seed);
        self.net.workers.values().for_each(|worker| self.start(worker));
        self.start_master()?;
        for _ in 0..self.weather.events {
            let longest = Duration::from_secs(if self.dice.percent(10) { 3_600 } else { 120 });
            self.pass(self.dice.up_to(longest));
            self.supervise()?;
            // What comes next comes in the middle of what goes on.
            for _ in 0..self.dice.below(40) {
                self.executor.poll_one();
            }
            self.happen()?;
            self.check()?;
        }
        self.fair_weather()
    }

    fn happen(&mut self) -> Result<(), Breach> {
        match self.dice.below(100) {
            0..50 => self.ask(),
            50..60 => self.cancel(),
            60..66 => self.crash_master()?,
            66..74 => self.crash_worker(),
            74..80 if self.steps => self.step_clock(),
            80..88 => {
                let kind =
                    if self.dice.percent(50) { io::ErrorKind::Other } else { io::ErrorKind::StorageFull };
                self.disk.fail(self.disk.calls() + self.dice.below(60), 1 + self.dice.below(3), kind);
            }
            88..94 if self.weather.blind_commits => self.net.blind(self.dice.index(6)),
            94..97 if self.weather.restores => self.back_up_or_restore()?,
            _ => {}
        }
        self.supervise()
    }

    /// Starts the master anew if its store has closed for good.
    fn supervise(&mut self) -> Result<(), Breach> {
        if self.writer_ended.load(Ordering::Relaxed) {
            self.played.store_losses += 1;
            self.crash_master()?;
        }
        Ok(())
    }

    /// Lets time pass, and everybody do what they have to; less of it if the
    /// store closes for good.
    fn pass(&self, time: Duration) {
        let until = self.clock.monotonic().saturating_add(time);
        loop {
            while self.executor.poll_one() {}
            if self.writer_ended.load(Ordering::Relaxed) {
                return;
            }
            match self.clock.next_wake() {
                Some(wake) if wake <= until => drop(self.clock.advance_to_next()),
                _ => break,
            }
        }
        self.clock.advance(until.saturating_sub(self.clock.monotonic()));
    }

    fn start(&self, worker: &Arc<Worker>) {
        self.executor.spawn(worker.group, Arc::clone(&self.net).beats(Arc::clone(worker)));
    }

    fn restart(&self, worker: &Arc<Worker>) {
        worker.restart(self.clock.now());
        self.start(worker);
    }

    fn crash_worker(&self) {
        let workers: Vec<&Arc<Worker>> = self.net.workers.values().collect();
        let Some(worker) = workers.get(self.dice.index(workers.len())) else { return };
        if worker.is_up() {
            worker.crash(&self.executor);
        } else {
            self.restart(worker);
        }
    }

    fn step_clock(&mut self) {
        let by = self.dice.up_to(Duration::from_secs(2 * 3_600));
        let far = if self.weather.far_steps_back { 365 * 12 } else { 1 };
        if self.dice.percent(50) {
            self.clock.step_forward(by);
        } else {
            self.played.steps_back += 1;
            self.clock.step_back(by.saturating_mul(far));
            if !self.weather.far_steps_back {
                self.stepped_back = self.stepped_back.saturating_add(by);
            }
        }
    }

    /// A client asks for something, and may spawn the work or forget it.
    fn ask(&self) {
        let Some(runner) = self.net.master() else { return };
        let names: Vec<DeckyName> = self.fleet.names().cloned().collect();
        let some: Vec<DeckyName> = names.iter().filter(|_| self.dice.percent(40)).cloned().collect();
        let one = names.get(self.dice.index(names.len())).cloned();
        let overlap = if self.dice.percent(30) { Overlap::Supersede } else { Overlap::Reject };
        let (fleet, choice) = (self.fleet.clone(), self.dice.below(10));
        let (forgets, drops_at) = (self.dice.percent(5), self.dice.percent(5).then(|| self.dice.below(30)));
        let (told, net) = (Arc::clone(&self.told), Arc::clone(&self.net));
        self.executor.spawn(MASTER, async move {
            let accepted = match choice {
                0..6 => runner.accept_deploy(DeployRequest::new(fleet).only(some).overlap(overlap)).await,
                6..8 => {
                    let (Some(decky), Ok(service)) = (one, ServiceName::parse("ftp")) else { return };
                    runner.accept_mutate(MutateRequest::new(decky, vec![service]).overlap(overlap)).await
                }
                _ => runner.accept_teardown(TeardownRequest::new(some).overlap(overlap)).await,
            };
            let Ok(accepted) = accepted else { return };
            let now = net.clock.monotonic();
            told.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(accepted.ids().values().map(|id| (*id, now)));
            remember(&net, accepted.ids().values().copied().collect(), &runner).await;
            if forgets {
                return;
            }
            match drops_at {
                None => accepted.run().await,
                Some(polls) => {
                    let mut run = std::pin::pin!(accepted.run());
                    for _ in 0..polls {
                        if futures_lite::future::poll_once(&mut run).await.is_some() {
                            return;
                        }
                        net.clock.sleep(Duration::from_millis(200)).await;
                    }
                }
            }
        });
    }

    fn cancel(&self) {
        let ids = self.net.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = ids.len().saturating_sub(12);
        let place = recent + self.dice.index(ids.len().saturating_sub(recent));
        let Some((id, ..)) = ids.get(place).cloned() else { return };
        drop(ids);
        let Some(runner) = self.net.master() else { return };
        self.executor.spawn(MASTER, async move { drop(runner.cancel(id).await) });
    }

    /// Everything heals; after a while every row must have ended.
    fn fair_weather(&mut self) -> Result<(), Breach> {
        self.net.fair.store(true, Ordering::Relaxed);
        self.fair_since = Some(self.clock.monotonic());
        self.disk.fail(u64::MAX, 0, io::ErrorKind::Other);
        self.net
            .faulty
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .for_each(|faulty| faulty.heal());
        self.supervise()?;
        for worker in self.net.workers.values().filter(|worker| !worker.is_up()) {
            self.restart(worker);
        }
        let deadlines = Deadlines::default();
        let patience = (deadlines.queue + deadlines.run + 2 * deadlines.dispatch + deadlines.silence) * 2;
        let mut left = patience.saturating_add(self.stepped_back);
        let step = Duration::from_secs(600);
        while !left.is_zero() {
            self.pass(step.min(left));
            self.supervise()?;
            left = left.saturating_sub(step);
            // One that could not be read a moment ago opens by and by.
            if block_on(self.open_rows()).is_ok_and(|open| open.is_empty()) && self.net.master().is_some() {
                break;
            }
        }
        self.check()?;
        let open = block_on(self.open_rows())?;
        if let Some(row) = open.first() {
            return Err(Breach(format!("{} rows never end, first of them {row:?}", open.len())));
        }
        let store = self.store()?;
        let rows = block_on(self.invariants.check_all(&*store))?;
        self.played.whole_checks += 1;
        self.watcher.listen(&*store)?;
        self.watcher.check(&rows)?;
        self.played.rows = rows.len() as u64;
        self.played.succeeded = rows.iter().filter(|row| row.status() == Status::Succeeded).count() as u64;
        let seen = |row: &&Record| {
            let worker = row.host.as_ref().and_then(|host| self.net.workers.get(host));
            worker.is_some_and(|worker| worker.kind == Kind::Original)
                && row.operation != Operation::Teardown
                && row.status() == Status::Succeeded
                && row.claimed_completion.is_none()
        };
        self.played.seen = rows.iter().filter(seen).count() as u64;
        self.played.changes = rows.iter().map(|row| row.revision.get()).max().unwrap_or(0);
        rows.iter()
            .for_each(|row| self.executor.note(row.revision.get() ^ (row.updated_at.as_micros() as u64)));
        Ok(())
    }

    fn store(&self) -> Result<Arc<RedbStore>, Breach> {
        self.store.clone().ok_or_else(|| Breach("the master has no store".to_owned()))
    }

    async fn open_rows(&self) -> Result<Vec<Record>, Breach> {
        all(&*self.store()?, &Query::new().open()).await
    }
}

async fn remember(net: &Network, ids: Vec<LifecycleId>, runner: &Runner) {
    let rows = runner.get(&ids).await.unwrap_or_default();
    let known = rows.into_iter().map(|row| (row.id, row.decky, row.host));
    net.ids.lock().unwrap_or_else(PoisonError::into_inner).extend(known);
}
