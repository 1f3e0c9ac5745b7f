//! Where in a stream a mirror goes on, read from the stream itself.

use serde::Deserialize;
use serde_json::json;

use crate::lifecycle::{LifecycleId, Revision, Status};
use crate::store::{Entry, Feed, Store, StoreError, head};

/// A message, by where it stands in the stream and in the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) sequence: u64,
    pub(super) revision: Revision,
}

/// A message of a mirror's.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Told {
    /// A change.
    Change { revision: Revision, id: LifecycleId, status: Status },
    /// What comes next is this revision: those before were pruned too early.
    Compacted { oldest: Revision },
}

impl Told {
    /// None if it is nobody of ours who said this.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let told = serde_json::from_slice(payload).ok()?;
        let (Self::Change { revision: number, .. } | Self::Compacted { oldest: number }) = told;
        (number > Revision::ZERO).then_some(told)
    }

    /// The newest change that is told of with it.
    pub(super) const fn revision(&self) -> Revision {
        match self {
            Self::Change { revision, .. } => *revision,
            Self::Compacted { oldest } => Revision::new(oldest.get().saturating_sub(1)),
        }
    }

    pub(super) fn compacted(oldest: Revision) -> String {
        json!({"event": "compacted", "oldest": oldest}).to_string()
    }

    /// What makes it impossible that a store's feed goes on from here, if
    /// anything.
    pub(super) async fn against(&self, store: &dyn Store) -> Result<Option<String>, StoreError> {
        let (revision, head) = (self.revision(), head(store).await?);
        if head < revision {
            return Ok(Some(format!(
                "it ends at revision {revision} and the store at {head}: that is another store, or an older \
                 copy of it. Name another stream, or purge this one"
            )));
        }
        let Self::Change { id, status, .. } = self else { return Ok(None) };
        let before = Revision::new(revision.get().saturating_sub(1));
        // What was pruned since can't be compared.
        let Feed::Entries { entries, .. } = store.changes(before, 1).await? else { return Ok(None) };
        let is_same =
            |entry: &Entry| entry.revision != revision || (entry.id == *id && entry.status == *status);
        Ok((!entries.first().is_none_or(is_same)).then(|| {
            format!(
                "its revision {revision} is another change than the store's: that is another store. Name \
                 another stream, or purge this one"
            )
        }))
    }
}
