//! Who watches the feed, from start to start of the master.

use std::collections::BTreeMap;

use futures_lite::future::block_on;

use crate::lifecycle::{LifecycleId, Record, Revision};
use crate::runner::{Runner, Seen, Watch};
use crate::store::{Query, Store};
use crate::testkit::Breach;
use crate::testkit::invariants::all;

/// A client that follows the feed, and goes on where it was when the master
/// comes back.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    watch: Option<Watch>,
    after: Revision,
    /// At which revision it last saw each row.
    rows: BTreeMap<LifecycleId, Revision>,
    pub(super) heard: u64,
}

impl Watcher {
    /// Goes on with a master that was started anew.
    pub(super) fn reconnect(&mut self, runner: &Runner) {
        self.watch = Some(runner.watch(self.after));
    }

    /// Misses a change, on purpose.
    pub(super) fn skip(&mut self) {
        self.after = self.after.next();
    }

    /// Starts from nothing.
    pub(super) fn forget(&mut self) {
        *self = Self { heard: self.heard, ..Self::default() };
    }

    /// Hears what there is to hear.
    pub(super) fn listen(&mut self, store: &dyn Store) -> Result<(), Breach> {
        let Some(watch) = &mut self.watch else { return Ok(()) };
        // A failing read is tried again next time.
        while let Ok(Some(seen)) = block_on(watch.try_next()) {
            match seen {
                Seen::Changed(entry) => {
                    if entry.revision != self.after.next() {
                        let Self { after, .. } = self;
                        return Err(Breach(format!("a watcher heard {} after {after}", entry.revision)));
                    }
                    self.after = entry.revision;
                    self.rows.insert(entry.id, entry.revision);
                    self.heard += 1;
                }
                Seen::Compacted { oldest } => {
                    self.rows = revisions(store)?;
                    self.after = Revision::new(oldest.get().saturating_sub(1));
                }
                Seen::Ahead { head } => {
                    self.rows = revisions(store)?;
                    self.after = head;
                }
            }
        }
        Ok(())
    }

    /// Whether it has heard of everything.
    pub(super) fn check(&self, rows: &[Record]) -> Result<(), Breach> {
        for row in rows {
            let known = self.rows.get(&row.id).copied();
            if known != Some(row.revision) {
                let (after, what) = (self.after, known.map_or("nothing".to_owned(), |at| at.to_string()));
                let Record { id, revision, .. } = row;
                return Err(Breach(format!(
                    "a watcher at {after} knows {what} of row {id}, which is at {revision}"
                )));
            }
        }
        Ok(())
    }
}

/// All rows, read anew.
fn revisions(store: &dyn Store) -> Result<BTreeMap<LifecycleId, Revision>, Breach> {
    let rows = block_on(all(store, &Query::new()))?;
    Ok(rows.into_iter().map(|row| (row.id, row.revision)).collect())
}
