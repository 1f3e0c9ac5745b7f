//! The feed of the worker's own store as its outbox, and up to where the master has heard it.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::lifecycle::Revision;
use crate::private_file::replace;
use crate::store::{Entry, Feed, Store, StoreError};

/// What of the store's feed the master has yet to hear.
#[derive(Debug)]
pub(super) struct Outbox {
    path: Option<PathBuf>,
    /// The feed is settled up to here; none until the file has been read.
    settled: Mutex<Option<Revision>>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    settled: Revision,
}

/// A stretch of the feed: what ended in it, and where it ends.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) ended: Vec<Entry>,
    pub(super) upto: Revision,
    /// Whether the feed ends with it.
    pub(super) is_last: bool,
}

/// Feed entries looked at in one go.
const CHUNK: usize = 512;

impl Outbox {
    pub(super) const fn new(path: Option<PathBuf>) -> Self {
        Self { path, settled: Mutex::new(None) }
    }

    /// Up to where the master has heard the feed.
    pub(super) fn settled(&self) -> Revision {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        // A file that is gone or can't be read costs a resend.
        *settled.get_or_insert_with(|| {
            let read = self.path.as_ref().and_then(|path| std::fs::read(path).ok());
            read.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok())
                .map_or(Revision::ZERO, |kept| kept.settled)
        })
    }

    /// The master has heard the feed up to here.
    pub(super) async fn settle(&self, upto: Revision) {
        if upto <= self.settled() {
            return;
        }
        *self.settled.lock().unwrap_or_else(PoisonError::into_inner) = Some(upto);
        let Some(path) = self.path.clone() else { return };
        let kept = serde_json::to_vec(&Kept { settled: upto }).unwrap_or_default();
        if let Err(error) = blocking::unblock(move || replace(&path, &kept)).await {
            log::warn!(target: "decnet_lifecycle::worker", error:% = error; "what the master has heard could not be kept; it will be told again");
        }
    }

    /// What ended next, after what is settled.
    pub(super) async fn next(&self, store: &dyn Store) -> Result<Stretch, StoreError> {
        let mut after = self.settled();
        let mut ended = Vec::new();
        loop {
            match store.changes(after, CHUNK).await? {
                // The feed ends before what the master has heard: the store
                // was removed or put back from a backup. All is told again.
                Feed::Entries { head, .. } if head < after => {
                    after = Revision::ZERO;
                    *self.settled.lock().unwrap_or_else(PoisonError::into_inner) = Some(after);
                }
                Feed::Entries { entries, .. } => {
                    let is_last = entries.len() < CHUNK;
                    after = entries.last().map_or(after, |last| last.revision);
                    ended.extend(entries.into_iter().filter(|entry| !entry.status.is_open()));
                    if is_last || ended.len() >= CHUNK {
                        return Ok(Stretch { ended, upto: after, is_last });
                    }
                }
                Feed::Compacted { oldest } => after = Revision::new(oldest.get().saturating_sub(1)),
            }
        }
    }
}
