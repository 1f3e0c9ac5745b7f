//! Rows in one redb file.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use async_channel::Sender;
use async_trait::async_trait;
use redb::{Database, ReadOnlyDatabase};

use crate::lifecycle::{LifecycleId, Record, Revision};

use crate::decide::{Batch, Outcome};
use crate::placement::{Placed, Placement};

use super::{Feed, Page, PlacementQuery, Pruned, Query, Retention, Store, StoreError};

mod backup;
mod core;
mod events;
mod examine;
mod forms;
mod gather;
mod health;
mod migrate;
mod open;
mod prune;
mod read;
mod schema1;
mod tables;
mod writer;

pub use backup::{Backup, BackupError};
#[cfg(feature = "testkit")]
pub(crate) use forms::{form_of_row, row_of_form};
pub use open::OpenError;

use gather::Gate;
use health::Shared as SharedHealth;
use writer::{Command, Held, Reopen, Reply, SharedDatabase, Writer};

/// Submissions that wait for the writer before submitters do.
const QUEUE: usize = 1_024;

/// Rows in one redb file: durable before anybody hears of them, whole after
/// any crash, readable by other processes while this one writes.
///
/// A thread of its own writes; what has gathered while it wrote becomes one
/// transaction. Readers never wait for it. Works under any executor.
///
/// After an error of the disk, or on a full one, the file is opened anew, with
/// ever longer waits (up to five seconds) for as long as it takes; what is asked
/// meanwhile is refused, unchanged. [`health`](Self::health) says so. A store
/// whose file was removed, or which has another in its place, is closed for
/// good.
///
/// ```
/// use decnet_lifecycle::store::{Query, RedbStore, Store};
///
/// let dir = tempfile::tempdir()?;
/// # futures_lite::future::block_on(async {
/// let store = RedbStore::open(dir.path().join("lifecycle.redb"))?;
/// assert!(store.query(&Query::new()).await?.records.is_empty());
/// store.close().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct RedbStore {
    db: SharedDatabase,
    commands: Sender<Command>,
    gate: Option<Arc<Gate>>,
    health: SharedHealth,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl RedbStore {
    /// Opens the file, or makes it (mode 0600); its directory must be there.
    ///
    /// # Errors
    /// [`OpenError`] says what is there instead; it was left as it was.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let db = open::open_or_create(path)?;
        let again = path.to_owned();
        Self::start(Held::Own(db), Some(Box::new(move || open::open_existing(&again))), path)
    }

    /// A store in a database that the program has open, beside tables of its
    /// own; ours all begin with `decnet-lifecycle`. They are made if they are
    /// not there, and taken over from an earlier version.
    ///
    /// The program closes the database. After an I/O error the store is closed
    /// for good, since it can't open what isn't its own. A program that holds a
    /// write transaction open holds the store's writer up: don't wait for a
    /// commit of the store in the middle of one.
    ///
    /// # Errors
    /// [`OpenError`] if the tables can't be made, or are of a newer version.
    pub fn in_database(db: Arc<Database>) -> Result<Self, OpenError> {
        open::prepare(&db)?;
        Self::start(Held::Host(db), None, Path::new(open::SHARED))
    }

    /// Applies a batch in a write transaction of the program's own, on a
    /// database that a store [is in](Self::in_database). It is durable when the
    /// program commits the transaction, as durable as the program says; one that
    /// is aborted leaves nothing. Costs a look at all open rows and placements.
    ///
    /// Blocks; call it where the transaction is.
    ///
    /// # Errors
    /// [`StoreError`]: abort the transaction.
    pub fn enlist(txn: &redb::WriteTransaction, batch: &Batch) -> Result<Vec<Outcome>, StoreError> {
        batch.check()?;
        let applied =
            guarded(|| core::apply_in(txn, &mut core::Known::default(), std::slice::from_ref(batch)))?;
        Ok(applied.outcomes.into_iter().next().unwrap_or_default())
    }

    /// A store over a storage backend, for tests that inject faults. It is
    /// made if the backend is empty, and is never opened anew after an error.
    ///
    /// # Errors
    /// [`OpenError`] as for a file.
    #[cfg(feature = "testkit")]
    pub fn with_backend(backend: impl redb::StorageBackend) -> Result<Self, OpenError> {
        Self::start(Held::Own(open::open_backend(backend)?), None, Path::new(open::BACKEND))
    }

    /// A store over the storage backends that `open` gives, one at a time, and
    /// the future that writes, for the caller to poll: for simulations, where
    /// a thread would not replay. Nothing is written while it isn't polled.
    ///
    /// # Errors
    /// [`OpenError`] as for a file.
    #[cfg(feature = "testkit")]
    pub fn simulated<B: redb::StorageBackend>(
        open: impl Fn() -> B + Send + Sync + 'static,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), OpenError> {
        let db = open::open_backend(open())?;
        let reopen: Reopen = Box::new(move || open::open_backend(open()));
        let (store, writer) = Self::over(Held::Own(db), Some(reopen), None, None);
        Ok((store, writer.run()))
    }

    fn over(
        db: Held,
        reopen: Option<Reopen>,
        gate: Option<Arc<Gate>>,
        file: Option<&Path>,
    ) -> (Self, Writer) {
        let health = SharedHealth::new(file);
        let db = Arc::new(RwLock::new(Some(db)));
        let (commands, receiver) = async_channel::bounded(QUEUE);
        let writer = Writer::new(Arc::clone(&db), reopen, receiver, gate.clone(), health.clone());
        (Self { db, commands, gate, health, thread: Mutex::new(None) }, writer)
    }

    fn start(db: Held, reopen: Option<Reopen>, path: &Path) -> Result<Self, OpenError> {
        let file = reopen.as_ref().map(|_| path);
        let (mut store, writer) = Self::over(db, reopen, Some(Arc::default()), file);
        let thread = std::thread::Builder::new().name("decnet-store".to_owned());
        let thread = thread.spawn(|| futures_lite::future::block_on(writer.run()));
        let thread = thread.map_err(|error| OpenError::Io {
            doing: "starting the writer of",
            path: path.to_owned(),
            error,
        })?;
        store.thread = Mutex::new(Some(thread));
        Ok(store)
    }

    /// Writes what is queued and closes the file; later writes are refused.
    /// Closing twice is harmless.
    ///
    /// # Errors
    /// [`StoreError`] if the file could not be closed cleanly; nothing
    /// acknowledged is lost.
    pub async fn close(&self) -> Result<(), StoreError> {
        let (reply, answer) = async_channel::bounded(1);
        if self.commands.send(Command::Close { reply }).await.is_err() {
            return Ok(());
        }
        answer.recv().await.unwrap_or(Ok(()))
    }

    /// Copies the store, as it is at one moment, into a new file, and looks
    /// through that: it is whole before it has its name. Commits go on
    /// meanwhile. A plain copy of a file that is being written is torn.
    ///
    /// Blocks for as long as it takes; call it where that holds up nobody.
    ///
    /// # Errors
    /// [`BackupError`]; nothing is left of the copy.
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<Backup, BackupError> {
        self.read_with(|db| Ok(backup::backup(db, to.as_ref())))?
    }

    /// Puts a [backup](Self::backup) where there is no store yet, to be opened
    /// from there. What is not whole, and not a store, is refused.
    ///
    /// ```
    /// use decnet_lifecycle::store::{BackupError, RedbStore};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let (path, copy) = (dir.path().join("lifecycle.redb"), dir.path().join("copy.redb"));
    /// let made = RedbStore::open(&path)?.backup(&copy)?;
    /// assert_eq!(made.revision.get(), 0);
    /// assert!(matches!(RedbStore::restore(&copy, &path), Err(BackupError::Exists { .. })));
    /// std::fs::remove_file(&path)?;
    /// assert_eq!(RedbStore::restore(&copy, &path)?, made);
    /// RedbStore::open(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`BackupError`]; nothing is left of what was put back.
    pub fn restore(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Backup, BackupError> {
        backup::restore(from.as_ref(), to.as_ref())
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, StoreError> {
        let (reply, answer) = async_channel::bounded(1);
        self.commands.send(command(reply)).await.map_err(|_| self.health.refusal("committing"))?;
        if let Some(gate) = &self.gate {
            gate.submitted(self.commands.len());
        }
        let lost = || std::io::Error::other("the writer ended before it answered");
        answer.recv().await.unwrap_or_else(|_| Err(StoreError::unknown("committing", lost())))
    }

    fn read_with<T>(&self, read: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match &*self.db.read().unwrap_or_else(PoisonError::into_inner) {
            Some(db) => guarded(|| read(db)),
            None => {
                // A writer with a thread of its own looks by itself.
                if self.gate.is_none() {
                    let _ = self.commands.try_send(Command::Retry);
                }
                Err(self.health.refusal("reading the store"))
            }
        }
    }
}

/// Reads, and takes a panic of redb over damaged pages for what it is.
fn guarded<T>(read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        Err(StoreError::Corrupt { what: "redb panicked while reading; see its message on stderr".to_owned() })
    })
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        // The thread writes what is queued, then ends.
        self.commands.close();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").field("queued", &self.commands.len()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for RedbStore {
    /// Looks whether its file is still its own.
    fn health(&self) -> crate::store::StoreHealth {
        self.health.now()
    }

    async fn commit(&self, batch: Batch) -> Result<Vec<Outcome>, StoreError> {
        batch.check()?;
        self.ask(|reply| Command::Commit { batch, reply }).await
    }

    async fn read(&self, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
        self.read_with(|db| read::rows(db, ids))
    }

    async fn query(&self, query: &Query) -> Result<Page, StoreError> {
        self.read_with(|db| read::page(db, query))
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Feed, StoreError> {
        self.read_with(|db| read::changes(db, after, limit))
    }

    async fn placements(&self, query: &PlacementQuery) -> Result<Vec<Placement>, StoreError> {
        self.read_with(|db| read::placements(db, query))
    }

    async fn set_aside(
        &self,
        rows: &[LifecycleId],
    ) -> Result<BTreeMap<LifecycleId, Arc<Placed>>, StoreError> {
        self.read_with(|db| read::set_aside(db, rows))
    }

    async fn prune(&self, policy: &Retention) -> Result<Pruned, StoreError> {
        let policy = *policy;
        self.ask(|reply| Command::Prune { policy, reply }).await
    }
}

/// A file that another process may be writing, for reading only: follows its
/// commits; commit and prune are refused.
///
/// ```
/// use decnet_lifecycle::store::{OpenError, RedbReader};
///
/// let dir = tempfile::tempdir()?;
/// let missing = RedbReader::open(dir.path().join("lifecycle.redb"));
/// assert!(matches!(missing, Err(OpenError::Missing { .. })));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct RedbReader {
    db: ReadOnlyDatabase,
}

impl RedbReader {
    /// Opens a file that must be there. One that was not closed cleanly, and
    /// that nobody writes, is repaired first.
    ///
    /// # Errors
    /// [`OpenError`] says what is there instead; it was left as it was.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        open::open_reader(path.as_ref()).map(|db| Self { db })
    }

    /// As [`RedbStore::backup`], beside whoever writes the file.
    ///
    /// # Errors
    /// [`BackupError`]; nothing is left of the copy.
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<Backup, BackupError> {
        backup::backup(&self.db, to.as_ref())
    }
}

impl fmt::Debug for RedbReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbReader").finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for RedbReader {
    async fn commit(&self, _batch: Batch) -> Result<Vec<Outcome>, StoreError> {
        Err(reading_only())
    }

    async fn read(&self, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
        guarded(|| read::rows(&self.db, ids))
    }

    async fn query(&self, query: &Query) -> Result<Page, StoreError> {
        guarded(|| read::page(&self.db, query))
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Feed, StoreError> {
        guarded(|| read::changes(&self.db, after, limit))
    }

    async fn placements(&self, query: &PlacementQuery) -> Result<Vec<Placement>, StoreError> {
        guarded(|| read::placements(&self.db, query))
    }

    async fn set_aside(
        &self,
        rows: &[LifecycleId],
    ) -> Result<BTreeMap<LifecycleId, Arc<Placed>>, StoreError> {
        guarded(|| read::set_aside(&self.db, rows))
    }

    async fn prune(&self, _policy: &Retention) -> Result<Pruned, StoreError> {
        Err(reading_only())
    }
}

fn reading_only() -> StoreError {
    StoreError::Closed { why: "it was opened for reading only".to_owned() }
}
