//! Follows the feed of a store.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::{FutureExt, Stream};

use crate::clock::Clock;
use crate::journal::Journal;
use crate::lifecycle::Revision;
use crate::store::{Entry, Feed, Store, StoreError};

/// How often the feed is looked at when nothing wakes the watcher: changes
/// made by another process don't.
const POLL: Duration = Duration::from_millis(250);

/// Entries read at once.
const CHUNK: usize = 256;

/// Follows the feed of a store: every change, once, in order.
///
/// It reads the durable feed, so a slow watcher misses nothing.
#[derive(Debug)]
pub struct Watch {
    source: Source,
    clock: Arc<dyn Clock>,
    after: Revision,
    waiting: VecDeque<Entry>,
}

#[derive(Debug)]
enum Source {
    Journal(Journal),
    Store(Arc<dyn Store>),
}

/// What a watcher sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The next change.
    Changed(Entry),
    /// Changes were pruned before the watcher got to them: read the rows anew;
    /// the watcher goes on with `oldest`.
    Compacted {
        /// The next change it will see, if it isn't pruned as well.
        oldest: Revision,
    },
    /// The feed ends before where the watcher wanted to go on: the store is not
    /// the one that it followed before, or is an older copy of it. Read the
    /// rows anew; the watcher goes on after `head`.
    Ahead {
        /// The newest change there is.
        head: Revision,
    },
}

impl Watch {
    /// Follows any store from after a revision, by looking at its feed four
    /// times a second; for a store that another process writes.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, after: Revision) -> Self {
        Self { source: Source::Store(store), clock, after, waiting: VecDeque::new() }
    }

    pub(super) fn of_journal(journal: Journal, clock: Arc<dyn Clock>, after: Revision) -> Self {
        Self { source: Source::Journal(journal), clock, after, waiting: VecDeque::new() }
    }

    /// The next change; waits for one. Cancel-safe: nothing is lost.
    ///
    /// # Errors
    /// [`StoreError`] if the feed can't be read; calling again tries again.
    pub async fn next(&mut self) -> Result<Seen, StoreError> {
        loop {
            let woken = match &self.source {
                Source::Journal(journal) => Some(journal.committed()),
                Source::Store(_) => None,
            };
            if let Some(seen) = self.try_next().await? {
                return Ok(seen);
            }
            let poll = self.clock.sleep(POLL);
            match woken {
                Some(woken) => woken.or(poll).await,
                None => poll.await,
            }
        }
    }

    /// The changes as a stream, which never ends. After an error the next item
    /// is another try.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use decnet_lifecycle::{DeployRequest, FleetConfig, Runner};
    /// # use decnet_lifecycle::{store::MemoryStore, testkit::FakeEngine};
    /// use decnet_lifecycle::{Status, runner::Seen};
    /// use futures_lite::{StreamExt as _, pin};
    ///
    /// # futures_lite::future::block_on(async {
    /// # let store = Arc::new(MemoryStore::new());
    /// # let (runner, _) = Runner::builder(store, Arc::new(FakeEngine::new())).build()?.recover().await?;
    /// # let fleet = FleetConfig::from_json(include_bytes!("../../examples/fleet.json"))?;
    /// let changes = runner.watch_from_now().await?.into_stream();
    /// pin!(changes);
    /// runner.accept_deploy(DeployRequest::new(fleet)).await?.run().await;
    /// let Some(Seen::Changed(first)) = changes.try_next().await? else { panic!("nothing was missed") };
    /// assert_eq!(first.status, Status::Pending);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn into_stream(self) -> impl Stream<Item = Result<Seen, StoreError>> + Send {
        futures_lite::stream::unfold(self, |mut watch| async move {
            let seen = watch.next().await;
            Some((seen, watch))
        })
    }

    /// The next change if there is one by now. Cancel-safe.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub async fn try_next(&mut self) -> Result<Option<Seen>, StoreError> {
        if self.waiting.is_empty() {
            let feed = match &self.source {
                Source::Journal(journal) => journal.store().changes(self.after, CHUNK).await?,
                Source::Store(store) => store.changes(self.after, CHUNK).await?,
            };
            match feed {
                Feed::Entries { head, .. } if head < self.after => {
                    self.after = head;
                    return Ok(Some(Seen::Ahead { head }));
                }
                Feed::Entries { entries, .. } => self.waiting.extend(entries),
                Feed::Compacted { oldest } => {
                    self.after = Revision::new(oldest.get().saturating_sub(1));
                    return Ok(Some(Seen::Compacted { oldest }));
                }
            }
        }
        Ok(self.waiting.pop_front().map(|entry| {
            self.after = entry.revision;
            Seen::Changed(entry)
        }))
    }
}
