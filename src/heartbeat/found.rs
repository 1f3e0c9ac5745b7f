//! Which row a delta is about, and whether it counts for it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::beat::{Delta, Reported, Verdict, WorkerStatus};
use crate::lifecycle::{
    AnyLifecycle, DeckyName, Failure, FailureKind, HostId, Lifecycle, LifecycleId, Operation, Phase, Record,
    Running, Status, Timestamp,
};
use crate::master::{Master, Said, Sight, Silent, Weight};
use crate::store::{Query, StoreError};

use super::calls::{Calls, horizon, may_have_arrived};
use super::sight;

/// How far a worker's clock may be off before its claim counts as earlier
/// than the dispatch.
const SKEW: Duration = Duration::from_secs(5 * 60);

const TOO_MANY: &str = "so many calls came before that nobody can say which it is about";

/// How many of a decky's last rows are read at once for an earlier one whose
/// delta may still be on its way, and how often.
const EARLIER_ROWS: usize = 32;
const EARLIER_PAGES: usize = 8;

pub(super) enum Judged {
    Says(Verdict),
    Ends(Ends),
}

/// A row that a delta ends.
pub(super) struct Ends {
    pub(super) row: Lifecycle<Running>,
    /// When the worker says that this row ended; none if the delta may be about
    /// another like it.
    pub(super) claim: Option<Timestamp>,
    /// Whether its call is over by this.
    pub(super) is_of_its_call: bool,
}

/// Which earlier rows of the same decky, operation and host may have been
/// meant.
enum Earlier {
    /// The delta is none of this row's, and why.
    Refused(&'static str),
    /// These are silent, and so many calls that have no row of the decky; whether
    /// no later call has a word of it; and the claims of words that ended others.
    Silent { rows: Vec<LifecycleId>, calls: Vec<LifecycleId>, is_last: bool, spent: Vec<Timestamp> },
}

/// The rows that a beat's deltas may be about, read once; a row that a delta
/// of this beat ends is gone from here.
pub(super) struct Found {
    by_id: BTreeMap<LifecycleId, Record>,
    open_of: BTreeMap<DeckyName, Vec<LifecycleId>>,
    /// The deploys that the host was sent, once that is asked for.
    calls: Option<Calls>,
}

impl Found {
    pub(super) async fn read(master: &Master, host: &HostId, deltas: &[Delta]) -> Result<Self, StoreError> {
        let store = master.journal.store();
        let ids: Vec<LifecycleId> = deltas.iter().filter_map(|delta| delta.lifecycle_id).collect();
        let mut found = Self { by_id: BTreeMap::new(), open_of: BTreeMap::new(), calls: None };
        for record in store.read(&ids).await? {
            found.by_id.insert(record.id, record);
        }
        for delta in deltas.iter().filter(|delta| delta.lifecycle_id.is_none()) {
            if found.open_of.contains_key(&delta.decky) {
                continue;
            }
            let query = Query::new().decky(delta.decky.clone()).host(host.clone()).open();
            let open = store.query(&query).await?.records;
            found.open_of.insert(delta.decky.clone(), open.iter().map(|record| record.id).collect());
            found.by_id.extend(open.into_iter().map(|record| (record.id, record)));
        }
        Ok(found)
    }

    /// What a delta comes to. One that names no row, and ends none, is kept as
    /// a word.
    pub(super) async fn judge(
        &mut self,
        master: &Master,
        host: &HostId,
        delta: &Delta,
        status: Option<&WorkerStatus>,
    ) -> Result<Judged, StoreError> {
        let Some(id) = delta.lifecycle_id else {
            return self.judge_unnamed(master, host, delta, status).await;
        };
        let Some(record) = self.by_id.get(&id).cloned() else {
            return Ok(Judged::Says(Verdict::Unknown));
        };
        let refused = refused(&record, host, delta);
        if !matches!(refused, Some(Verdict::WrongHost | Verdict::Malformed)) {
            master.swarm.heard.names_rows(host);
        }
        Ok(match refused {
            Some(word) => Judged::Says(word),
            None => self.ends(record, delta, delta.completed_at, false),
        })
    }

    async fn judge_unnamed(
        &mut self,
        master: &Master,
        host: &HostId,
        delta: &Delta,
        status: Option<&WorkerStatus>,
    ) -> Result<Judged, StoreError> {
        let open = self.open_of.get(&delta.decky).into_iter().flatten();
        let mut matching =
            open.filter_map(|id| self.by_id.get(id)).filter(|row| row.operation == delta.operation);
        let record = match (matching.next().cloned(), matching.next()) {
            (None, _) => {
                keep(master, host, delta, None);
                return Ok(Judged::Says(Verdict::Unknown));
            }
            (Some(_), Some(_)) => return Ok(Judged::Says(Verdict::Stale)),
            (Some(record), None) => record,
        };
        if let Some(word) = refused(&record, host, delta) {
            keep(master, host, delta, None);
            return Ok(Judged::Says(word));
        }
        if delta.report == Reported::Running {
            return Ok(Judged::Says(Verdict::Applied));
        }
        let (silent, calls, is_last, spent) = match self.earlier(master, host, &record, delta).await? {
            Earlier::Refused(why) => {
                keep(master, host, delta, Some((record.id, why)));
                return Ok(Judged::Says(Verdict::Stale));
            }
            Earlier::Silent { rows, calls, is_last, spent } => (rows, calls, is_last, spent),
        };
        let heard = &master.swarm.heard;
        if calls.is_empty() && silent.iter().all(|id| heard.is_over(host, *id)) {
            return Ok(self.ends_own(master, host, record, delta, is_last));
        }
        let Some(said) = said(delta) else {
            keep(master, host, delta, Some((record.id, "it is not dated, and may be of an earlier call")));
            return Ok(Judged::Says(Verdict::Stale));
        };
        let all = [silent.as_slice(), calls.as_slice()].concat();
        match heard.weigh(host, record.id, said, Silent { rows: &all, spent: &spent }) {
            Weight::Own => return Ok(self.ends_own(master, host, record, delta, is_last)),
            Weight::Agreed => {
                keep(master, host, delta, None);
                return Ok(self.ends(record, delta, None, is_last));
            }
            Weight::Doubtful => {}
        }
        if said.is_good
            && calls.is_empty()
            && let Some(status) = status
            && let Some(asked) = sight::asked(master, &record).await?
        {
            let is_its_own = sight::of(status, &record.decky, &asked) == Sight::AsAsked
                && silent.iter().all(|id| heard.wanted_other_than(host, *id, sight::services(&asked)));
            if is_its_own {
                keep(master, host, delta, None);
                return Ok(self.ends(record, delta, None, is_last));
            }
        }
        keep(
            master,
            host,
            delta,
            Some((record.id, "it may be of an earlier call that has not been heard of")),
        );
        Ok(Judged::Says(Verdict::Stale))
    }

    /// Which earlier row of the same decky, operation and host a delta without an
    /// id may be about instead of this open one.
    ///
    /// Say that a deploy failed at its deadline while the worker was still at it,
    /// and was asked for again: the "succeeded" of the first comes only now, and
    /// would end the second, of which nothing is up yet.
    async fn earlier(
        &mut self,
        master: &Master,
        host: &HostId,
        row: &Record,
        delta: &Delta,
    ) -> Result<Earlier, StoreError> {
        let since = row.running_since().unwrap_or(row.created_at);
        if delta.completed_at.is_some_and(|claim| claim < since.minus(SKEW)) {
            return Ok(Earlier::Refused("it claims to be older than the call"));
        }
        // A step of the wall clock makes no row older than it is.
        let now = master.time.due_time();
        let patience = master.time.deadlines.remote_run();
        let is_of_the_same = |old: &Record| old.operation == row.operation && old.host == row.host;
        let may_speak = |old: &Record| {
            old.id != row.id
                && is_of_the_same(old)
                && old.running_since().is_some()
                && old.completed_at().is_some_and(|at| now.since(at) < patience)
                && may_have_arrived(old)
        };
        let horizon = horizon(master);
        let mut is_new = true;
        let (mut silent, mut spent) = (Vec::new(), Vec::new());
        let mut after = None;
        for _ in 0..EARLIER_PAGES {
            let query = Query::new().decky(row.decky.clone()).limit(EARLIER_ROWS).after(after);
            let page = master.journal.store().query(&query).await?;
            is_new &= !page.records.iter().any(|old| old.id != row.id && old.running_since().is_some());
            for old in page.records.iter().filter(|old| may_speak(old)) {
                match (old.claimed_completion, delta.completed_at) {
                    (None, _) => silent.push(old.id),
                    (Some(_), None) => {
                        return Ok(Earlier::Refused("it is not dated, and may be one sent again"));
                    }
                    (Some(before), Some(claim)) if claim <= before => {
                        return Ok(Earlier::Refused("it is one sent again, or of an earlier call"));
                    }
                    (Some(before), Some(_)) => spent.push(before),
                }
            }
            after = page.next;
            let is_old = |old: &Record| now.since(old.created_at) > horizon;
            if after.is_none() || page.records.last().is_some_and(is_old) {
                if row.operation != Operation::Deploy {
                    return Ok(Earlier::Silent { rows: silent, calls: Vec::new(), is_last: true, spent });
                }
                let calls = self.calls(master, host).await?;
                let is_last = !calls.may_speak_later_of(row);
                let before = if is_new { Some(Vec::new()) } else { calls.may_speak_of(master, row) };
                return Ok(match before {
                    Some(calls) => Earlier::Silent { rows: silent, calls, is_last, spent },
                    None => Earlier::Refused(TOO_MANY),
                });
            }
        }
        Ok(Earlier::Refused(TOO_MANY))
    }

    async fn calls(&mut self, master: &Master, host: &HostId) -> Result<&Calls, StoreError> {
        let calls = match self.calls.take() {
            Some(calls) => calls,
            None => Calls::read(master, host).await?,
        };
        Ok(self.calls.insert(calls))
    }

    /// A word that is the row's own, unless there is a later call that has one of
    /// its decky as well.
    fn ends_own(
        &mut self,
        master: &Master,
        host: &HostId,
        record: Record,
        delta: &Delta,
        is_last: bool,
    ) -> Judged {
        if is_last {
            return self.ends(record, delta, delta.completed_at, true);
        }
        keep(master, host, delta, None);
        self.ends(record, delta, None, false)
    }

    fn ends(
        &mut self,
        record: Record,
        delta: &Delta,
        claim: Option<Timestamp>,
        is_of_its_call: bool,
    ) -> Judged {
        if delta.report == Reported::Running {
            return Judged::Says(Verdict::Applied);
        }
        let id = record.id;
        match AnyLifecycle::from_record(record) {
            AnyLifecycle::Running(row) => {
                // A second end of the same row in one beat finds it closed.
                if let Some(kept) = self.by_id.get_mut(&id) {
                    let (at, since) = (kept.updated_at, row.since());
                    kept.phase = Phase::Succeeded { since, at };
                }
                Judged::Ends(Ends { row, claim, is_of_its_call })
            }
            _ => Judged::Says(Verdict::AlreadyClosed),
        }
    }
}

/// A dated end that names no row.
fn said(delta: &Delta) -> Option<Said<'_>> {
    let is_good = match &delta.report {
        Reported::Running => return None,
        Reported::Succeeded => true,
        Reported::Failed(_) => false,
    };
    Some(Said { decky: &delta.decky, operation: delta.operation, claim: delta.completed_at?, is_good })
}

/// Keeps a word that ended no row by itself, and tells of it if it was
/// doubted.
fn keep(master: &Master, host: &HostId, delta: &Delta, doubted: Option<(LifecycleId, &str)>) {
    let (now, patience) = (master.time.clock.monotonic(), master.time.deadlines.remote_run());
    let doubt = doubted.map(|(id, why)| {
        let word = match &delta.report {
            Reported::Running => "is at it".to_owned(),
            Reported::Succeeded => "succeeded".to_owned(),
            // Made fit to be shown, as in a row.
            Reported::Failed(error) => {
                Failure::new(FailureKind::Reported, error).hiding(&master.discretion.secrets()).to_string()
            }
        };
        log::warn!(
            target: "decnet_lifecycle::heartbeat",
            host:% = host, decky:% = delta.decky, lifecycle_id:% = id, said:% = word, why:% = why;
            "a worker's word was not taken"
        );
        (id, format!("its worker said \"{word}\", which was not taken: {why}"))
    });
    if let Some(said) = said(delta) {
        master.swarm.heard.keep_word(host, said, doubt, now, patience);
    } else if let Some((id, why)) = doubt {
        master.swarm.heard.keep_doubt(host, id, why);
    }
}

fn refused(record: &Record, host: &HostId, delta: &Delta) -> Option<Verdict> {
    if record.host.as_ref() != Some(host) {
        return Some(Verdict::WrongHost);
    }
    if record.decky != delta.decky || record.operation != delta.operation {
        return Some(Verdict::Malformed);
    }
    match record.status() {
        Status::Succeeded | Status::Failed => Some(Verdict::AlreadyClosed),
        Status::Pending => Some(Verdict::Stale),
        Status::Running => None,
    }
}
