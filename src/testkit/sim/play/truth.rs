//! What must hold of a schedule after each thing that happens.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_lite::future::block_on;

use crate::clock::Clock;
use crate::lifecycle::{Operation, Record, Status};
use crate::store::{Store, StoreError};
use crate::testkit::Breach;

use crate::testkit::sim::Honesty;
use crate::testkit::sim::worker::Kind;

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
        rows.iter().filter(|row| row.status() == Status::Succeeded).try_for_each(|row| self.is_true(row))
    }

    /// Whether a row that says so has really succeeded.
    ///
    /// A worker that names no rows is believed by the age of earlier rows; a
    /// clock that steps and a master that restarts take that away together,
    /// and so does a disk that loses those rows.
    fn is_true(&self, row: &Record) -> Result<(), Breach> {
        let really = match &row.host {
            None => self.engine.did(row.id),
            Some(_) if row.operation == Operation::Teardown => true,
            Some(host) => self.net.workers.get(host).is_some_and(|worker| {
                let lost = self.weather.disk == Honesty::Lies || self.played.restores > 0;
                let in_doubt = self.steps || lost;
                worker.did(row.id) || (worker.kind == Kind::Original && in_doubt)
            }),
        };
        if really {
            Ok(())
        } else {
            Err(Breach(format!("row {} says succeeded and has not: {row:?}", row.id)))
        }
    }
}
