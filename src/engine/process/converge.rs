//! One decky, brought from what it is to what it shall be.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use blocking::unblock;

use super::engine::Setup;
use super::files::{State, list, make_dir, open_lock};
use super::launch::{Launch, Plan, Progress, answers};
use crate::engine::Work;
use crate::fleet::DeckyConfig;
use crate::lifecycle::{DeckyName, Failure, FailureKind, ServiceName};

/// How long a decoy gets to answer, to stop, or another engine to finish.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const STEP: Duration = Duration::from_millis(25);

/// The work on one decky.
#[derive(Debug)]
pub(super) struct Converge<'a> {
    setup: Arc<Setup>,
    work: &'a Work,
    decky: &'a DeckyName,
}

/// Services, and the port of each; 0 where any will do.
type Wanted = BTreeMap<ServiceName, u16>;
type Found = BTreeMap<ServiceName, State>;

impl<'a> Converge<'a> {
    pub(super) const fn new(setup: Arc<Setup>, work: &'a Work, decky: &'a DeckyName) -> Self {
        Self { setup, work, decky }
    }

    pub(super) async fn deploy(self) -> Result<(), Failure> {
        let config = self.config()?;
        let mut wanted = self.wanted(config)?;
        let claim = self.claim().await?;
        for (service, state) in self.found().await? {
            let keeps = match (&state, wanted.get(&service)) {
                (State::Up(ready), Some(port)) => {
                    ready.addr.ip() == self.setup.bind
                        && (*port == 0 || *port == ready.addr.port())
                        && ready.hostname == self.hostname(config)
                }
                _ => false,
            };
            if keeps {
                self.still_answers(&service, state).await?;
                wanted.remove(&service);
            } else {
                self.stop(&service, state).await?;
            }
        }
        let launches = self.start(config, wanted, &claim).await?;
        self.settle(launches);
        Ok(())
    }

    pub(super) async fn mutate(self) -> Result<(), Failure> {
        let config = self.config()?;
        let wanted = self.wanted(config)?;
        let claim = self.claim().await?;
        let mut missing = wanted.clone();
        let mut gone = Vec::new();
        for (service, state) in self.found().await? {
            match state {
                State::Up(_) if wanted.contains_key(&service) => {
                    self.still_answers(&service, state).await?;
                    missing.remove(&service);
                }
                // It isn't there for anybody, and in the way of a new one.
                State::Silent if wanted.contains_key(&service) => self.stop(&service, state).await?,
                state => gone.push((service, state)),
            }
        }
        let launches = self.start(config, missing, &claim).await?;
        // From here on the new services are the decky's: were they killed in
        // the middle of what follows, it would be left with neither set.
        self.settle(launches);
        for (service, state) in gone {
            self.stop_anyway(&service, state).await?;
        }
        Ok(())
    }

    pub(super) async fn teardown(self) -> Result<(), Failure> {
        let dir = self.setup.dir().to_owned();
        let exists = unblock(move || dir.try_exists()).await.map_err(|err| self.trouble("look for", &err))?;
        if !exists {
            return Ok(());
        }
        let _claim = self.claim().await?;
        let mut first = Ok(());
        for (service, state) in self.found().await? {
            // One that doesn't stop is no reason to leave the others up.
            let stopped = self.stop(&service, state).await;
            let cancelled = matches!(&stopped, Err(failure) if failure.kind() == FailureKind::Cancelled);
            first = first.and(stopped);
            if cancelled {
                break;
            }
        }
        first
    }

    fn config(&self) -> Result<&'a DeckyConfig, Failure> {
        self.work.fleet.decky(self.decky).ok_or_else(|| {
            self.failure(&format!("the fleet has no decky {}; name one of its deckies", self.decky))
        })
    }

    fn wanted(&self, config: &DeckyConfig) -> Result<Wanted, Failure> {
        config.services.iter().map(|service| Ok((service.clone(), self.port(config, service)?))).collect()
    }

    fn port(&self, config: &DeckyConfig, service: &ServiceName) -> Result<u16, Failure> {
        let Some(value) = config.service_config.get(service.as_str()).and_then(|map| map.get("port")) else {
            return Ok(0);
        };
        value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).ok_or_else(|| {
            self.failure(&format!(
                "decky {}: service_config.{service}.port is {value}; write an integer from 1 to 65535, or leave \
                 it out for any free port",
                self.decky
            ))
        })
    }

    fn hostname<'b>(&'b self, config: &'b DeckyConfig) -> &'b str {
        if config.hostname.is_empty() { self.decky.as_str() } else { &config.hostname }
    }

    /// Keeps other engines, in this process or another, off the decky.
    async fn claim(&self) -> Result<Arc<File>, Failure> {
        let (setup, path) = (Arc::clone(&self.setup), self.setup.dir().join(format!("{}.lock", self.decky)));
        let lock = path.clone();
        let file = unblock(move || make_dir(setup.dir()).and_then(|()| open_lock(&lock)))
            .await
            .map_err(|err| self.trouble("use", &err))?;
        let file = Arc::new(file);
        let until = self.work.clock.monotonic() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(err)) => return Err(self.trouble("lock a file in", &err)),
                Err(TryLockError::WouldBlock) if self.work.clock.monotonic() < until => self.pause().await?,
                Err(TryLockError::WouldBlock) => {
                    return Err(self.failure(&format!(
                        "another engine is at work on decky {} (it holds {}); try again when it is done",
                        self.decky,
                        path.display()
                    )));
                }
            }
        }
    }

    /// The decky's decoys that are alive or have left something behind.
    async fn found(&self) -> Result<Found, Failure> {
        let (setup, decky) = (Arc::clone(&self.setup), self.decky.clone());
        let look = move || -> io::Result<Found> {
            let mut found = Found::new();
            for (decky, service) in list(setup.dir(), Some(&decky))? {
                let state = setup.files(&decky, &service).state(&decky, &service)?;
                found.insert(service, state);
            }
            Ok(found)
        };
        self.check()?;
        unblock(look).await.map_err(|err| self.trouble("read", &err))
    }

    /// Starts decoys, and waits until all of them answer. If one doesn't, all
    /// are stopped again; so they are if this is dropped.
    async fn start(
        &self,
        config: &DeckyConfig,
        wanted: Wanted,
        claim: &Arc<File>,
    ) -> Result<Vec<Launch>, Failure> {
        let mut launches = Vec::new();
        let mut outcome = Ok(());
        for (service, port) in wanted {
            outcome = self.launch(config, service, port, claim).await.map(|launch| launches.push(launch));
            if outcome.is_err() {
                break;
            }
        }
        let mut up = Vec::new();
        let mut waiting = launches.into_iter();
        while outcome.is_ok() {
            let Some(launch) = waiting.next() else { return Ok(up) };
            outcome = self.answers(launch).await.map(|launch| up.push(launch));
        }
        // Waits for each to be gone, which an executor's thread should not.
        let rest: Vec<Launch> = up.into_iter().chain(waiting).collect();
        unblock(move || drop(rest)).await;
        outcome.map(|()| Vec::new())
    }

    async fn launch(
        &self,
        config: &DeckyConfig,
        service: ServiceName,
        port: u16,
        claim: &Arc<File>,
    ) -> Result<Launch, Failure> {
        self.check()?;
        self.work.note(self.decky, &format!("starting {service}"));
        let (program, leading) = self.setup.command()?;
        let plan = Plan {
            files: self.setup.files(self.decky, &service),
            decky: self.decky.clone(),
            hostname: self.hostname(config).to_owned(),
            listen: SocketAddr::new(self.setup.bind, port),
            service: service.clone(),
            program: program.clone(),
            leading,
        };
        let claim = Arc::clone(claim);
        unblock(move || plan.start(claim)).await.map_err(|err| {
            self.failure(&format!(
                "decky {}: can't start {} for {service}: {err}; check that the program is there and may be run, \
                 and that {} is writable",
                self.decky,
                program.display(),
                self.setup.dir().display()
            ))
        })
    }

    async fn answers(&self, mut launch: Launch) -> Result<Launch, Failure> {
        let until = self.work.clock.monotonic() + PATIENCE;
        loop {
            let (looked, progress) = unblock(move || {
                let progress = launch.look();
                (launch, progress)
            })
            .await;
            launch = looked;
            let service = launch.service().clone();
            let late = self.work.clock.monotonic() >= until;
            let failure = match progress {
                Ok(Progress::Answers) => {
                    self.work.note(self.decky, &format!("{service} answers"));
                    return Ok(launch);
                }
                Ok(Progress::Ended(status, words)) => {
                    format!("{service} ended before it was ready ({status}){}", quoted(&words))
                }
                Err(err) => format!("can't look after {service} in {}: {err}", self.setup.dir().display()),
                Ok(Progress::Starting) if late => format!(
                    "{service} didn't listen on {} within {PATIENCE:?} and was killed; look whether the host is \
                     overloaded and whether the program is one that hosts decoys{}",
                    launch.listen(),
                    quoted(&launch.last_words())
                ),
                Ok(Progress::Mute(addr, err)) if late => format!(
                    "{service} listens on {addr} but gave no answer within {PATIENCE:?} ({err}) and was killed; \
                     look whether a firewall is in the way{}",
                    quoted(&launch.last_words())
                ),
                Ok(Progress::Starting | Progress::Mute(..)) => {
                    match self.pause().await {
                        Ok(()) => continue,
                        Err(cancelled) => {
                            unblock(move || drop(launch)).await;
                            return Err(cancelled);
                        }
                    };
                }
            };
            unblock(move || drop(launch)).await;
            return Err(self.failure(&format!("decky {}: {failure}", self.decky)));
        }
    }

    /// These decoys live from now on until they are told to stop.
    fn settle(&self, launches: Vec<Launch>) {
        self.setup.keep(launches.into_iter().filter_map(Launch::release));
    }

    async fn still_answers(&self, service: &ServiceName, state: State) -> Result<(), Failure> {
        let State::Up(ready) = state else { return Ok(()) };
        let (addr, pid) = (ready.addr, ready.pid);
        unblock(move || answers(&ready, false)).await.map_err(|err| {
            self.failure(&format!(
                "decky {}: {service} runs (pid {pid}) but can't be reached on {addr}: {err}; tear the decky down \
                 and deploy it again",
                self.decky
            ))
        })
    }

    async fn stop(&self, service: &ServiceName, state: State) -> Result<(), Failure> {
        self.check()?;
        self.bring_down(service, state, true).await
    }

    /// As [`Self::stop`], for when it is too late to be cancelled.
    async fn stop_anyway(&self, service: &ServiceName, state: State) -> Result<(), Failure> {
        self.bring_down(service, state, false).await
    }

    async fn bring_down(&self, service: &ServiceName, state: State, cancellable: bool) -> Result<(), Failure> {
        let files = self.setup.files(self.decky, service);
        if state != State::Dead {
            self.work.note(self.decky, &format!("stopping {service}"));
        }
        let recalled = files.clone();
        unblock(move || recalled.recall()).await.map_err(|err| self.trouble("take a run file out of", &err))?;
        let until = self.work.clock.monotonic() + PATIENCE;
        loop {
            let asked = files.clone();
            // Its last words are cleared only while nobody is there to write new ones.
            let gone = unblock(move || match asked.is_locked() {
                Ok(false) => asked.forget_ready().map(|()| true),
                other => other.map(|_| false),
            });
            if gone.await.map_err(|err| self.trouble("look after a decoy in", &err))? {
                return Ok(());
            }
            if self.work.clock.monotonic() >= until {
                let who = match state {
                    State::Up(ready) => format!("listens on {}, pid {}", ready.addr, ready.pid),
                    _ => "never said where it listens".to_owned(),
                };
                return Err(self.failure(&format!(
                    "decky {}: {service} was told to stop and didn't within {PATIENCE:?} ({who}); find who holds \
                     {} with fuser or lsof, end it by hand, then try again",
                    self.decky,
                    files.lock().display()
                )));
            }
            if cancellable {
                self.pause().await?;
            } else {
                self.work.clock.sleep(STEP).await;
            }
        }
    }

    /// Waits a little, or not if cancelled.
    async fn pause(&self) -> Result<(), Failure> {
        futures_lite::future::or(self.work.clock.sleep(STEP), self.work.cancelled(self.decky)).await;
        self.check()
    }

    fn check(&self) -> Result<(), Failure> {
        if self.work.is_cancelled(self.decky) {
            let text = format!("decky {}: cancelled; what this call had started is stopped again", self.decky);
            return Err(Failure::new(FailureKind::Cancelled, &text));
        }
        Ok(())
    }

    fn trouble(&self, what: &str, err: &io::Error) -> Failure {
        self.failure(&format!("decky {}: can't {what} {}: {err}", self.decky, self.setup.dir().display()))
    }

    fn failure(&self, text: &str) -> Failure {
        Failure::new(FailureKind::Engine, text)
    }
}

fn quoted(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!("; its last words: {words}") }
}
