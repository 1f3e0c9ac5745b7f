//! What a batch does, decided before anything is written.
//!
//! Every store reads through a [`View`] and gets the writes in order; so all
//! stores decide alike, and a transaction that many batches share needs no
//! savepoints: what is refused was never written.

use std::collections::{BTreeMap, BTreeSet};

use crate::lifecycle::{DeckyName, Failure, FailureKind, LifecycleId, Phase, Record, RequestKey, Revision};

use super::StoreError;
use super::batch::{Annotate, Batch, Change, Insert, KeyClaim, Outcome, Overlap, Refusal, Step, Together};

/// What the decisions need to see of a store.
pub(crate) trait View {
    fn row(&self, id: LifecycleId) -> Result<Option<Record>, StoreError>;
    fn open_of(&self, decky: &DeckyName) -> Result<Vec<LifecycleId>, StoreError>;
    fn key(&self, key: &RequestKey) -> Result<Option<KeyEntry>, StoreError>;
}

/// What a store keeps under a key.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct KeyEntry {
    pub(crate) hash: [u8; 32],
    pub(crate) ids: Vec<LifecycleId>,
}

/// One row to write: how it was, and how it becomes.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) old: Option<Record>,
    pub(crate) new: Record,
}

/// The writes of some batches, in revision order, and the answers.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) writes: Vec<Write>,
    pub(crate) keys: Vec<(RequestKey, KeyEntry)>,
    pub(crate) outcomes: Vec<Vec<Outcome>>,
    pub(crate) head: Revision,
}

/// Decides what the batches do, one after the other.
pub(crate) fn plan<V: View>(view: &V, head: Revision, batches: &[Batch]) -> Result<Plan, StoreError> {
    let mut stage = Stage {
        view,
        rows: BTreeMap::new(),
        staged: BTreeMap::new(),
        open: BTreeMap::new(),
        keys: BTreeMap::new(),
        head,
    };
    let mut writes = Vec::new();
    let mut keys = Vec::new();
    let mut outcomes = Vec::with_capacity(batches.len());
    for batch in batches {
        let mut done = Done::default();
        let answers = stage.batch(batch, &mut done)?;
        writes.append(&mut done.writes);
        keys.extend(done.key);
        outcomes.push(answers);
    }
    Ok(Plan { writes, keys, outcomes, head: stage.head })
}

/// What one batch has staged so far.
#[derive(Default)]
struct Done {
    writes: Vec<Write>,
    key: Option<(RequestKey, KeyEntry)>,
}

/// The store as it will be after the writes staged so far.
struct Stage<'v, V> {
    view: &'v V,
    rows: BTreeMap<LifecycleId, Record>,
    /// Rows of deckies whose open rows nobody has looked at yet.
    staged: BTreeMap<DeckyName, Vec<LifecycleId>>,
    /// The open rows of the deckies that somebody has looked at.
    open: BTreeMap<DeckyName, BTreeSet<LifecycleId>>,
    keys: BTreeMap<RequestKey, KeyEntry>,
    head: Revision,
}

impl<V: View> Stage<'_, V> {
    fn batch(&mut self, batch: &Batch, done: &mut Done) -> Result<Vec<Outcome>, StoreError> {
        if let Some(claim) = &batch.key
            && let Some(answer) = self.known_key(claim, batch.changes.len())?
        {
            return Ok(answer);
        }
        let mut outcomes = Vec::with_capacity(batch.changes.len());
        for change in &batch.changes {
            let outcome = match change {
                Change::Insert(insert) => self.insert(insert, batch.key.as_ref(), done)?,
                Change::Step(step) => self.step(step, done)?,
                Change::Annotate(note) => self.annotate(note, done)?,
            };
            outcomes.push(outcome);
        }
        let refused = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Refused(_)));
        if refused && batch.together == Together::AllOrNone {
            self.undo(done);
            for outcome in &mut outcomes {
                if !matches!(outcome, Outcome::Refused(_)) {
                    *outcome = Outcome::Refused(Refusal::Together);
                }
            }
            return Ok(outcomes);
        }
        if let Some(claim) = &batch.key {
            let ids = batch.changes.iter().filter_map(|change| match change {
                Change::Insert(insert) => Some(insert.record.id),
                _ => None,
            });
            let entry = KeyEntry { hash: claim.hash, ids: ids.collect() };
            self.keys.insert(claim.key.clone(), entry.clone());
            done.key = Some((claim.key.clone(), entry));
        }
        Ok(outcomes)
    }

    fn known_key(&self, claim: &KeyClaim, changes: usize) -> Result<Option<Vec<Outcome>>, StoreError> {
        let known = match self.keys.get(&claim.key) {
            Some(entry) => Some(entry.clone()),
            None => self.view.key(&claim.key)?,
        };
        Ok(known.map(|entry| {
            if entry.hash == claim.hash && entry.ids.len() == changes {
                entry.ids.into_iter().map(Outcome::Repeated).collect()
            } else {
                vec![Outcome::Refused(Refusal::KeyTaken(claim.key.clone())); changes]
            }
        }))
    }

    fn insert(
        &mut self,
        insert: &Insert,
        claim: Option<&KeyClaim>,
        done: &mut Done,
    ) -> Result<Outcome, StoreError> {
        let mut record = insert.record.clone();
        if !matches!(record.phase, Phase::Pending { .. }) {
            return Err(StoreError::Refused {
                what: format!("row {} is inserted as {}, rows start as pending", record.id, record.status()),
            });
        }
        if self.row(record.id)?.is_some() {
            return Ok(Outcome::Refused(Refusal::Duplicate(record.id)));
        }
        let open = self.open_of(&record.decky)?;
        let mut superseded = Vec::new();
        match insert.overlap {
            Overlap::Reject if !open.is_empty() => {
                let open = open.into_iter().collect();
                return Ok(Outcome::Refused(Refusal::Busy { decky: record.decky, open }));
            }
            Overlap::Supersede => {
                for id in open {
                    if let Some(old) = self.row(id)? {
                        superseded.push(self.write(Some(old.clone()), superseded_by(&old, &record), done)?);
                    }
                }
            }
            Overlap::Reject | Overlap::Allow => {}
        }
        record.cancel_requested_at = None;
        record.key = claim.map(|claim| claim.key.clone());
        let record = self.write(None, record, done)?;
        Ok(Outcome::Applied { record: Box::new(record), superseded })
    }

    fn step(&mut self, step: &Step, done: &mut Done) -> Result<Outcome, StoreError> {
        let Some(current) = self.row(step.next.id)? else {
            return Ok(Outcome::Refused(Refusal::Missing(step.next.id)));
        };
        if current.revision != step.expected || !current.may_become(&step.next) {
            return Ok(Outcome::Refused(Refusal::Conflict(Box::new(current))));
        }
        let record = self.write(Some(current), step.next.clone(), done)?;
        Ok(Outcome::Applied { record: Box::new(record), superseded: Vec::new() })
    }

    fn annotate(&mut self, note: &Annotate, done: &mut Done) -> Result<Outcome, StoreError> {
        let Some(current) = self.row(note.id)? else {
            return Ok(Outcome::Refused(Refusal::Missing(note.id)));
        };
        if !current.is_open() {
            return Ok(Outcome::Refused(Refusal::Conflict(Box::new(current))));
        }
        if current.cancel_requested_at.is_some() {
            return Ok(Outcome::Applied { record: Box::new(current), superseded: Vec::new() });
        }
        let mut next = current.clone();
        next.cancel_requested_at = Some(note.cancel_requested_at);
        next.updated_at = next.updated_at.max(note.cancel_requested_at);
        let record = self.write(Some(current), next, done)?;
        Ok(Outcome::Applied { record: Box::new(record), superseded: Vec::new() })
    }

    fn row(&self, id: LifecycleId) -> Result<Option<Record>, StoreError> {
        match self.rows.get(&id) {
            Some(record) => Ok(Some(record.clone())),
            None => self.view.row(id),
        }
    }

    fn open_of(&mut self, decky: &DeckyName) -> Result<BTreeSet<LifecycleId>, StoreError> {
        if let Some(open) = self.open.get(decky) {
            return Ok(open.clone());
        }
        // Rows staged before the decky was first looked at count as well.
        let mut open: BTreeSet<LifecycleId> = self.view.open_of(decky)?.into_iter().collect();
        let staged = self.staged.remove(decky).unwrap_or_default();
        for record in staged.iter().filter_map(|id| self.rows.get(id)) {
            if record.is_open() {
                open.insert(record.id);
            } else {
                open.remove(&record.id);
            }
        }
        self.open.insert(decky.clone(), open.clone());
        Ok(open)
    }

    fn write(&mut self, old: Option<Record>, mut new: Record, done: &mut Done) -> Result<Record, StoreError> {
        self.head = self.head.next();
        new.revision = self.head;
        self.mark(&new);
        done.writes.push(Write { old, new: new.clone() });
        Ok(new)
    }

    fn mark(&mut self, record: &Record) {
        if let Some(open) = self.open.get_mut(&record.decky) {
            if record.is_open() {
                open.insert(record.id);
            } else {
                open.remove(&record.id);
            }
        } else {
            self.staged.entry(record.decky.clone()).or_default().push(record.id);
        }
        self.rows.insert(record.id, record.clone());
    }

    /// Takes a batch back: its rows as they were, its revisions unused.
    fn undo(&mut self, done: &mut Done) {
        for write in done.writes.drain(..).rev() {
            self.head = Revision::new(self.head.get().saturating_sub(1));
            match write.old {
                Some(old) => self.mark(&old),
                None => {
                    self.rows.remove(&write.new.id);
                    if let Some(open) = self.open.get_mut(&write.new.decky) {
                        open.remove(&write.new.id);
                    }
                }
            }
        }
    }
}

fn superseded_by(old: &Record, newer: &Record) -> Record {
    let at = newer.created_at.max(old.updated_at);
    let message = format!("a newer {} of this decky took over ({})", newer.operation, newer.id);
    let failure = Failure::new(FailureKind::Superseded, &message);
    let phase = Phase::Failed { since: old.running_since(), at, failure };
    Record { phase, updated_at: at, ..old.clone() }
}
