//! One schedule: what happens when, and what must hold.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_lite::StreamExt as _;
use futures_lite::future::block_on;
use futures_util::stream::FuturesUnordered;

use crate::agent::{Host, Pin, StaticHosts};
use crate::clock::Clock;
use crate::decide::Overlap;
use crate::fleet::FleetConfig;
use crate::lifecycle::{DeckyName, HostId, LifecycleId, Operation, Record, ServiceName, Status};
use crate::runner::{Accepted, DeployRequest, MutateRequest, Runner, TeardownRequest};
use crate::store::{OpenError, Query, RedbStore, Store};
use crate::strategy::Deadlines;
use crate::testkit::invariants::all;
use crate::testkit::{Breach, FaultyStore, Invariants, VirtualClock, Witness};

use super::dice::Dice;
use super::engine::SimEngine;
use super::network::{MASTER, Network, SimAgents, WORKERS};
use super::setting::{EarlyWatch, HOSTS, fleet};
use super::watcher::Watcher;
use super::worker::{Kind, Worker};
use super::{Broken, Executor, Honesty, Planted, Played, SimDisk, Weather, tear};

/// How long a master may take to write down what an engine has said, or to
/// give up what it no longer drives.
const WRITTEN_DOWN: Duration = Duration::from_secs(10 * 60);

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
        });
        Self {
            seed,
            weather,
            engine: Arc::new(SimEngine::new(Arc::clone(&net), weather)),
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

    fn start_master(&mut self) -> Result<(), Breach> {
        let (store, writer) = match self.open() {
            Ok(opened) => opened,
            // A disk that lied may leave a file that doesn't open; one that
            // fails lets it be opened later.
            Err(error) if self.weather.disk == Honesty::Lies => {
                log::debug!(target: "decnet_lifecycle::sim", error:% = error; "restored from nothing");
                self.played.store_losses += 1;
                self.disk = SimDisk::new();
                self.forget();
                return self.start_master();
            }
            Err(error) => {
                self.played.store_losses += 1;
                self.disk = self.disk.power_cut(&mut |unsynced| unsynced.clear());
                self.open()
                    .map_err(|again| Breach(format!("the store does not open: {error}, then {again}")))?
            }
        };
        let store = Arc::new(store);
        self.writer_ended = Arc::default();
        let ended = Arc::clone(&self.writer_ended);
        self.executor.spawn(MASTER, async move {
            writer.await;
            ended.store(true, Ordering::Relaxed);
        });
        self.witness.reopened(Arc::clone(&store) as Arc<dyn Store>);
        let hosts = self.net.workers.keys().map(|id| Host {
            id: id.clone(),
            address: String::new(),
            pin: Pin::CaOnly,
        });
        let agents = self.witness.agents(Arc::new(SimAgents(Arc::clone(&self.net))));
        let watch = Arc::new(EarlyWatch { net: Arc::clone(&self.net), told: Arc::clone(&self.told) });
        let faulty = Arc::new(FaultyStore::new(Arc::clone(&store) as Arc<dyn Store>));
        let runner =
            Runner::builder(Arc::clone(&faulty) as Arc<dyn Store>, self.witness.engine(self.engine.clone()))
                .bus(self.witness.bus(watch))
                .swarm(agents, Arc::new(StaticHosts::new(hosts)))
                .clock(self.clock.clone())
                .seed(self.dice.below(u64::MAX))
                .sweep_every(Duration::from_secs(60))
                .build()
                .map_err(|error| Breach(error.to_string()))?;
        self.watcher.reconnect(&runner);
        self.watcher.listen(&*store)?;
        self.store = Some(store);
        *self.net.faulty.lock().unwrap_or_else(PoisonError::into_inner) = Some(faulty);
        let (net, clock, planted) = (Arc::clone(&self.net), Arc::clone(&self.clock), self.weather.planted);
        self.executor.spawn(MASTER, async move {
            let recovered = loop {
                match runner.recover().await {
                    Ok(recovered) => break recovered,
                    Err(_) => clock.sleep(Duration::from_secs(1)).await,
                }
            };
            net.set_master(Some(runner.clone()));
            let mut again: FuturesUnordered<_> = recovered.accepted.into_iter().map(Accepted::run).collect();
            let again = async { while again.next().await.is_some() {} };
            let maintained = async {
                if planted != Some(Planted::NoSweeps) {
                    runner.maintain().await;
                }
            };
            futures_lite::future::zip(again, maintained).await;
        });
        Ok(())
    }

    /// Cuts the master's power, and gives it back.
    fn crash_master(&mut self) -> Result<(), Breach> {
        self.played.crashes += 1;
        let mut random = self.dice.rng();
        let disk = self.disk.power_cut(&mut |unsynced| tear(unsynced, &mut random));
        self.disk = disk;
        self.engine.master_died();
        if self.weather.planted == Some(Planted::WatcherSkips) {
            self.watcher.skip();
        }
        self.net.set_master(None);
        self.executor.kill(MASTER);
        self.store = None;
        // Deadlines are the wall's, the age of rows is measured anew.
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values_mut()
            .for_each(|at| *at = Duration::ZERO);
        if self.weather.planted != Some(Planted::UnknownLies) {
            self.disk.set_honesty(self.weather.disk, self.dice.below(u64::MAX));
        }
        if self.weather.disk == Honesty::Lies {
            self.forget();
        }
        self.start_master()
    }

    /// After a disk that lied nothing is known of what was.
    fn forget(&mut self) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.invariants = Invariants::new();
        if !self.weather.restores {
            self.watcher.forget();
        }
    }

    /// Keeps a copy of the store, or loses it and comes back with the copy.
    fn back_up_or_restore(&mut self) -> Result<(), Breach> {
        let Some(backup) = self.backup.take() else {
            self.backup = Some(self.disk.durable());
            return Ok(());
        };
        self.played.restores += 1;
        drop(self.disk.power_cut(&mut |unsynced| unsynced.clear()));
        self.disk = SimDisk::holding(backup);
        self.forget();
        self.crash_master()
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
            if block_on(self.open_rows())?.is_empty() && self.net.master().is_some() {
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
        self.played.changes = rows.iter().map(|row| row.revision.get()).max().unwrap_or(0);
        rows.iter()
            .for_each(|row| self.executor.note(row.revision.get() ^ (row.updated_at.as_micros() as u64)));
        Ok(())
    }

    fn open(&self) -> Result<Opened, OpenError> {
        let (disk, opened) = (self.disk.clone(), Arc::clone(&self.opened));
        let (store, writer) = RedbStore::simulated(move || {
            opened.fetch_add(1, Ordering::Relaxed);
            disk.handle()
        })?;
        Ok((store, Box::pin(writer)))
    }

    fn store(&self) -> Result<Arc<RedbStore>, Breach> {
        self.store.clone().ok_or_else(|| Breach("the master has no store".to_owned()))
    }

    async fn open_rows(&self) -> Result<Vec<Record>, Breach> {
        all(&*self.store()?, &Query::new().open()).await
    }

    fn check(&mut self) -> Result<(), Breach> {
        let store = self.store()?;
        if let Some(wrong) = self.net.wrong.lock().unwrap_or_else(PoisonError::into_inner).first() {
            return Err(Breach(wrong.clone()));
        }
        if self.writer_ended.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.played.checks += 1;
        let opened = self.opened.load(Ordering::Relaxed);
        let rows = if self.opened_before == opened {
            block_on(self.invariants.check_changes(&*store))?
        } else {
            self.played.whole_checks += 1;
            block_on(self.invariants.check_listed(&*store))?
        };
        self.opened_before = opened;
        if !rows.is_empty() {
            self.watcher.listen(&*store)?;
        }
        let ended = self.engine.take_ended(self.clock.monotonic().saturating_sub(WRITTEN_DOWN));
        if let Some(row) = block_on(store.read(&ended))?.iter().find(|row| row.is_open()) {
            return Err(Breach(format!("what the engine said of row {} was lost: {row:?}", row.id)));
        }
        for id in self.told.lock().unwrap_or_else(PoisonError::into_inner).keys() {
            if !self.invariants.knows(*id) {
                return Err(Breach(format!("row {id} was acknowledged and is lost")));
            }
        }
        rows.iter().filter(|row| row.status() == Status::Succeeded).try_for_each(|row| self.is_true(row))
    }

    /// Whether a row that says so has really succeeded.
    ///
    /// A worker that names no rows is believed by the age of earlier rows; a
    /// clock that steps and a master that restarts take that away together,
    /// and so does a disk that loses those rows.
    fn is_true(&self, row: &Record) -> Result<(), Breach> {
        let really = match &row.host {
            None => self.engine.did(row.id),
            Some(_) if row.operation == Operation::Teardown => true,
            Some(host) => self.net.workers.get(host).is_some_and(|worker| {
                let lost = self.weather.disk == Honesty::Lies || self.played.restores > 0;
                let in_doubt = self.steps || lost;
                worker.did(row.id) || (worker.kind == Kind::Original && in_doubt)
            }),
        };
        if really {
            Ok(())
        } else {
            Err(Breach(format!("row {} says succeeded and has not: {row:?}", row.id)))
        }
    }
}

type Opened = (RedbStore, std::pin::Pin<Box<dyn Future<Output = ()> + Send>>);

async fn remember(net: &Network, ids: Vec<LifecycleId>, runner: &Runner) {
    let rows = runner.get(&ids).await.unwrap_or_default();
    let known = rows.into_iter().map(|row| (row.id, row.decky, row.host));
    net.ids.lock().unwrap_or_else(PoisonError::into_inner).extend(known);
}
