//! The master of a schedule: how it starts, and how it and its disk are lost.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_lite::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::agent::{Host, Pin, StaticHosts};
use crate::clock::Clock;
use crate::runner::{Accepted, Runner};
use crate::store::{OpenError, RedbStore, Store};
use crate::testkit::{Breach, FaultyStore, Invariants};

use crate::testkit::sim::network::{MASTER, SimAgents};
use crate::testkit::sim::setting::EarlyWatch;
use crate::testkit::sim::{Honesty, Planted, SimDisk, tear};

use super::Play;

type Opened = (RedbStore, std::pin::Pin<Box<dyn Future<Output = ()> + Send>>);

impl Play {
    pub(super) fn start_master(&mut self) -> Result<(), Breach> {
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
        let mut unrecovered =
            Runner::builder(Arc::clone(&faulty) as Arc<dyn Store>, self.witness.engine(self.engine.clone()))
                .bus(self.witness.bus(watch))
                .swarm(agents, Arc::new(StaticHosts::new(hosts)))
                .clock(self.clock.clone())
                .seed(self.dice.below(u64::MAX))
                .sweep_every(Duration::from_secs(60))
                .build()
                .map_err(|error| Breach(error.to_string()))?;
        self.watcher.reconnect(&unrecovered.inner);
        self.watcher.listen(&*store)?;
        self.store = Some(store);
        *self.net.faulty.lock().unwrap_or_else(PoisonError::into_inner) = Some(faulty);
        let (net, clock, planted) = (Arc::clone(&self.net), Arc::clone(&self.clock), self.weather.planted);
        self.executor.spawn(MASTER, async move {
            let (runner, recovered) = loop {
                match unrecovered.recover().await {
                    Ok(recovered) => break recovered,
                    Err(error) => unrecovered = error.again,
                }
                clock.sleep(Duration::from_secs(1)).await;
            };
            net.set_master(Some(runner.clone()));
            let mut again: FuturesUnordered<_> = recovered.accepted.into_iter().map(Accepted::run).collect();
            let again = async { while again.next().await.is_some() {} };
            let maintained = async {
                if planted != Some(Planted::NoSweeps) {
                    let _ = runner.maintain().await;
                }
            };
            futures_lite::future::zip(again, maintained).await;
        });
        Ok(())
    }

    /// Cuts the master's power, and gives it back.
    pub(super) fn crash_master(&mut self) -> Result<(), Breach> {
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
        let lies = match self.weather.planted {
            Some(Planted::UnknownLies) => Honesty::Lies,
            _ => self.weather.disk,
        };
        self.disk.set_honesty(lies, self.dice.below(u64::MAX));
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
    pub(super) fn back_up_or_restore(&mut self) -> Result<(), Breach> {
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

    fn open(&self) -> Result<Opened, OpenError> {
        let (disk, opened) = (self.disk.clone(), Arc::clone(&self.opened));
        let (store, writer) = RedbStore::simulated(move || {
            opened.fetch_add(1, Ordering::Relaxed);
            disk.handle()
        })?;
        Ok((store, Box::pin(writer)))
    }
}
