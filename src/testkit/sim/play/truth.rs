//! What must hold of a schedule after each thing that happens.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_lite::future::block_on;

use crate::clock::Clock;
use crate::lifecycle::{Failure, FailureKind, Operation, Record, ServiceName, Status};
use crate::master::Deadlines;
use crate::store::{Store, StoreError};
use crate::testkit::Breach;

use crate::testkit::sim::Honesty;
use crate::testkit::sim::worker::{Kind, Worker};

use super::Play;

/// How long a master may take to write down what an engine has said, or to
/// give up what it no longer drives.
const WRITTEN_DOWN: Duration = Duration::from_secs(10 * 60);

impl Play {
    pub(super) fn check(&mut self) -> Result<(), Breach> {
        let store = self.store()?;
        if let Some(wrong) = self.net.wrong.lock().unwrap_or_else(PoisonError::into_inner).first() {
            return Err(Breach(wrong.clone()));
        }
        if self.writer_ended.load(Ordering::Relaxed) {
            return Ok(());
        }
        // A disk that fails for now: what it holds is looked at once it can be.
        if matches!(block_on(crate::store::head(&*store)), Err(StoreError::NotCommitted { .. })) {
            return Ok(());
        }
        self.played.checks += 1;
        let opened = self.opened.load(Ordering::Relaxed);
        let rows = if self.opened_before == opened {
            block_on(self.invariants.check_changes(&*store))?
        } else {
            self.played.whole_checks += 1;
            block_on(self.invariants.check_listed(&*store))?
        };
        self.opened_before = opened;
        if !rows.is_empty() {
            self.watcher.listen(&*store)?;
        }
        let ended = self.engine.take_ended(self.clock.monotonic().saturating_sub(WRITTEN_DOWN));
        if let Some(row) = block_on(store.read(&ended))?.iter().find(|row| row.is_open()) {
            return Err(Breach(format!("what the engine said of row {} was lost: {row:?}", row.id)));
        }
        for id in self.told.lock().unwrap_or_else(PoisonError::into_inner).keys() {
            if !self.invariants.knows(*id) {
                return Err(Breach(format!("row {id} was acknowledged and is lost")));
            }
        }
        rows.iter().try_for_each(|row| self.is_true(row))
    }

    /// Whether a row that has ended did so for a reason.
    ///
    /// A worker that names no rows is believed by the age of earlier rows; a
    /// clock that steps and a master that restarts take that away together,
    /// and so does a disk that loses those rows.
    fn is_true(&self, row: &Record) -> Result<(), Breach> {
        let in_doubt = self.steps || self.weather.disk == Honesty::Lies || self.played.restores > 0;
        let worker = row.host.as_ref().and_then(|host| self.net.workers.get(host));
        if let Some(worker) = worker.filter(|worker| worker.kind == Kind::Original) {
            if let Some(claim) = row.claimed_completion
                && worker.is_stale(&row.decky, claim, row.id)
                && !in_doubt
            {
                return Err(Breach(format!("a stale word ended row {}: {row:?}", row.id)));
            }
            let said = row.failure().is_some_and(|failure| failure.kind() == FailureKind::Reported);
            if said
                && row.operation != Operation::Teardown
                && !worker.has_spoken(&row.decky, row.id)
                && !in_doubt
            {
                return Err(Breach(format!("row {} failed by another's word: {row:?}", row.id)));
            }
            self.waited_in_vain(row, worker)?;
        }
        if row.status() != Status::Succeeded {
            return Ok(());
        }
        let really = match (&row.host, worker) {
            (None, _) => self.engine.did(row.id),
            _ if row.operation == Operation::Teardown => true,
            (Some(_), None) => false,
            (Some(_), Some(worker)) if worker.kind == Kind::Ours => worker.did(row.id),
            (Some(_), Some(worker)) => {
                let wanted = self.wanted(row);
                in_doubt || worker.did(row.id) || worker.shown().ran_since(row.id, &row.decky, &wanted)
            }
        };
        if really {
            Ok(())
        } else {
            Err(Breach(format!("row {} says succeeded and has not: {row:?}", row.id)))
        }
    }

    /// What all rows of an operation want here.
    fn wanted(&self, row: &Record) -> Vec<ServiceName> {
        let service = if row.operation == Operation::Mutate { "ftp" } else { "ssh" };
        ServiceName::parse(service).into_iter().collect()
    }

    /// Whether a row waited for its deadline although its worker showed for
    /// long, in fair weather, that its decky was as asked.
    fn waited_in_vain(&self, row: &Record, worker: &Worker) -> Result<(), Breach> {
        let kind = row.failure().map(Failure::kind);
        let (Some(FailureKind::Deadline), Some(fair)) = (kind, self.fair_since) else { return Ok(()) };
        let now = self.clock.monotonic();
        let since = match row.operation {
            Operation::Teardown => worker.shown().gone_since(&row.decky),
            _ => worker.shown().runs_since(&row.decky, &self.wanted(row)),
        };
        // A step of time here is ten minutes.
        let long =
            since.is_some_and(|since| now.saturating_sub(since.max(fair)) > Duration::from_secs(25 * 60));
        // A master that was not there at the deadline heard nobody either.
        let deadlines = Deadlines::default();
        let allowed = deadlines.remote_run().saturating_add(Duration::from_secs(120));
        let began = row.running_since().zip(row.completed_at());
        if began.is_some_and(|(since, at)| at.since(since) < allowed) && long {
            return Err(Breach(format!("row {} waited for a word that was lost: {row:?}", row.id)));
        }
        Ok(())
    }
}
