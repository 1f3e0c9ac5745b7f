//! Why a row is where it is, in words.

use std::fmt;
use std::time::Duration;

use crate::fleet::DeckyRuntime;
use crate::lifecycle::text::spoken;
use crate::lifecycle::{Record, Status, Timestamp};
use crate::master::Stage;

use super::backoff::Healing;

/// Why a row is where it is; `Display` says it in a few sentences.
#[derive(Debug, Clone)]
pub struct Explanation {
    record: Record,
    now: Timestamp,
    stage: Option<Stage>,
    host: Option<Liveness>,
}

/// What is known of a row's host.
#[derive(Debug, Clone)]
pub(super) struct Liveness {
    pub(super) silent_for: Option<Duration>,
    pub(super) runtime: Option<DeckyRuntime>,
    pub(super) knows_row: bool,
    /// A word that was not taken for the row's, and for how long its decky has
    /// been seen as asked; of a worker that names no rows.
    pub(super) doubt: (Option<String>, Option<Duration>),
}

impl Explanation {
    /// What a row says by itself, at this time; for a store that another
    /// process drives.
    #[must_use]
    pub const fn new(record: Record, now: Timestamp) -> Self {
        Self { record, now, stage: None, host: None }
    }

    pub(super) const fn driven(mut self, stage: Option<Stage>) -> Self {
        self.stage = stage;
        self
    }

    pub(super) fn host(mut self, host: Option<Liveness>) -> Self {
        self.host = host;
        self
    }

    /// The row.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Why there is the row, if nobody asked for it.
    fn heals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.record.key.as_ref().and_then(Healing::of) {
            Some(Healing { tries, why }) => {
                write!(f, "; it brings back what had drifted: {why} (try {tries})")
            }
            None => Ok(()),
        }
    }

    fn waits_for(&self) -> &'static str {
        match (self.stage, self.record.status(), &self.record.host) {
            (Some(Stage::Accepted), ..) => "its future has not been run yet",
            (Some(Stage::EngineQueue), ..) => "other engine calls come first",
            (Some(Stage::Engine), ..) => "the engine is at work",
            (Some(Stage::DispatchQueue), ..) => "other calls to workers come first",
            (Some(Stage::Dispatch), ..) => "the worker's agent has not answered yet",
            (None, Status::Running, Some(_)) => "the worker has the work and has not said how it ended",
            (None, ..) => "no future of this process drives it",
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = &self.record;
        if let Some(at) = record.completed_at() {
            let took = at.since(record.created_at);
            let took = match took.as_secs() {
                0..60 => format!("{:.1} s", took.as_secs_f64()),
                _ => spoken(took),
            };
            write!(f, "{} {took} after it was accepted", record.status())?;
            if let Some(failure) = record.failure() {
                write!(f, ": {failure}")?;
            }
            return self.heals(f);
        }
        let since = record.running_since().unwrap_or(record.created_at);
        write!(f, "{} for {}: {}", record.status(), spoken(self.now.since(since)), self.waits_for())?;
        if let (Some(host), Some(known)) = (&record.host, &self.host) {
            match known.silent_for {
                Some(silent) => write!(f, "; host {host} last heard {} ago", spoken(silent))?,
                None => write!(f, "; host {host} not heard since this master started")?,
            }
            if let Some(runtime) = &known.runtime {
                write!(f, ", it says of the decky: {runtime}")?;
            }
            if !known.knows_row {
                f.write_str(", its worker does not know of the row")?;
            }
            if let Some(seen) = known.doubt.1 {
                write!(f, ", seen as asked for {} s", seen.as_secs())?;
            }
            if let Some(doubt) = &known.doubt.0 {
                write!(f, "; {doubt}")?;
            }
        }
        if record.cancel_requested_at.is_some() {
            f.write_str("; it was asked to stop")?;
        }
        match record.deadline() {
            Some(deadline) if deadline > self.now => {
                write!(f, "; it fails by itself in {}", spoken(deadline.since(self.now)))?;
            }
            Some(_) => f.write_str("; its deadline has passed, the next sweep fails it")?,
            None => {}
        }
        self.heals(f)
    }
}
