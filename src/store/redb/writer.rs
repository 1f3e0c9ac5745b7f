//! The thread that writes: what has gathered becomes one transaction.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use redb::Database;

use crate::decide::{Batch, Outcome};
use crate::store::{Pruned, Retention, StoreError};

use super::gather::Gate;
use super::{OpenError, core, prune};

/// The most changes in one transaction.
const GROUP: usize = 4_096;

pub(super) type Reply<T> = Sender<Result<T, StoreError>>;

/// What the thread is asked to do.
pub(super) enum Command {
    Commit { batch: Batch, reply: Reply<Vec<Outcome>> },
    Prune { policy: Retention, reply: Reply<Pruned> },
    Close { reply: Reply<()> },
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
    ) -> Self {
        Self { db, reopen, commands, known: core::Known::default(), gate, vain: 0, skip: 0 }
    }

    /// Writes until it is told to close. Without a gate it waits nowhere but
    /// for commands, so that a simulation may poll it.
    pub(super) async fn run(mut self) {
        let mut held: Option<Command> = None;
        // Set by a write error, cleared by a success: twice in a row is for good.
        let mut reopened = false;
        loop {
            let command = match held.take() {
                Some(command) => command,
                None => match self.commands.recv().await {
                    Ok(command) => command,
                    Err(_) => break,
                },
            };
            let healthy = match command {
                Command::Commit { batch, reply } => {
                    let (batches, replies);
                    (batches, replies, held) = self.gather(batch, reply);
                    let began = Instant::now();
                    let healthy = self.commit(&batches, &replies);
                    self.expect_again(batches.len(), began.elapsed());
                    healthy
                }
                Command::Prune { policy, reply } => {
                    let result = self.with_db(|db, _| prune::prune(db, &policy));
                    let healthy = !hurts(&result);
                    let _ = reply.try_send(result);
                    healthy
                }
                Command::Close { reply } => {
                    self.commands.close();
                    let _ = reply.try_send(self.close());
                    break;
                }
            };
            if healthy {
                reopened = false;
            } else if reopened || !self.open_anew() {
                self.commands.close();
                let _ = self.close();
                break;
            } else {
                reopened = true;
            }
        }
        // What was held back or queued is refused when `self` is dropped.
        held.into_iter().for_each(refuse);
        let _ = self.close();
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

    /// Commits a group as one; false if the database must be opened anew.
    fn commit(&mut self, batches: &[Batch], replies: &[Reply<Vec<Outcome>>]) -> bool {
        let result = self.with_db(|db, known| core::apply(db, known, batches));
        let healthy = !hurts(&result);
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
                let mut healthy = true;
                for (batch, reply) in batches.iter().zip(replies) {
                    healthy &= self.commit(std::slice::from_ref(batch), std::slice::from_ref(reply));
                }
                return healthy;
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.try_send(Err(error.clone()));
                }
            }
        }
        healthy
    }

    fn with_db<T>(
        &mut self,
        work: impl FnOnce(&Database, &mut core::Known) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let Some(db) = &*db else { return Err(closed()) };
        let known = &mut self.known;
        catch_unwind(AssertUnwindSafe(|| work(db, known))).unwrap_or_else(|_| {
            self.known.forget();
            Err(StoreError::unknown(
                "committing",
                std::io::Error::other("redb panicked; see its message on stderr"),
            ))
        })
    }

    /// After an I/O error the handle takes no more writes: a new one may.
    fn open_anew(&self) -> bool {
        let Some(reopen) = &self.reopen else { return false };
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        drop(db.take());
        match reopen() {
            Ok(opened) => {
                log::warn!(target: "decnet_lifecycle::store", "reopened after an error");
                *db = Some(Held::Own(opened));
                true
            }
            Err(error) => {
                log::error!(target: "decnet_lifecycle::store", error:% = error; "closed for writing, for good");
                false
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
        std::iter::from_fn(|| self.commands.try_recv().ok()).for_each(refuse);
    }
}

fn refuse(command: Command) {
    match command {
        Command::Commit { reply, .. } => drop(reply.try_send(Err(closed()))),
        Command::Prune { reply, .. } => drop(reply.try_send(Err(closed()))),
        Command::Close { reply } => drop(reply.try_send(Ok(()))),
    }
}

pub(super) fn closed() -> StoreError {
    StoreError::Closed { why: "it was closed, or its disk failed twice; see the log".to_owned() }
}

/// Whether the handle is unusable after this.
fn hurts<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unknown { .. } | StoreError::NotCommitted { .. }))
}
