//! The store as it will be, change by change.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::lifecycle::{
    DeckyName, Failure, FailureKind, Leaves, LifecycleId, Operation, Phase, Record, Revision, Status,
};
use crate::placement::{Aim, Asked, Clash, Placed, Placement, Standing, clashes};

use super::batch::{
    Annotate, Batch, BatchError, Change, Insert, KeyClaim, Outcome, Overlap, Refusal, Step, Together,
};
use super::{Decision, KeyEntry, PlacementWrite, Seen, Write};

pub(super) struct Stage<'s> {
    seen: &'s mut Seen,
    decision: Decision,
}

/// How to take back what a batch has done so far.
struct Since {
    writes: usize,
    /// The placements that it changed, as they were, oldest first.
    placements: Vec<(DeckyName, Option<Placement>)>,
}

impl<'s> Stage<'s> {
    pub(super) fn new(head: Revision, seen: &'s mut Seen) -> Self {
        Self { seen, decision: Decision { head, ..Decision::default() } }
    }

    pub(super) fn done(mut self) -> Decision {
        self.decision.placements.retain(|_, write| write.old != write.new);
        self.decision
    }

    pub(super) fn batch(&mut self, batch: &Batch) -> Result<(), BatchError> {
        if let Some(answer) = batch.key.as_ref().and_then(|claim| self.known_key(claim, batch)) {
            self.decision.outcomes.push(answer);
            return Ok(());
        }
        let mut since = Since { writes: self.decision.writes.len(), placements: Vec::new() };
        let mut clashes = match batch.together {
            Together::AllOrNone => self.clashes(&batch.changes),
            Together::PerRow => BTreeMap::new(),
        };
        let mut outcomes = Vec::with_capacity(batch.changes.len());
        for change in &batch.changes {
            outcomes.push(match change {
                Change::Insert(insert) => {
                    if batch.together == Together::PerRow {
                        clashes = self.clashes(std::slice::from_ref(change));
                    }
                    let up = matches!(insert.aim, Some(Aim::Up(_)));
                    let clash = up.then(|| clashes.remove(&insert.record.decky)).flatten();
                    self.insert(insert, clash, batch.key.as_ref(), &mut since)?
                }
                Change::Step(step) => self.step(step, &mut since),
                Change::Annotate(note) => self.annotate(note),
                Change::Place(placement) => self.place(placement, &mut since),
                Change::Forget(decky) => self.forget(decky, &mut since),
            });
        }
        let is_refusal = |outcome: &Outcome| matches!(outcome, Outcome::Refused(_));
        if batch.together == Together::AllOrNone && outcomes.iter().any(is_refusal) {
            self.undo(since);
            for outcome in outcomes.iter_mut().filter(|outcome| !is_refusal(outcome)) {
                *outcome = Outcome::Refused(Refusal::Together);
            }
        } else if let Some(claim) = batch.key.as_ref().filter(|_| !batch.changes.is_empty()) {
            let made = self.decision.writes.iter().skip(since.writes).filter(|write| write.old.is_none());
            let entry = KeyEntry { hash: claim.hash, ids: made.map(|write| write.new.id).collect() };
            self.seen.key(claim.key.clone(), entry.clone());
            self.decision.keys.push((claim.key.clone(), entry));
        }
        self.decision.outcomes.push(outcomes);
        Ok(())
    }

    fn known_key(&self, claim: &KeyClaim, batch: &Batch) -> Option<Vec<Outcome>> {
        let entry = self.seen.keys.get(&claim.key)?;
        Some(if entry.hash == claim.hash {
            entry.ids.iter().copied().map(Outcome::Repeated).collect()
        } else {
            vec![Outcome::Refused(Refusal::KeyTaken(claim.key.clone())); batch.changes.len().max(1)]
        })
    }

    /// What stands in the way of these inserts, by decky. Asked of all at once
    /// where they stand or fall together: a network may change with all of its
    /// deckies, and an address goes from one that is taken down to another.
    fn clashes(&self, changes: &[Change]) -> BTreeMap<DeckyName, Vec<Clash>> {
        let mut asked = Asked::default();
        for change in changes {
            if let Change::Insert(insert) = change {
                match &insert.aim {
                    Some(Aim::Up(placed)) => asked.up(&insert.record.decky, placed),
                    Some(Aim::Gone) => drop(asked.gone.insert(&insert.record.decky)),
                    None => {}
                }
            }
        }
        let mut by_decky: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for clash in clashes(&asked, &self.seen.placements) {
            by_decky.entry(clash.decky().clone()).or_default().push(clash);
        }
        by_decky
    }

    fn insert(
        &mut self,
        insert: &Insert,
        clash: Option<Vec<Clash>>,
        claim: Option<&KeyClaim>,
        since: &mut Since,
    ) -> Result<Outcome, BatchError> {
        let mut record = insert.record.clone();
        if !matches!(record.phase, Phase::Pending { .. }) {
            let what = format!("row {} is inserted as {}, rows start as pending", record.id, record.status());
            return Err(BatchError { what });
        }
        let placed_at = self.seen.placements.get(&record.decky).map(|placement| placement.revision);
        if insert.placed_at.is_some() && insert.placed_at != placed_at {
            return Ok(Outcome::Refused(Refusal::PlacedOtherwise(record.decky)));
        }
        if let Some(clash) = clash {
            return Ok(Outcome::Refused(Refusal::Clash(clash)));
        }
        if self.seen.rows.contains_key(&record.id) {
            return Ok(Outcome::Refused(Refusal::Duplicate(record.id)));
        }
        let open: Vec<LifecycleId> =
            self.seen.open.get(&record.decky).into_iter().flatten().copied().collect();
        let mut superseded = Vec::new();
        match insert.overlap {
            Overlap::Reject | Overlap::Supersede => {
                let others: Vec<LifecycleId> =
                    open.into_iter().filter(|id| !self.comes_first(*id, &record, since)).collect();
                if insert.overlap == Overlap::Reject && !others.is_empty() {
                    return Ok(Outcome::Refused(Refusal::Busy { decky: record.decky, open: others }));
                }
                for id in others {
                    if let Some(old) = self.seen.rows.get(&id).cloned() {
                        let new = superseded_by(&old, &record);
                        superseded.push(self.write(Some(old), new, since, |placement, old| {
                            placement.end(old.id, leaves_of_superseded(old))
                        }));
                    }
                }
            }
            Overlap::Allow => {}
        }
        record.cancel_requested_at = None;
        record.key = claim.map(|claim| claim.key.clone());
        let aim = insert.aim.clone();
        let record = self.write(None, record, since, |placement, new| {
            if let Some(aim) = aim {
                placement.note(new.id, aim);
                return true;
            }
            false
        });
        Ok(Outcome::Applied { record: Box::new(record), superseded })
    }

    /// Whether an open row is the teardown that this batch puts before a row
    /// of the same decky: together they move it.
    fn comes_first(&self, id: LifecycleId, record: &Record, since: &Since) -> bool {
        record.operation == Operation::Deploy
            && self
                .decision
                .writes
                .iter()
                .skip(since.writes)
                .any(|write| write.new.id == id && write.new.operation == Operation::Teardown)
    }

    fn step(&mut self, step: &Step, since: &mut Since) -> Outcome {
        let Some(current) = self.seen.rows.get(&step.next.id).cloned() else {
            return Outcome::Refused(Refusal::Missing(step.next.id));
        };
        if current.revision != step.expected || !current.may_become(&step.next) {
            return Outcome::Refused(Refusal::Conflict(Box::new(current)));
        }
        let given = step.leaves;
        let record = self.write(Some(current), step.next.clone(), since, |placement, new| match &new.phase {
            Phase::Pending { .. } => false,
            Phase::Running { .. } => placement.begin(new.id),
            Phase::Succeeded { .. } => placement.end(new.id, Leaves::AsTried),
            Phase::Failed { since: None, .. } => placement.end(new.id, Leaves::AsBefore),
            // A row that failed is no evidence of what it tried.
            Phase::Failed { .. } if given == Leaves::AsBefore => placement.end(new.id, Leaves::AsBefore),
            Phase::Failed { .. } => placement.end(new.id, Leaves::Unknown),
        });
        applied(record)
    }

    fn annotate(&mut self, note: &Annotate) -> Outcome {
        let Some(current) = self.seen.rows.get(&note.id).cloned() else {
            return Outcome::Refused(Refusal::Missing(note.id));
        };
        if !current.is_open() {
            return Outcome::Refused(Refusal::Conflict(Box::new(current)));
        }
        if current.cancel_requested_at.is_some() {
            return applied(current);
        }
        let mut next = current.clone();
        next.cancel_requested_at = Some(note.cancel_requested_at);
        next.updated_at = next.updated_at.max(note.cancel_requested_at);
        applied(self.write_row(Some(current), next))
    }

    fn place(&mut self, placement: &Placement, since: &mut Since) -> Outcome {
        let decky = placement.decky.clone();
        let mut placement = placement.clone();
        // Only rows that are here have anything to bring about.
        placement.tried.clear();
        if let Some(known) = self.seen.placements.get(&decky) {
            return if known.standing == placement.standing {
                Outcome::Placed(decky)
            } else {
                Outcome::Refused(Refusal::PlacedOtherwise(decky))
            };
        }
        if let Some(refusal) = self.ended_otherwise(&placement) {
            return Outcome::Refused(refusal);
        }
        let mut asked = Asked::default();
        placement.possibilities().for_each(|placed| asked.up(&decky, placed));
        let clashes = clashes(&asked, &self.seen.placements);
        if !clashes.is_empty() {
            return Outcome::Refused(Refusal::Clash(clashes));
        }
        placement.revision = self.decision.head;
        self.set_placement(&decky, Some(placement), since);
        Outcome::Placed(decky)
    }

    /// Whether the row that a standing names is there, and ended so.
    fn ended_otherwise(&self, placement: &Placement) -> Option<Refusal> {
        let (id, status) = match placement.standing {
            Standing::Up { row: Some(id), .. } => (id, Status::Succeeded),
            Standing::Unsure { row: id, .. } => (id, Status::Failed),
            Standing::Up { row: None, .. } | Standing::Nothing => return None,
        };
        match self.seen.rows.get(&id) {
            None => Some(Refusal::Missing(id)),
            Some(row) if row.decky == placement.decky && row.status() == status => None,
            Some(row) => Some(Refusal::Conflict(Box::new(row.clone()))),
        }
    }

    fn forget(&mut self, decky: &DeckyName, since: &mut Since) -> Outcome {
        let open: Vec<_> = self.seen.open.get(decky).into_iter().flatten().copied().collect();
        if !open.is_empty() {
            return Outcome::Refused(Refusal::Busy { decky: decky.clone(), open });
        }
        if self.seen.placements.get(decky).is_some() {
            self.set_placement(decky, None, since);
        }
        Outcome::Placed(decky.clone())
    }

    /// Writes a row, and what that makes of its decky's placement: `change`
    /// says whether it made anything of it.
    fn write(
        &mut self,
        old: Option<Record>,
        new: Record,
        since: &mut Since,
        change: impl FnOnce(&mut Placement, &Record) -> bool,
    ) -> Record {
        let new = self.write_row(old, new);
        let known = self.seen.placements.get(&new.decky).cloned();
        let mut placement = known.unwrap_or_else(|| Placement::nothing(new.decky.clone()));
        if let Some(placed) = set_aside(&placement, &new) {
            self.decision.set_aside.insert(new.id, placed);
        }
        if change(&mut placement, &new) {
            placement.revision = new.revision;
            self.set_placement(&new.decky, Some(placement), since);
        }
        new
    }

    fn write_row(&mut self, old: Option<Record>, mut new: Record) -> Record {
        self.decision.head = self.decision.head.next();
        new.revision = self.decision.head;
        self.seen.row(new.clone());
        self.decision.writes.push(Write { old, new: new.clone() });
        new
    }

    /// Sets a placement, or removes it: one that says nothing is none.
    fn set_placement(&mut self, decky: &DeckyName, new: Option<Placement>, since: &mut Since) {
        let new = new.filter(|placement| !placement.is_empty());
        let old = match new.clone() {
            Some(placement) => self.seen.placements.set(placement),
            None => self.seen.placements.remove(decky),
        };
        since.placements.push((decky.clone(), old.clone()));
        let write = self.decision.placements.entry(decky.clone());
        write.or_insert(PlacementWrite { old, new: None }).new = new;
    }

    /// Takes a batch back: its rows and placements are as they were, its
    /// revisions unused.
    fn undo(&mut self, since: Since) {
        for write in self.decision.writes.split_off(since.writes).into_iter().rev() {
            self.decision.head = Revision::new(self.decision.head.get().saturating_sub(1));
            self.decision.set_aside.remove(&write.new.id);
            match write.old {
                Some(old) => self.seen.row(old),
                None => self.seen.drop_row(&write.new.decky, write.new.id),
            }
        }
        for (decky, old) in since.placements.into_iter().rev() {
            if let Some(write) = self.decision.placements.get_mut(&decky) {
                write.new.clone_from(&old);
            }
            match old {
                Some(placement) => drop(self.seen.placements.set(placement)),
                None => drop(self.seen.placements.remove(&decky)),
            }
        }
    }
}

/// What the end of a row takes out of its decky's placement, and what somebody
/// may want back: what it was to bring up, or what was up before it.
fn set_aside(before: &Placement, row: &Record) -> Option<Arc<Placed>> {
    match (&row.phase, row.operation) {
        (Phase::Failed { .. }, _) => match &before.tried.get(&row.id)?.aim {
            Aim::Up(placed) => Some(Arc::clone(placed)),
            Aim::Gone => None,
        },
        (Phase::Succeeded { .. }, Operation::Mutate) => before.now().cloned(),
        _ => None,
    }
}

fn applied(record: Record) -> Outcome {
    Outcome::Applied { record: Box::new(record), superseded: Vec::new() }
}

fn superseded_by(old: &Record, newer: &Record) -> Record {
    let at = newer.created_at.max(old.updated_at);
    let message = format!("a newer {} of this decky took over ({})", newer.operation, newer.id);
    let failure = Failure::new(FailureKind::Superseded, &message);
    let phase = Phase::Failed { since: old.running_since(), at, failure };
    Record { phase, updated_at: at, ..old.clone() }
}

/// What was begun and superseded may have been done or not.
fn leaves_of_superseded(row: &Record) -> Leaves {
    if row.running_since().is_some() { Leaves::Unknown } else { Leaves::AsBefore }
}
