//! What a batch does, decided without any I/O.
//!
//! A store asks [`Needs::of`] what to look up, looks it up however it likes,
//! hands it to [`decide`] as [`Seen`], and writes the [`Decision`] that comes
//! back, all in one transaction or behind one compare-and-swap. So all stores
//! decide alike, and what is refused was never written.
//!
//! All rules of rows and placements are here: revisions, overlap, keys,
//! all-or-none, legal steps, and what a step makes of its decky's placement.
//! A store of one's own has none; see [`crate::store::Store`] for how little is left.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::lifecycle::{DeckyName, LifecycleId, Record, RequestKey, Revision};
use crate::placement::{Aim, Home, Placed, Placement};

mod batch;
mod seen;
mod stage;

pub use batch::{
    Annotate, Batch, BatchError, Change, Insert, KeyClaim, Outcome, Overlap, Refusal, Step, Together,
};
pub use seen::Seen;

/// What the decisions on some batches depend on, and nothing else: known
/// before anything is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// These rows, where they are there.
    pub rows: BTreeSet<LifecycleId>,
    /// All open rows of these deckies.
    pub open_of: BTreeSet<DeckyName>,
    /// What is kept under these keys.
    pub keys: BTreeSet<RequestKey>,
    /// The placements of these deckies,
    pub deckies: BTreeSet<DeckyName>,
    /// those that have, may have, or are to have one of these addresses,
    pub addresses: BTreeSet<IpAddr>,
    /// and all that are, may be, or are to be at one of these homes.
    pub homes: BTreeSet<Home>,
}

impl Needs {
    /// What these batches depend on.
    #[must_use]
    pub fn of<'b>(batches: impl IntoIterator<Item = &'b Batch>) -> Self {
        let mut needs = Self::default();
        for batch in batches {
            needs.keys.extend(batch.key.as_ref().map(|claim| claim.key.clone()));
            for change in &batch.changes {
                needs.add(change);
            }
        }
        needs
    }

    fn add(&mut self, change: &Change) {
        match change {
            Change::Insert(insert) => {
                self.rows.insert(insert.record.id);
                if insert.overlap != Overlap::Allow {
                    self.open_of.insert(insert.record.decky.clone());
                }
                // Also without an aim: rows that it supersedes have theirs.
                self.deckies.insert(insert.record.decky.clone());
                if let Some(Aim::Up(placed)) = &insert.aim {
                    self.addresses.insert(placed.config.ip);
                    self.homes.insert(placed.home.clone());
                }
            }
            Change::Step(step) => {
                self.rows.insert(step.next.id);
                self.deckies.insert(step.next.decky.clone());
            }
            Change::Annotate(note) => drop(self.rows.insert(note.id)),
            Change::Place(placement) => {
                self.rows.extend(placement.rows());
                self.deckies.insert(placement.decky.clone());
                self.addresses.extend(placement.possibilities().map(|placed| placed.config.ip));
                self.homes.extend(placement.possibilities().map(|placed| placed.home.clone()));
            }
            Change::Forget(decky) => {
                self.open_of.insert(decky.clone());
                self.deckies.insert(decky.clone());
            }
        }
    }

    /// Whether a placement is one of those needed, for stores that can only
    /// look through all of them. Giving more than is needed does no harm.
    #[must_use]
    pub fn wants(&self, placement: &Placement) -> bool {
        self.deckies.contains(&placement.decky)
            || placement
                .possibilities()
                .any(|placed| self.addresses.contains(&placed.config.ip) || self.homes.contains(&placed.home))
    }
}

/// What a store keeps under a request's key.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KeyEntry {
    /// SHA-256 of what was asked.
    pub hash: [u8; 32],
    /// The rows that were made.
    pub ids: Vec<LifecycleId>,
}

/// One row to write. Its feed entry is [`Entry::of`](crate::store::Entry::of)
/// the new one.
#[derive(Debug, Clone)]
pub struct Write {
    /// As it was; none if it is new.
    pub old: Option<Record>,
    /// As it becomes, its revision set.
    pub new: Record,
}

/// One placement to write.
#[derive(Debug, Clone)]
pub struct PlacementWrite {
    /// As it was; none if there was none.
    pub old: Option<Placement>,
    /// As it becomes; none if it goes.
    pub new: Option<Placement>,
}

/// What the batches come to.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Decision {
    /// Rows to write, in the order of revisions. A row may stand here more
    /// than once; the last one counts, and each has its entry in the feed.
    pub writes: Vec<Write>,
    /// Placements to write, each decky once.
    pub placements: BTreeMap<DeckyName, PlacementWrite>,
    /// What the ends of rows take out of their deckies' placements: what a row
    /// that failed was to bring up, and what was up before a mutate that
    /// succeeded. A store may keep it for as long as the row; see
    /// [`Store::set_aside`](crate::store::Store::set_aside).
    pub set_aside: BTreeMap<LifecycleId, Arc<Placed>>,
    /// To be kept under keys.
    pub keys: Vec<(RequestKey, KeyEntry)>,
    /// One list for each batch, one outcome for each change.
    pub outcomes: Vec<Vec<Outcome>>,
    /// The newest revision afterwards.
    pub head: Revision,
}

impl Decision {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.keys.is_empty() && self.placements.is_empty()
    }
}

/// Decides what the batches do, one after the other, given the newest revision
/// and what was seen of the store. `seen` becomes what the store will hold once
/// the decision is written: a store that is the only writer may keep it for the
/// next decision, and must drop it if the writing fails.
///
/// ```
/// use decnet_lifecycle::lifecycle::Revision;
/// use decnet_lifecycle::decide::{Batch, Needs, Seen, decide};
///
/// let batches = [Batch::per_row(vec![])];
/// let needs = Needs::of(&batches);
/// assert!(needs.rows.is_empty());
/// let mut seen = Seen::default(); // here a store puts in what it has of `needs`
/// let decision = decide(Revision::ZERO, &batches, &mut seen)?;
/// assert!(decision.is_empty());
/// # Ok::<(), decnet_lifecycle::decide::BatchError>(())
/// ```
///
/// # Errors
/// [`BatchError`] for a batch that no store may take; nothing is to be written,
/// and `seen` is of no more use.
pub fn decide(head: Revision, batches: &[Batch], seen: &mut Seen) -> Result<Decision, BatchError> {
    let mut stage = stage::Stage::new(head, seen);
    for batch in batches {
        stage.batch(batch)?;
    }
    Ok(stage.done())
}
