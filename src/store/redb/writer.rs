//! The thread that writes: what has gathered becomes one transaction.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use futures_lite::FutureExt as _;
use redb::Database;

use crate::decide::{Batch, Outcome};
use crate::store::{Pruned, Retention, StoreError};

use super::gather::Gate;
use super::health::Shared;
use super::{OpenError, core, prune};
use crate::store::StoreHealth;

/// The most changes in one transaction.
const GROUP: usize = 4_096;

/// The first wait of a store that fails, and the longest; each is twice the one
/// before.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

pub(super) type Reply<T> = Sender<Result<T, StoreError>>;

/// What the thread is asked to do.
pub(super) enum Command {
    Commit {
        batch: Batch,
        reply: Reply<Vec<Outcome>>,
    },
    Prune {
        policy: Retention,
        reply: Reply<Pruned>,
    },
    Close {
        reply: Reply<()>,
    },
    /// Somebody could not read: whether it opens by now.
    Retry,
}

/// The database, shared with readers; empty while it is reopened or closed.
pub(super) type SharedDatabase = Arc<RwLock<Option<Held>>>;

/// A database, and whose it is.
pub(super) enum Held {
    /// The store's.
    Own(Database),
    /// The program's, which has other tables in it.
    Host(Arc<Database>),
}

impl std::ops::Deref for Held {
    type Target = Database;

    fn deref(&self) -> &Database {
        match self {
            Self::Own(db) => db,
            Self::Host(db) => db,
        }
    }
}

/// Opens the same database once more.
pub(super) type Reopen = Box<dyn Fn() -> Result<Database, OpenError> + Send + Sync>;

pub(super) struct Writer {
    db: SharedDatabase,
    /// How to open it anew after an error; a store over one backend can't.
    reopen: Option<Reopen>,
    commands: Receiver<Command>,
    /// What is known of the file without reading.
    known: core::Known,
    /// Where it may sleep if it has a thread of its own.
    gate: Option<Arc<Gate>>,
    /// How often in a row it slept in vain.
    vain: u32,
    /// How many groups it takes now without having slept.
    skip: u32,
    health: Shared,
    /// Whether the last write failed and the store was opened anew since.
    is_suspect: bool,
    failing: Option<Failing>,
}

/// A store that failed twice in a row: it is tried again until it can be
/// written.
struct Failing {
    wait: Duration,
    next: Instant,
}

/// What the writer does next.
enum Next {
    Command(Command),
    Retry,
    End,
}

/// After so many times in vain, one group in two to the power of it is waited
/// for.
const SELDOM: u32 = 5;

impl Writer {
    pub(super) fn new(
        db: SharedDatabase,
        reopen: Option<Reopen>,
        commands: Receiver<Command>,
        gate: Option<Arc<Gate>>,
        health: Shared,
    ) -> Self {
        let known = core::Known::default();
        Self { db, reopen, commands, known, gate, vain: 0, skip: 0, health, is_suspect: false, failing: None }
    }

    /// Writes until it is told to close. Without a gate it waits nowhere but
    /// for commands, so that a simulation may poll it.
    pub(super) async fn run(mut self) {
        let mut held: Option<Command> = None;
        loop {
            let next = match held.take() {
                Some(command) => Next::Command(command),
                None => self.next().await,
            };
            let command = match next {
                Next::Command(command) if !matches!(command, Command::Retry) => command,
                Next::Retry | Next::Command(_) => {
                    if self.retry() {
                        continue;
                    } else {
                        break;
                    }
                }
                Next::End => break,
            };
            if let Command::Close { reply } = command {
                self.commands.close();
                self.health.set(StoreHealth::Gone { why: "it was closed".to_owned() });
                let _ = reply.try_send(self.close());
                break;
            }
            if self.health.is_gone() {
                held = Some(command);
                break;
            }
            if self.must_wait() {
                self.refuse(command);
                continue;
            }
            let result = match command {
                Command::Commit { batch, reply } => {
                    let (batches, replies);
                    (batches, replies, held) = self.gather(batch, reply);
                    let began = Instant::now();
                    let result = self.commit(&batches, &replies);
                    self.expect_again(batches.len(), began.elapsed());
                    result
                }
                Command::Prune { policy, reply } => {
                    let result = self.with_db(|db, _| prune::prune(db, &policy));
                    let hurt = hurts(&result);
                    let _ = reply.try_send(result);
                    hurt
                }
                Command::Close { .. } | Command::Retry => None,
            };
            let goes_on = match result {
                None => {
                    self.is_well();
                    true
                }
                Some(why) => self.is_hurt(why),
            };
            if !goes_on {
                break;
            }
        }
        // What was held back or queued is refused when `self` is dropped.
        self.health.set(StoreHealth::Gone { why: "its writer has ended".to_owned() });
        held.into_iter().for_each(|command| self.refuse(command));
        self.commands.close();
        let _ = self.close();
    }

    /// The next command; a store that fails is tried again meanwhile.
    async fn next(&self) -> Next {
        let command = async { self.commands.recv().await.map_or(Next::End, Next::Command) };
        match &self.failing {
            // Without a thread of its own it waits for commands only.
            Some(failing) if self.gate.is_some() => {
                let retry = async {
                    async_io::Timer::at(failing.next).await;
                    Next::Retry
                };
                command.or(retry).await
            }
            _ => command.await,
        }
    }

    /// Whether a store that fails is to be left alone for now; one without a
    /// thread is opened for each command.
    fn must_wait(&mut self) -> bool {
        match &self.failing {
            None => false,
            Some(failing) if self.gate.is_some() => Instant::now() < failing.next,
            Some(_) => !self.is_open() && !matches!(self.open_anew(), Ok(true)),
        }
    }

    /// Tries a store that fails; false if it is gone for good.
    fn retry(&mut self) -> bool {
        if self.health.is_gone() {
            return false;
        }
        // Who could not read may have come late.
        if self.is_open() && self.failing.is_none() {
            return true;
        }
        let opened = if self.is_open() { Ok(true) } else { self.open_anew() };
        let result = match opened {
            Ok(true) => self.with_db(|db, _| core::probe(db)),
            Ok(false) => return false,
            Err(why) => Err(StoreError::not_committed("opening the store", std::io::Error::other(why))),
        };
        match hurts(&result) {
            None => {
                self.is_well();
                true
            }
            Some(why) => self.is_hurt(why),
        }
    }

    /// A write went well.
    fn is_well(&mut self) {
        self.is_suspect = false;
        if self.failing.take().is_some() {
            self.health.set(StoreHealth::Good);
            log::warn!(target: "decnet_lifecycle::store", "the store can be written again");
        }
    }

    /// A write failed: the handle takes no more, and a new one is made. A store
    /// that fails again and again is tried ever more seldom. False if it is
    /// gone for good.
    fn is_hurt(&mut self, why: String) -> bool {
        let opened = self.open_anew();
        if opened == Ok(false) || self.health.is_gone() {
            return false;
        }
        if opened.is_ok() && !std::mem::replace(&mut self.is_suspect, true) {
            log::warn!(target: "decnet_lifecycle::store", error:% = why; "opened anew after an error");
            return true;
        }
        let why = opened.err().unwrap_or(why);
        let wait = match &self.failing {
            Some(failing) => (failing.wait * 2).min(LONGEST_WAIT),
            None => FIRST_WAIT,
        };
        if self.failing.is_none() {
            log::error!(target: "decnet_lifecycle::store", error:% = why; "the store can't be written; it is tried again until it can be, and nothing is taken meanwhile");
        }
        self.failing = Some(Failing { wait, next: Instant::now() + wait });
        self.health.set(StoreHealth::Failing { why });
        true
    }

    fn is_open(&self) -> bool {
        self.db.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn refuse(&self, command: Command) {
        match command {
            Command::Commit { reply, .. } => drop(reply.try_send(Err(self.health.refusal("committing")))),
            Command::Prune { reply, .. } => drop(reply.try_send(Err(self.health.refusal("pruning")))),
            Command::Close { reply } => drop(reply.try_send(Ok(()))),
            Command::Retry => {}
        }
    }

    /// Takes what else is waiting, up to a bound; a command that isn't a
    /// commit ends the group and is handed back.
    fn gather(
        &self,
        batch: Batch,
        reply: Reply<Vec<Outcome>>,
    ) -> (Vec<Batch>, Vec<Reply<Vec<Outcome>>>, Option<Command>) {
        let mut changes = batch.changes.len();
        let (mut batches, mut replies) = (vec![batch], vec![reply]);
        while changes < GROUP {
            match self.commands.try_recv() {
                Ok(Command::Commit { batch, reply }) => {
                    changes += batch.changes.len();
                    batches.push(batch);
                    replies.push(reply);
                }
                Ok(other) => return (batches, replies, Some(other)),
                Err(_) => break,
            }
        }
        (batches, replies, None)
    }

    /// Waits a moment for the callers that have just been answered, most of
    /// whom submit their next step at once. Without that, the first to come
    /// would be committed in a group of its own while the others queue behind
    /// it, and so on for ever: a group of one, a group of the rest, twice the
    /// commits. Waiting in vain costs at most a quarter of what the commit
    /// took, and after each vain wait the next comes half as often, down to
    /// one group in 32.
    fn expect_again(&mut self, answered: usize, took: Duration) {
        let Some(gate) = self.gate.as_ref().filter(|_| answered > 1) else { return };
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        let came = gate.wait(&self.commands, answered, took / 4);
        self.vain = if came { 0 } else { (self.vain + 1).min(SELDOM) };
        self.skip = (1 << self.vain) - 1;
    }

    /// Commits a group as one; gives why the database must be opened anew, if
    /// it must.
    fn commit(&mut self, batches: &[Batch], replies: &[Reply<Vec<Outcome>>]) -> Option<String> {
        let result = self.with_db(|db, known| core::apply(db, known, batches));
        let hurt = hurts(&result);
        match result {
            Ok(outcomes) => {
                for (reply, outcome) in replies.iter().zip(outcomes) {
                    let _ = reply.try_send(Ok(outcome));
                }
            }
            // One batch broke a rule or met a damaged row: the others of its
            // group are not to suffer for it.
            Err(StoreError::Refused { .. } | StoreError::Corrupt { .. }) if batches.len() > 1 => {
                // Each is tried, also after one that hurt the handle.
                let mut hurt = None;
                for (batch, reply) in batches.iter().zip(replies) {
                    let own = self.commit(std::slice::from_ref(batch), std::slice::from_ref(reply));
                    hurt = hurt.or(own);
                }
                return hurt;
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.try_send(Err(error.clone()));
                }
            }
        }
        hurt
    }

    fn with_db<T>(
        &mut self,
        work: impl FnOnce(&Database, &mut core::Known) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let Some(db) = &*db else { return Err(self.health.refusal("committing")) };
        let known = &mut self.known;
        catch_unwind(AssertUnwindSafe(|| work(db, known))).unwrap_or_else(|_| {
            self.known.forget();
            Err(StoreError::unknown(
                "committing",
                std::io::Error::other("redb panicked; see its message on stderr"),
            ))
        })
    }

    /// After an I/O error the handle takes no more writes: a new one may. False
    /// if the store is gone for good.
    ///
    /// # Errors
    /// Why it can't be opened for now.
    fn open_anew(&self) -> Result<bool, String> {
        let gone = |why: String| {
            log::error!(target: "decnet_lifecycle::store", why:% = why; "closed for writing, for good");
            self.health.set(StoreHealth::Gone { why });
        };
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        let Some(reopen) = &self.reopen else {
            gone("its disk failed, and it can't be opened anew from here".to_owned());
            return Ok(false);
        };
        // One that panicked may do so once more.
        let held = db.take();
        if catch_unwind(AssertUnwindSafe(|| drop(held))).is_err() {
            log::warn!(target: "decnet_lifecycle::store", "redb panicked while a broken database was let go");
        }
        match reopen() {
            Ok(opened) => {
                *db = Some(Held::Own(opened));
                Ok(true)
            }
            // Whatever holds it has not come to stay.
            Err(error @ (OpenError::Io { .. } | OpenError::InUse { .. })) => Err(error.to_string()),
            Err(error) => {
                gone(error.to_string());
                Ok(false)
            }
        }
    }

    fn close(&self) -> Result<(), StoreError> {
        let db = self.db.write().unwrap_or_else(PoisonError::into_inner).take();
        // A database that the host shares is the host's to close.
        let Some(Held::Own(db)) = db else { return Ok(()) };
        let closing = |error| StoreError::not_committed("closing the store", error);
        match catch_unwind(AssertUnwindSafe(|| db.close())) {
            Ok(closed) => closed.map_err(|error| closing(error.into())),
            Err(_) => Err(closing(redb::Error::Corrupted("redb panicked while closing".to_owned()))),
        }
    }
}

impl Drop for Writer {
    /// However the writer ends, nobody waits for it in vain: the channel
    /// outlives it in the store, and what is queued there would too.
    fn drop(&mut self) {
        self.commands.close();
        let left: Vec<Command> = std::iter::from_fn(|| self.commands.try_recv().ok()).collect();
        self.health.set(StoreHealth::Gone { why: "its writer has ended".to_owned() });
        left.into_iter().for_each(|command| self.refuse(command));
    }
}

/// Why the handle is unusable after this, if it is.
fn hurts<T>(result: &Result<T, StoreError>) -> Option<String> {
    match result {
        Err(error @ (StoreError::Unknown { .. } | StoreError::NotCommitted { .. })) => {
            Some(error.to_string())
        }
        _ => None,
    }
}
