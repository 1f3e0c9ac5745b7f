//! A second store, as plain as can be: lists, searched from end to end. What
//! the real stores are compared with, and what faults are planted in.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use decnet_lifecycle::placement::Aim;
use decnet_lifecycle::{
    decide::{Annotate, Batch, Change, Insert, Outcome, Refusal, Step, Together},
    lifecycle::{Leaves, Phase, Revision},
    placement::{Placement, Standing},
    store::{Entry, Feed, OpenOnly, Page, PlacementQuery, Pruned, Query, Retention, Store},
    *,
};

use placing::{End, Wish};

mod placing;

/// What is wrong with a toy store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "not every user of this file plants faults")]
pub enum Fault {
    None,
    LostCompareAndSwap,
    ClosedRowsMove,
    AnyStepIsLegal,
    TornBatch,
    OneRefusedRefusesAll,
    SecondOpenRow,
    SupersededStaysOpen,
    ForgetsKeys,
    KeysIgnoreTheRequest,
    KeyOutlivesItsRows,
    SecondCancelCounts,
    ReusedRevision,
    RefusedUsesRevisions,
    GapInFeed,
    FeedBackwards,
    ClosedStaysInOpenIndex,
    DeadlineIndexNotUpdated,
    CursorRowTwice,
    PruneTakesOpenRows,
    PruneReusesRevisions,
    PruneLeavesFeedUnmarked,
    InsertNotReadable,
    HalfABatchIfDropped,
    LostUpdates,
    CutsLongTexts,
    NoBound,
    NotesNothing,
    NeverBegins,
    SuccessChangesNothing,
    UpNamesNoRow,
    FailedIsAsTried,
    LostIsAsBefore,
    UnsureFreesItsAddress,
    TornDownStays,
    SupersededIsUnsure,
    SupersededIsAsBefore,
    SharesAddresses,
    PlacesTwice,
    SplitsNetworks,
    MixesEngines,
    MoveIsBusy,
    PlaceOverwrites,
    PlacesForUnknownRows,
    ForgetsTheBusy,
    AtForgetsTheUnsure,
    PlacementsUnsorted,
    RefusedChangesPlacements,
    PruneTakesPlacedRows,
    EffectWithoutRevision,
    AcceptsOnWhatWas,
}

#[derive(Debug, Clone, Default)]
struct Lists {
    rows: Vec<Record>,
    feed: Vec<Entry>,
    keys: BTreeMap<RequestKey, ([u8; 32], Vec<LifecycleId>)>,
    placements: Vec<Placement>,
    head: u64,
    oldest: u64,
    /// The deadlines as a careless index would have them.
    first_deadlines: BTreeMap<LifecycleId, Timestamp>,
}

/// What a batch is, to each of its changes.
struct Asked<'b> {
    key: Option<RequestKey>,
    together: bool,
    wishes: Vec<Wish<'b>>,
    before: Vec<Placement>,
    head: u64,
}

#[derive(Debug)]
pub struct Toy {
    fault: Fault,
    lists: Mutex<Lists>,
}

impl Toy {
    pub fn new(fault: Fault) -> Self {
        Self { fault, lists: Mutex::new(Lists { oldest: 1, ..Lists::default() }) }
    }

    /// Becomes another store without its placements.
    #[allow(dead_code, reason = "not every user of this file plants faults")]
    pub async fn without_placements(&self, other: &dyn Store) {
        let all = Query::new().limit(Query::MAX_LIMIT);
        let rows = other.query(&all).await.unwrap().records;
        let Feed::Entries { entries, head } = other.changes(Revision::ZERO, usize::MAX).await.unwrap() else {
            panic!("compacted");
        };
        *self.lists() = Lists { rows, feed: entries, head: head.get(), oldest: 1, ..Lists::default() };
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap()
    }

    fn change(&self, lists: &mut Lists, change: &Change, batch: &Asked<'_>) -> Result<Outcome, StoreError> {
        match change {
            Change::Insert(insert) => self.insert(lists, insert, batch),
            Change::Step(step) => Ok(self.step(lists, step)),
            Change::Annotate(note) => Ok(self.annotate(lists, note)),
            Change::Place(placement) => Ok(self.place(lists, placement)),
            Change::Forget(decky) => Ok(self.forget(lists, decky)),
            other => panic!("a change the toy does not know: {other:?}"),
        }
    }

    fn insert(&self, lists: &mut Lists, insert: &Insert, batch: &Asked<'_>) -> Result<Outcome, StoreError> {
        let record = Record { cancel_requested_at: None, key: batch.key.clone(), ..insert.record.clone() };
        if record.status() != Status::Pending {
            return Err(StoreError::Refused { what: "a row starts as pending".into() });
        }
        let placed = lists.placements.iter().find(|placement| placement.decky == record.decky);
        if insert.placed_at.is_some()
            && insert.placed_at != placed.map(|placement| placement.revision)
            && self.fault != Fault::AcceptsOnWhatWas
        {
            return Ok(Outcome::Refused(Refusal::PlacedOtherwise(record.decky)));
        }
        if let Some(aim) = &insert.aim
            && let Aim::Up(wanted) = aim
        {
            let (before, wishes) = match batch.together {
                true => (&batch.before, batch.wishes.clone()),
                false => (&lists.placements, vec![(&record.decky, aim)]),
            };
            let clashes = placing::in_the_way(self.fault, before, &wishes, &record.decky, wanted);
            if !clashes.is_empty() {
                return Ok(Outcome::Refused(Refusal::Clash(clashes)));
            }
        }
        if lists.rows.iter().any(|row| row.id == record.id) {
            return Ok(Outcome::Refused(Refusal::Duplicate(record.id)));
        }
        let open: Vec<Record> =
            lists.rows.iter().filter(|row| row.is_open() && row.decky == record.decky).cloned().collect();
        // The teardown of the same batch comes first: together they move it.
        let first = |row: &Record| {
            row.operation == Operation::Teardown
                && record.operation == Operation::Deploy
                && row.revision.get() > batch.head
                && self.fault != Fault::MoveIsBusy
        };
        let open: Vec<Record> = match insert.overlap {
            Overlap::Allow => vec![],
            _ => open.into_iter().filter(|row| !first(row)).collect(),
        };
        let mut superseded = Vec::new();
        match insert.overlap {
            Overlap::Reject if !open.is_empty() && self.fault != Fault::SecondOpenRow => {
                let mut open: Vec<LifecycleId> = open.iter().map(|row| row.id).collect();
                open.sort_unstable();
                return Ok(Outcome::Refused(Refusal::Busy { decky: record.decky, open }));
            }
            Overlap::Supersede if self.fault != Fault::SupersededStaysOpen => {
                let mut open = open;
                open.sort_by_key(|row| row.id);
                for old in open {
                    let at = record.created_at.max(old.updated_at);
                    let text =
                        format!("a newer {} of this decky took over ({})", record.operation, record.id);
                    let failure = Failure::new(FailureKind::Superseded, &text);
                    let phase = Phase::Failed { since: old.running_since(), at, failure };
                    let unsure = match self.fault {
                        Fault::SupersededIsUnsure => true,
                        Fault::SupersededIsAsBefore => false,
                        _ => old.status() == Status::Running,
                    };
                    let row = self.put(lists, Record { phase, updated_at: at, ..old });
                    let end = if unsure { End::Unsure } else { End::AsBefore };
                    placing::end(self.fault, &mut lists.placements, &row, end);
                    superseded.push(row);
                }
            }
            _ => {}
        }
        let record = Box::new(self.put(lists, record));
        if let Some(aim) = insert.aim.as_ref().filter(|_| self.fault != Fault::NotesNothing) {
            placing::note(&mut lists.placements, &record, aim);
        }
        Ok(Outcome::Applied { record, superseded })
    }

    fn step(&self, lists: &mut Lists, step: &Step) -> Outcome {
        let Some(now) = lists.rows.iter().find(|row| row.id == step.next.id).cloned() else {
            return Outcome::Refused(Refusal::Missing(step.next.id));
        };
        let expected = now.revision == step.expected || self.fault == Fault::LostCompareAndSwap;
        let legal = now.may_become(&step.next)
            || (self.fault == Fault::ClosedRowsMove && !now.is_open())
            || (self.fault == Fault::AnyStepIsLegal && now.is_open());
        if !expected || !legal {
            return Outcome::Refused(Refusal::Conflict(Box::new(now)));
        }
        let record = Box::new(self.put(lists, step.next.clone()));
        let placements = &mut lists.placements;
        let ran = record.running_since().is_some();
        let end = match record.status() {
            Status::Pending => None,
            Status::Running => {
                if self.fault != Fault::NeverBegins {
                    placing::begin(placements, &record);
                }
                None
            }
            Status::Succeeded if self.fault == Fault::TornDownStays => {
                (record.operation != Operation::Teardown).then_some(End::AsTried).or(Some(End::AsBefore))
            }
            Status::Succeeded => Some(End::AsTried),
            Status::Failed if ran && step.leaves != Leaves::AsBefore => match self.fault {
                Fault::LostIsAsBefore => Some(End::AsBefore),
                _ => Some(End::Unsure),
            },
            Status::Failed if self.fault == Fault::FailedIsAsTried => Some(End::AsTried),
            Status::Failed => Some(End::AsBefore),
        };
        if let Some(end) = end {
            placing::end(self.fault, placements, &record, end);
        }
        Outcome::Applied { record, superseded: Vec::new() }
    }

    fn place(&self, lists: &mut Lists, placement: &Placement) -> Outcome {
        let decky = placement.decky.clone();
        let mut placement = placement.clone();
        placement.tried.clear();
        placement.revision = Revision::new(lists.head);
        if let Some(known) = lists.placements.iter().find(|known| known.decky == decky)
            && self.fault != Fault::PlaceOverwrites
        {
            return match known.standing == placement.standing {
                true => Outcome::Placed(decky),
                false => Outcome::Refused(Refusal::PlacedOtherwise(decky)),
            };
        }
        let (row, status, wanted) = match &placement.standing {
            Standing::Nothing => return Outcome::Placed(decky),
            Standing::Up { placed, row } => (*row, Status::Succeeded, vec![placed.clone()]),
            Standing::Unsure { perhaps, row } => (Some(*row), Status::Failed, perhaps.clone()),
        };
        if let Some(row) = row
            && self.fault != Fault::PlacesForUnknownRows
        {
            match lists.rows.iter().find(|known| known.id == row) {
                None => return Outcome::Refused(Refusal::Missing(row)),
                Some(known) if known.status() != status || known.decky != decky => {
                    return Outcome::Refused(Refusal::Conflict(Box::new(known.clone())));
                }
                Some(_) => {}
            }
        }
        let aims: Vec<Aim> = wanted.into_iter().map(Aim::Up).collect();
        let wishes: Vec<Wish<'_>> = aims.iter().map(|aim| (&decky, aim)).collect();
        let mut clashes = Vec::new();
        for aim in &aims {
            let Aim::Up(wanted) = aim else { continue };
            clashes.extend(placing::in_the_way(self.fault, &lists.placements, &wishes, &decky, wanted));
        }
        if !clashes.is_empty() {
            return Outcome::Refused(Refusal::Clash(clashes));
        }
        lists.placements.retain(|known| known.decky != decky);
        lists.placements.push(placement);
        Outcome::Placed(decky)
    }

    fn forget(&self, lists: &mut Lists, decky: &DeckyName) -> Outcome {
        let mut open: Vec<LifecycleId> =
            lists.rows.iter().filter(|row| row.is_open() && row.decky == *decky).map(|row| row.id).collect();
        open.sort_unstable();
        if !open.is_empty() && self.fault != Fault::ForgetsTheBusy {
            return Outcome::Refused(Refusal::Busy { decky: decky.clone(), open });
        }
        lists.placements.retain(|placement| placement.decky != *decky);
        Outcome::Placed(decky.clone())
    }

    fn annotate(&self, lists: &mut Lists, note: &Annotate) -> Outcome {
        let Some(now) = lists.rows.iter().find(|row| row.id == note.id).cloned() else {
            return Outcome::Refused(Refusal::Missing(note.id));
        };
        if !now.is_open() {
            return Outcome::Refused(Refusal::Conflict(Box::new(now)));
        }
        let counts = now.cancel_requested_at.is_none() || self.fault == Fault::SecondCancelCounts;
        let record = if counts {
            let updated_at = now.updated_at.max(note.cancel_requested_at);
            let cancel_requested_at = Some(note.cancel_requested_at);
            self.put(lists, Record { cancel_requested_at, updated_at, ..now })
        } else {
            now
        };
        Outcome::Applied { record: Box::new(record), superseded: Vec::new() }
    }

    fn put(&self, lists: &mut Lists, mut record: Record) -> Record {
        if self.fault != Fault::ReusedRevision || !lists.head.is_multiple_of(3) || lists.head == 0 {
            lists.head += 1;
        }
        record.revision = Revision::new(lists.head);
        if self.fault == Fault::CutsLongTexts
            && let Phase::Failed { since, at, failure } = &record.phase
        {
            let cut: String = failure.message().chars().take(255).collect();
            record.phase =
                Phase::Failed { since: *since, at: *at, failure: Failure::new(failure.kind(), &cut) };
        }
        if self.fault != Fault::GapInFeed || !lists.head.is_multiple_of(4) {
            lists.feed.push(Entry::of(&record));
        }
        if let Some(deadline) = record.deadline() {
            lists.first_deadlines.entry(record.id).or_insert(deadline);
        }
        lists.rows.retain(|row| row.id != record.id);
        lists.rows.push(record.clone());
        record
    }

    /// Deciding and writing, with nothing in between.
    fn commit_whole(&self, lists: &mut Lists, batch: &Batch) -> Result<Vec<Outcome>, StoreError> {
        if let Some(claim) = &batch.key
            && self.fault != Fault::ForgetsKeys
            && let Some((hash, ids)) = lists.keys.get(&claim.key)
        {
            let same = *hash == claim.hash || self.fault == Fault::KeysIgnoreTheRequest;
            return Ok(if same {
                ids.iter().map(|id| Outcome::Repeated(*id)).collect()
            } else {
                vec![Outcome::Refused(Refusal::KeyTaken(claim.key.clone())); batch.changes.len().max(1)]
            });
        }
        let before = lists.clone();
        let mut outcomes = Vec::new();
        let asked = Asked {
            key: batch.key.as_ref().map(|claim| claim.key.clone()),
            together: batch.together == Together::AllOrNone,
            wishes: placing::wishes(&batch.changes),
            before: before.placements.clone(),
            head: before.head,
        };
        for change in &batch.changes {
            match self.change(lists, change, &asked) {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => {
                    *lists = before;
                    return Err(error);
                }
            }
        }
        let refused = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Refused(_)));
        let together = batch.together == Together::AllOrNone || self.fault == Fault::OneRefusedRefusesAll;
        if refused && together && self.fault != Fault::TornBatch {
            let (head, placements) = (lists.head, lists.placements.clone());
            *lists = before;
            if self.fault == Fault::RefusedUsesRevisions {
                lists.head = head;
            }
            if self.fault == Fault::RefusedChangesPlacements {
                lists.placements = placements;
            }
            for outcome in &mut outcomes {
                if !matches!(outcome, Outcome::Refused(_)) {
                    *outcome = Outcome::Refused(Refusal::Together);
                }
            }
            return Ok(outcomes);
        }
        if let Some(claim) = &batch.key
            && !batch.changes.is_empty()
        {
            let inserted = batch.changes.iter().filter_map(|change| match change {
                Change::Insert(insert) => Some(insert.record.id),
                _ => None,
            });
            lists.keys.insert(claim.key.clone(), (claim.hash, inserted.collect()));
        }
        Ok(outcomes)
    }
}

#[async_trait]
impl Store for Toy {
    async fn commit(&self, batch: Batch) -> Result<Vec<Outcome>, StoreError> {
        if self.fault != Fault::NoBound {
            batch.check()?;
        }
        match self.fault {
            Fault::HalfABatchIfDropped => {
                let mut outcomes = Vec::new();
                for change in &batch.changes {
                    let mut one = batch.clone();
                    one.changes = vec![change.clone()];
                    outcomes.append(&mut self.commit_whole(&mut self.lists(), &one)?);
                    futures_lite::future::yield_now().await;
                }
                Ok(outcomes)
            }
            Fault::LostUpdates => {
                let mut copy = self.lists().clone();
                let outcomes = self.commit_whole(&mut copy, &batch);
                futures_lite::future::yield_now().await;
                *self.lists() = copy;
                outcomes
            }
            _ => self.commit_whole(&mut self.lists(), &batch),
        }
    }

    async fn read(&self, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
        let mut rows: Vec<Record> =
            self.lists().rows.iter().filter(|row| ids.contains(&row.id)).cloned().collect();
        if self.fault == Fault::InsertNotReadable {
            rows.retain(|row| row.status() != Status::Pending);
        }
        rows.sort_by_key(|row| row.id);
        Ok(rows)
    }

    async fn query(&self, query: &Query) -> Result<Page, StoreError> {
        let lists = self.lists();
        let mut rows = lists.rows.clone();
        let deadline = |row: &Record| match self.fault {
            Fault::DeadlineIndexNotUpdated => lists.first_deadlines.get(&row.id).copied(),
            _ => row.deadline(),
        };
        rows.sort_by(|a, b| match query.due_by {
            Some(_) => (deadline(a), a.id).cmp(&(deadline(b), b.id)),
            None => b.id.cmp(&a.id),
        });
        let mut wanted = query.clone();
        if self.fault == Fault::ClosedStaysInOpenIndex {
            wanted.open_only = OpenOnly::No;
        }
        if self.fault == Fault::DeadlineIndexNotUpdated {
            wanted.due_by = None;
            rows.retain(|row| query.due_by.is_none_or(|by| row.is_open() && deadline(row) <= Some(by)));
        }
        let past = |row: &Record| {
            let again = self.fault == Fault::CursorRowTwice
                && query.after.is_some_and(|cursor| cursor == query.cursor_at(row));
            again || query.is_past_cursor(row)
        };
        let mut matching = rows.into_iter().filter(|row| wanted.matches(row) && past(row));
        let records: Vec<Record> = matching.by_ref().take(query.page_size()).collect();
        let more = matching.next().is_some();
        let next = records.last().filter(|_| more).map(|last| query.cursor_at(last));
        Ok(Page { records, next, damaged: Vec::new() })
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Feed, StoreError> {
        let lists = self.lists();
        let oldest = Revision::new(lists.oldest);
        if after.next() < oldest && self.fault != Fault::PruneLeavesFeedUnmarked {
            return Ok(Feed::Compacted { oldest });
        }
        let newer = lists.feed.iter().filter(|entry| entry.revision > after);
        let mut entries: Vec<Entry> = newer.take(limit).cloned().collect();
        if self.fault == Fault::FeedBackwards {
            entries.reverse();
        }
        Ok(Feed::Entries { entries, head: Revision::new(lists.head) })
    }

    async fn placements(&self, query: &PlacementQuery) -> Result<Vec<Placement>, StoreError> {
        let lists = self.lists();
        let mut found: Vec<Placement> = Vec::new();
        for placement in &lists.placements {
            let unsure = matches!(placement.standing, Standing::Unsure { .. });
            let at = matches!(query, PlacementQuery::At(_));
            if self.fault == Fault::AtForgetsTheUnsure && unsure && at {
                continue;
            }
            if query.matches(placement) {
                found.push(placement.clone());
            }
        }
        if self.fault == Fault::PlacementsUnsorted {
            found.sort_by(|a, b| b.decky.cmp(&a.decky));
        } else {
            found.sort_by(|a, b| a.decky.cmp(&b.decky));
        }
        Ok(found)
    }

    async fn prune(&self, policy: &Retention) -> Result<Pruned, StoreError> {
        let mut lists = self.lists();
        let named: Vec<LifecycleId> = match self.fault {
            Fault::PruneTakesPlacedRows => vec![],
            _ => lists.placements.iter().flat_map(Placement::rows).collect(),
        };
        let mut ids: Vec<LifecycleId> = lists
            .rows
            .iter()
            .filter(|row| !named.contains(&row.id))
            .filter(|row| match row.completed_at() {
                Some(at) => at < policy.closed_before,
                None => self.fault == Fault::PruneTakesOpenRows && row.created_at < policy.closed_before,
            })
            .map(|row| row.id)
            .collect();
        ids.sort_unstable();
        ids.truncate(policy.limit);
        lists.rows.retain(|row| !ids.contains(&row.id));
        let Lists { rows, keys, .. } = &mut *lists;
        if self.fault != Fault::KeyOutlivesItsRows {
            keys.retain(|_, (_, ids)| rows.iter().any(|row| ids.contains(&row.id)));
        }
        // One dated later than those after it holds nothing back.
        let looked_at = lists.feed.iter().take(policy.limit);
        let mut stale = looked_at.enumerate().filter(|(_, entry)| entry.at < policy.closed_before);
        let stale = stale.next_back().map_or(0, |(place, _)| place + 1);
        let gone: Vec<Entry> = lists.feed.drain(..stale).collect();
        if let Some(last) = gone.last() {
            lists.oldest = last.revision.get() + 1;
        }
        if self.fault == Fault::PruneReusesRevisions {
            lists.head = lists.rows.iter().map(|row| row.revision.get()).max().unwrap_or(0);
        }
        let more = ids.len() == policy.limit || stale == policy.limit;
        Ok(Pruned { rows: ids.len(), entries: stale, more })
    }
}
