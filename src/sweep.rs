//! Ends what nobody else ends: recover at start, sweep by deadline, prune.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::journal::CommitError;
use crate::lifecycle::{
    AnyLifecycle, Failure, FailureKind, HostId, LifecycleId, Owner, Record, Revision, Status,
};
use crate::master::Master;
use crate::placement::Placements;
use crate::store::{Cursor, PlacementQuery, Query, StoreError};

/// How often more a row is looked for whose insert may still be under way.
const LOOKS: u8 = 3;

/// What a sweep or a recovery did.
///
/// ```
/// let swept = decnet_lifecycle::runner::Swept::default();
/// assert_eq!(swept.failed, 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Swept {
    /// Rows it failed.
    pub failed: usize,
    /// Rows that were due and could not be ended now; the next sweep tries
    /// again.
    pub left: usize,
}

/// Fails what is due: rows past their deadline, rows whose future was
/// dropped, running rows of hosts that fell silent. Costs as much as there
/// is due.
pub(crate) async fn sweep(master: &Master) -> Result<Swept, StoreError> {
    sweep_at(master, master.time.clock.monotonic()).await
}

/// A sweep that judges silence by this time, at which nobody had been kept from
/// being heard.
pub(crate) async fn sweep_at(master: &Master, now: Duration) -> Result<Swept, StoreError> {
    stop_what_was_asked(master).await?;
    let mut swept = past_deadline(master).await?;
    of_the_future(master, &mut swept).await?;
    dropped(master, &mut swept).await?;
    silent(master, now, &mut swept).await?;
    if swept.failed + swept.left > 0 {
        log::warn!(
            target: "decnet_lifecycle::sweep", failed = swept.failed, left = swept.left; "swept open rows"
        );
    }
    Ok(swept)
}

/// Raises the tokens of driven rows that were asked to stop: whoever asked may
/// have been dropped between the durable intent and the token.
async fn stop_what_was_asked(master: &Master) -> Result<(), StoreError> {
    for ids in master.active.driven().chunks(Query::MAX_LIMIT) {
        for row in master.journal.store().read(ids).await? {
            if row.cancel_requested_at.is_some() {
                master.active.cancel(row.id);
            }
        }
    }
    Ok(())
}

/// Fails rows that were made before the wall clock stepped back, once as much
/// time as they had has gone by: by the wall clock alone they would stay open
/// for as long as the step was.
async fn of_the_future(master: &Master, swept: &mut Swept) -> Result<(), StoreError> {
    if master.time.has_stepped_back() {
        look_ahead(master).await?;
    }
    let due: BTreeMap<LifecycleId, Revision> = master.time.ahead_and_due().into_iter().collect();
    if due.is_empty() {
        return Ok(());
    }
    let ids: Vec<LifecycleId> = due.keys().copied().collect();
    let mut rows = master.journal.store().read(&ids).await?;
    rows.retain(|row| row.is_open() && due.get(&row.id) == Some(&row.revision));
    let why = |row: &Record| {
        let deadline = row.deadline().unwrap_or(row.updated_at);
        let text = format!(
            "it did not end in its time; the wall clock has stepped back since it began, so its deadline of {deadline} did not count"
        );
        Failure::new(FailureKind::Deadline, &text)
    };
    let done = fail_some(master, rows, why).await;
    swept.failed += done.failed;
    swept.left += done.left;
    Ok(())
}

/// Notes the open rows that last changed in what is now the future.
async fn look_ahead(master: &Master) -> Result<(), StoreError> {
    let mut after: Option<Cursor> = None;
    loop {
        let page = Query::new().open().limit(Query::MAX_LIMIT).after(after);
        let page = master.journal.store().query(&page).await?;
        for row in &page.records {
            master.time.note_ahead(row);
        }
        after = page.next;
        if after.is_none() {
            master.time.looked_ahead();
            return Ok(());
        }
    }
}

async fn past_deadline(master: &Master) -> Result<Swept, StoreError> {
    let due = master.time.due_time();
    let why = |row: &Record| {
        let deadline = row.deadline().unwrap_or(row.updated_at);
        let text = match (row.status(), &row.host) {
            (Status::Pending, _) => format!("nobody started it by {deadline}"),
            (_, Some(host)) => {
                let runtime = master.swarm.heard.runtime(host, &row.decky);
                let said = runtime.map(|runtime| format!("; its last beat says of the decky: {runtime}"));
                let (doubt, _) = master.swarm.heard.doubt(host, row.id, master.time.clock.monotonic());
                let doubt = doubt.map(|doubt| format!("; {doubt}")).unwrap_or_default();
                format!(
                    "host {host} did not say how it ended by {deadline}{}{doubt}",
                    said.unwrap_or_default()
                )
            }
            (_, None) => format!("it did not end by {deadline}"),
        };
        Failure::new(FailureKind::Deadline, &text)
    };
    // Its worker may have told long ago how it ended.
    let unheard =
        |row: &Record| row.host.as_ref().is_some_and(|host| master.swarm.heard.is_owed_a_word(host));
    let wanted = |row: &Record| row.status() == Status::Pending || !unheard(row);
    fail_all(master, &Query::new().due_by(due), wanted, why).await
}

/// Fails rows whose future was dropped before its end, unless a worker has
/// the work.
async fn dropped(master: &Master, swept: &mut Swept) -> Result<(), StoreError> {
    // Held until all is done: a sweep that is itself dropped, or can't read,
    // puts them back.
    let mut dropped = master.active.take_dropped();
    if dropped.ids().is_empty() {
        return Ok(());
    }
    let ids: Vec<LifecycleId> = dropped.ids().iter().map(|(id, _)| *id).collect();
    let rows = master.journal.store().read(&ids).await?;
    // An insert whose future was dropped may land after this look.
    let found: BTreeSet<LifecycleId> = rows.iter().map(|row| row.id).collect();
    let mut left: Vec<(LifecycleId, u8)> = dropped.ids().to_vec();
    left.retain(|(id, looks)| !found.contains(id) && *looks < LOOKS);
    left.iter_mut().for_each(|(_, looks)| *looks += 1);
    let stranded = |row: &Record| row.status() == Status::Pending || row.host.is_none();
    let rows: Vec<Record> = rows.into_iter().filter(|row| row.is_open() && stranded(row)).collect();
    let why = |_: &Record| {
        Failure::new(FailureKind::Abandoned, "the future that drove it was dropped before its end; ask again")
    };
    let ids: Vec<LifecycleId> = rows.iter().map(|row| row.id).collect();
    let done = fail_some(master, rows, why).await;
    if done.left > 0 {
        left.extend(ids.into_iter().map(|id| (id, 0)));
    }
    dropped.keep(left);
    swept.failed += done.failed;
    swept.left += done.left;
    Ok(())
}

/// Fails the running rows of hosts that have been silent for too long.
async fn silent(master: &Master, now: Duration, swept: &mut Swept) -> Result<(), StoreError> {
    let Some(before) = now.checked_sub(master.time.deadlines.silence) else {
        return Ok(());
    };
    for host in master.swarm.heard.silent_since(before) {
        let refused = master.swarm.heard.refused(&host);
        let why = |_: &Record| lost(&host, master.time.deadlines.silence, refused.as_deref());
        let query = Query::new().host(host.clone()).status(Status::Running);
        // A dispatch under way is nobody's silence: its own deadline counts.
        let dispatched = |row: &Record| master.active.stage(row.id).is_none();
        let done = fail_all(master, &query, dispatched, why).await?;
        if done.left == 0 {
            master.swarm.heard.forget(&host, before);
        }
        swept.failed += done.failed;
        swept.left += done.left;
    }
    Ok(())
}

fn lost(host: &HostId, silence: Duration, refused: Option<&str>) -> Failure {
    let silent = format!("host {host} has not been heard for {} s", silence.as_secs());
    let text = match refused {
        None => format!("{silent}; is its worker running?"),
        Some(why) => format!("{silent}; its last beat was refused: {why}"),
    };
    Failure::new(FailureKind::WorkerLost, &text)
}

/// The placements of deckies with open rows, but for those that can't be read:
/// one that is damaged is in nobody's way but its own decky's.
async fn readable(master: &Master) -> Result<Placements, StoreError> {
    let store = master.journal.store();
    let mut readable = match store.placements(&PlacementQuery::All).await {
        Err(StoreError::Corrupt { .. }) => Placements::default(),
        all => return Ok(all?.into_iter().collect()),
    };
    let mut after = None;
    loop {
        let page = store.query(&Query::new().open().limit(Query::MAX_LIMIT).after(after)).await?;
        for row in page.records {
            match store.placements(&PlacementQuery::Of(vec![row.decky])).await {
                Err(StoreError::Corrupt { what }) => {
                    log::error!(target: "decnet_lifecycle::sweep", what:% = what; "a placement is damaged; forget its decky");
                }
                found => found?.into_iter().for_each(|placement| drop(readable.set(placement))),
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(readable);
        }
    }
}

/// What an earlier start of this master left open.
pub(crate) struct Left {
    pub(crate) swept: Swept,
    /// Rows that were accepted and never started, and that say what they were
    /// to bring about: they can be taken up again.
    pub(crate) pending: Vec<Record>,
}

/// Ends, at start, what an earlier start of this master left running, and gives
/// each worker host with running rows its whole silence anew.
pub(crate) async fn recover(master: &Master, owner: &Owner) -> Result<Left, StoreError> {
    let now = master.time.clock.monotonic();
    // A clock that is behind what rows say has stepped back while no master ran.
    look_ahead(master).await?;
    let placements = readable(master).await?;
    master.discretion.learn_placed(placements.iter());
    let mut pending = Vec::new();
    let mine = |row: &Record| {
        if let (Status::Running, Some(host)) = (row.status(), &row.host) {
            master.swarm.heard.expect(host, now);
            master.swarm.heard.changed(row);
            master.swarm.heard.has_taken(host, row.id);
            return false;
        }
        let is_earlier = row.owner.master == owner.master && row.owner.epoch != owner.epoch;
        // What was taken up again already is driven here.
        if !is_earlier || master.active.stage(row.id).is_some() {
            return false;
        }
        let says_what =
            placements.get(&row.decky).is_some_and(|placement| placement.tried.contains_key(&row.id));
        if row.status() == Status::Pending && says_what && row.cancel_requested_at.is_none() {
            pending.push(row.clone());
            return false;
        }
        true
    };
    let why = |row: &Record| {
        let text = match row.status() {
            Status::Pending => "the master restarted before it was started; ask again",
            _ => "the master restarted while it ran, how far it came is unknown; ask again",
        };
        Failure::new(FailureKind::MasterRestarted, text)
    };
    let swept = fail_all(master, &Query::new().open(), mine, why).await?;
    log::info!(
        target: "decnet_lifecycle::sweep", failed = swept.failed, left = swept.left, pending = pending.len(); "recovered from an earlier start"
    );
    Ok(Left { swept, pending })
}

/// Fails every row of a query that is wanted, page by page.
async fn fail_all(
    master: &Master,
    query: &Query,
    mut wanted: impl FnMut(&Record) -> bool,
    why: impl Fn(&Record) -> Failure,
) -> Result<Swept, StoreError> {
    let mut swept = Swept::default();
    let mut after: Option<Cursor> = None;
    loop {
        let page = query.clone().limit(Query::MAX_LIMIT).after(after);
        let page = master.journal.store().query(&page).await?;
        let rows = page.records.into_iter().filter(|row| row.is_open() && wanted(row)).collect();
        let done = fail_some(master, rows, &why).await;
        swept.failed += done.failed;
        swept.left += done.left;
        after = page.next;
        if after.is_none() {
            return Ok(swept);
        }
    }
}

/// Fails these open rows in one commit, each guarded by its revision.
async fn fail_some(master: &Master, rows: Vec<Record>, why: impl Fn(&Record) -> Failure) -> Swept {
    let at = master.time.clock.now();
    let mut pending = Vec::new();
    let mut running = Vec::new();
    for row in rows {
        let failure = why(&row);
        match AnyLifecycle::from_record(row) {
            AnyLifecycle::Pending(row) => {
                master.active.cancel(row.id());
                pending.push(row.fail(failure, at).into_intent());
            }
            AnyLifecycle::Running(row) => {
                master.active.cancel(row.id());
                running.push(row.fail(failure, at).into_intent());
            }
            AnyLifecycle::Succeeded(_) | AnyLifecycle::Failed(_) => {}
        }
    }
    let mut swept = Swept::default();
    for answer in master.journal.commit_intents(pending).await {
        count(&mut swept, &answer.map_err(drop_handle));
    }
    for answer in master.journal.commit_intents(running).await {
        count(&mut swept, &answer.map_err(drop_handle));
    }
    swept
}

/// Whether a row that was not ended is left for the next sweep.
enum NotEnded {
    Left,
    EndedByOthers,
}

fn drop_handle<S: crate::lifecycle::State>(error: CommitError<S>) -> NotEnded {
    match error {
        CommitError::NotCommitted { lifecycle, .. } => {
            lifecycle.into_record();
            NotEnded::Left
        }
        CommitError::Unknown { .. } => NotEnded::Left,
        CommitError::Conflict { current } if current.is_open() => NotEnded::Left,
        CommitError::Conflict { .. } | CommitError::Missing { .. } => NotEnded::EndedByOthers,
    }
}

fn count(swept: &mut Swept, answer: &Result<Record, NotEnded>) {
    match answer {
        Ok(_) => swept.failed += 1,
        Err(NotEnded::Left) => swept.left += 1,
        Err(NotEnded::EndedByOthers) => {}
    }
}
