//! Rows in a PostgreSQL database.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_channel::Sender;
use async_io::Timer;
use async_trait::async_trait;
use futures_lite::future::or;

use crate::decide::{Batch, Outcome};
use crate::lifecycle::{LifecycleId, Record, Revision};
use crate::placement::{Placed, Placement};

use super::{Feed, Page, PlacementQuery, Pruned, Query, Retention, Store, StoreError};

mod alone;
mod commit;
mod connect;
mod doubt;
mod error;
mod look;
mod patience;
mod placed;
mod prune;
mod read;
mod rows;
mod schema;
mod settings;
mod socket;
mod tables;
mod tls;
mod write;
mod writer;

pub use error::PostgresError;
pub use settings::PostgresSettings;

use alone::{Alone, Asked};
use connect::{Connector, Driver, drive};
use error::Trouble;
use read::Reader;
use writer::{Command, Reply, Writer, closed};

/// Submissions that wait for the writer before submitters do.
const QUEUE: usize = 1_024;

/// How long the thread waits for connections to end once the store is closed.
const GOODBYE: Duration = Duration::from_secs(2);

/// Rows in a PostgreSQL database, 13 or newer: durable before anybody hears of
/// them, and in real columns that other programs may read.
///
/// Each commit takes one lock, whichever process it comes from: revisions are
/// dense, in the order of commits, and none is seen before it is durable, also
/// where the database's default says otherwise. What gathers while a commit is
/// under way becomes one transaction. Readers wait for nobody.
///
/// A thread of its own drives two connections, whatever executor its callers
/// run on; no runtime is needed. A connection that is lost is made anew; a
/// commit whose answer was lost is looked for, and done again if it was not
/// done. Only when no server can be reached within the
/// [patience](PostgresSettings::patience) is it [`StoreError::Unknown`]; what
/// was never sent is [`StoreError::NotCommitted`].
///
/// Several stores may write to one database; a [`Runner`](crate::Runner) isn't
/// made for that yet, so let each be the [only
/// writer](PostgresSettings::only_writer).
///
/// ```no_run
/// use decnet_lifecycle::store::{PostgresSettings, PostgresStore, Query, Store};
///
/// # futures_lite::future::block_on(async {
/// let settings: PostgresSettings = "postgres://decnet@localhost/decnet".parse()?;
/// let settings = settings.password(&std::env::var("PGPASSWORD")?).only_writer();
/// let store = PostgresStore::connect(settings).await?;
/// assert!(store.query(&Query::new()).await?.records.is_empty());
/// store.close().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct PostgresStore {
    reader: Arc<Reader>,
    commands: Sender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl PostgresStore {
    /// Connects, and makes the tables if they are not there. Tries each host
    /// once.
    ///
    /// # Errors
    /// [`PostgresError`] says what to do; nothing was changed.
    pub async fn connect(settings: PostgresSettings) -> Result<Self, PostgresError> {
        let settings = Arc::new(settings);
        let tls = match settings.roots.clone() {
            Some(roots) => Some(blocking::unblock(move || tls::client_config(&roots)).await?),
            None => None,
        };
        let (drivers, driven) = async_channel::unbounded::<Driver>();
        let connector = Connector { settings: Arc::clone(&settings), tls, drivers: drivers.clone() };
        // The thread drives from the first word on; it ends with its channel.
        let (hand_over, writers) = async_channel::bounded::<(Writer, Arc<Reader>)>(1);
        let thread = std::thread::Builder::new().name("decnet-store".to_owned()).spawn(move || {
            futures_lite::future::block_on(async {
                let over = async {
                    if let Ok((writer, reader)) = writers.recv().await {
                        writer.run().await;
                        reader.close().await;
                    }
                    drivers.close();
                    Timer::after(GOODBYE).await;
                };
                or(drive(driven), over).await;
            });
        });
        let thread = thread.map_err(|error| PostgresError::Thread(Arc::new(error)))?;
        let (commands, receiver) = async_channel::bounded(QUEUE);
        let link = connector.connect().await.map_err(|trouble| unreachable(&settings, trouble))?;
        schema::prepare(&link, &settings).await?;
        let alone = match settings.only_writer {
            true => match Alone::ask(&connector, None).await {
                Ok(Asked::Ours(alone)) => Some(alone),
                Ok(Asked::Theirs(by)) => return Err(PostgresError::InUse { by }),
                Err(trouble) => return Err(schema::of_trouble(trouble, "asking to be the only writer")),
            },
            false => None,
        };
        let reading = connector.connect().await.map_err(|trouble| unreachable(&settings, trouble))?;
        let reader = Arc::new(Reader::new(connector.clone(), reading));
        let writer = Writer::new(connector, receiver, link, alone);
        let _ = hand_over.try_send((writer, Arc::clone(&reader)));
        Ok(Self { reader, commands, thread: Mutex::new(Some(thread)) })
    }

    /// Makes the tables if they are not there, and ends: for the role that owns
    /// them, where the store's own may only use them. Doing it twice is harmless,
    /// also at the same time.
    ///
    /// ```no_run
    /// use decnet_lifecycle::store::{PostgresSettings, PostgresStore};
    ///
    /// # futures_lite::future::block_on(async {
    /// let owner: PostgresSettings = "postgres://decnet_owner@localhost/decnet".parse()?;
    /// PostgresStore::migrate(owner).await
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`PostgresStore::connect`].
    pub async fn migrate(settings: PostgresSettings) -> Result<(), PostgresError> {
        let store = Self::connect(PostgresSettings { only_writer: false, make: true, ..settings }).await?;
        // Its two connections end either way.
        let _ = store.close().await;
        Ok(())
    }

    /// Writes what is queued and ends the connections; later calls are refused.
    /// Closing twice is harmless.
    ///
    /// # Errors
    /// None yet; what could not be written was told to who asked for it.
    pub async fn close(&self) -> Result<(), StoreError> {
        let (reply, answer) = async_channel::bounded(1);
        if self.commands.send(Command::Close { reply }).await.is_err() {
            return Ok(());
        }
        let closed = answer.recv().await.unwrap_or(Ok(()));
        self.reader.close().await;
        closed
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, StoreError> {
        let (reply, answer) = async_channel::bounded(1);
        self.commands.send(command(reply)).await.map_err(|_| closed())?;
        let lost = || std::io::Error::other("the writer ended before it answered");
        answer.recv().await.unwrap_or_else(|_| Err(StoreError::unknown("committing", lost())))
    }
}

fn unreachable(settings: &PostgresSettings, trouble: Trouble) -> PostgresError {
    let error: Arc<dyn std::error::Error + Send + Sync> = match trouble {
        Trouble::Again(cause) | Trouble::Wrong(cause) => Arc::new(cause),
        Trouble::Store(error) => Arc::new(error),
    };
    PostgresError::Unreachable { hosts: settings.hosts(), error }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        // The thread writes what is queued, then ends.
        self.commands.close();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("queued", &self.commands.len()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn commit(&self, batch: Batch) -> Result<Vec<Outcome>, StoreError> {
        batch.check()?;
        self.ask(|reply| Command::Commit { batch, reply }).await
    }

    async fn read(&self, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
        self.reader.rows(ids).await
    }

    async fn query(&self, query: &Query) -> Result<Page, StoreError> {
        self.reader.page(query).await
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Feed, StoreError> {
        self.reader.changes(after, limit).await
    }

    async fn placements(&self, query: &PlacementQuery) -> Result<Vec<Placement>, StoreError> {
        self.reader.placements(query).await
    }

    async fn set_aside(
        &self,
        rows: &[LifecycleId],
    ) -> Result<BTreeMap<LifecycleId, Arc<Placed>>, StoreError> {
        self.reader.set_aside(rows).await
    }

    async fn prune(&self, policy: &Retention) -> Result<Pruned, StoreError> {
        let policy = *policy;
        self.ask(|reply| Command::Prune { policy, reply }).await
    }
}
