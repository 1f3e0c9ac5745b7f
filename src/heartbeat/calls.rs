//! The deploys that a host was sent: each speaks of all deckies that it had, also
//! of those without a row of the call.

use std::collections::{BTreeMap, BTreeSet};

use crate::lifecycle::{DeckyName, Failure, FailureKind, HostId, LifecycleId, Operation, Record, Timestamp};
use crate::master::Master;
use crate::store::{Query, StoreError};

/// How many of a host's last rows are read for its calls, so often at once.
const PAGES: usize = 8;

/// The last deploys that a host was sent.
pub(super) struct Calls {
    /// By when they were begun: all rows of a call are, in one commit.
    sent: BTreeMap<Timestamp, Sent>,
    /// Whether there are more than were read.
    is_cut: bool,
}

#[derive(Default)]
struct Sent {
    /// One of its rows.
    row: Option<LifecycleId>,
    deckies: BTreeSet<DeckyName>,
    has_arrived: bool,
    is_open: bool,
    /// When its last row ended.
    ended_at: Option<Timestamp>,
    /// When a word ended one of its rows: those of the others came then, too.
    spoke_at: Option<Timestamp>,
}

impl Calls {
    pub(super) async fn read(master: &Master, host: &HostId) -> Result<Self, StoreError> {
        let now = master.time.due_time();
        let horizon = horizon(master);
        let mut calls = Self { sent: BTreeMap::new(), is_cut: true };
        let mut after = None;
        for _ in 0..PAGES {
            let query = Query::new().host(host.clone()).limit(Query::MAX_LIMIT).after(after);
            let page = master.journal.store().query(&query).await?;
            page.records.iter().for_each(|row| calls.add(master, host, row));
            after = page.next;
            if after.is_none() || page.records.last().is_some_and(|old| now.since(old.created_at) > horizon) {
                calls.is_cut = false;
                break;
            }
        }
        Ok(calls)
    }

    fn add(&mut self, master: &Master, host: &HostId, row: &Record) {
        let (Operation::Deploy, Some(since)) = (row.operation, row.running_since()) else { return };
        let sent = self.sent.entry(since).or_default();
        sent.row.get_or_insert(row.id);
        sent.deckies.insert(row.decky.clone());
        sent.is_open |= row.is_open();
        sent.ended_at = sent.ended_at.max(row.completed_at());
        sent.has_arrived |= may_have_arrived(row);
        if row.claimed_completion.is_some() || master.swarm.heard.is_over(host, row.id) {
            sent.spoke_at = sent.spoke_at.max(row.completed_at());
        }
    }

    /// The calls before this row's that may still speak of its decky without
    /// having a row of it, each by a row of it; none if nobody can say.
    pub(super) fn may_speak_of(&self, master: &Master, row: &Record) -> Option<Vec<LifecycleId>> {
        let since = row.running_since().unwrap_or(row.created_at);
        let (now, deadlines) = (master.time.due_time(), &master.time.deadlines);
        let may_speak = |sent: &&Sent| {
            let is_recent = sent.ended_at.is_some_and(|at| now.since(at) < deadlines.remote_run());
            let has_spoken = sent.spoke_at.is_some_and(|at| since.since(at) >= deadlines.unknown);
            sent.has_arrived
                && (sent.is_open || is_recent)
                && !has_spoken
                && !sent.deckies.contains(&row.decky)
        };
        let before = self.sent.range(..since).map(|(_, sent)| sent);
        (!self.is_cut).then(|| before.filter(may_speak).filter_map(|sent| sent.row).collect())
    }

    /// Whether a later call has a word of this row's decky as well. It is as true
    /// of the decky as the row's own, and says nothing of the row's call.
    pub(super) fn may_speak_later_of(&self, row: &Record) -> bool {
        let since = row.running_since().unwrap_or(row.created_at);
        let mut after = self.sent.range(since..).filter(|(at, _)| **at > since).map(|(_, sent)| sent);
        after.any(|sent| sent.has_arrived && !sent.deckies.contains(&row.decky))
    }
}

/// Whether a row's call may have come to its worker: of work that was refused
/// or never arrived no word can come.
pub(super) fn may_have_arrived(row: &Record) -> bool {
    !matches!(row.failure().map(Failure::kind), Some(FailureKind::Rejected | FailureKind::Unreachable))
}

/// A row that was made longer ago than this has ended longer ago than an
/// operation may take.
pub(super) fn horizon(master: &Master) -> std::time::Duration {
    let deadlines = &master.time.deadlines;
    deadlines.queue.saturating_add(deadlines.remote_run().saturating_mul(2))
}
