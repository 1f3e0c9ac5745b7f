//! The master's own state: what strategies, heartbeat, sweep and runner share.
//!
//! Cut by who uses it: [`Local`] is for the deckies that run here, [`Swarm`]
//! for those of workers, [`Time`] for whoever sets or judges a deadline,
//! [`Active`] for whoever drives a row or stops one.

use std::sync::Arc;

use crate::bus::Bus;
use crate::discretion::{Discreet, Discretion};
use crate::journal::{Journal, Observer};
use crate::lifecycle::{Failure, FailureKind, MasterName, Record};
use crate::placement::{Home, Placement};
use crate::store::{PlacementQuery, Store};

mod active;
mod clock_steps;
mod ending;
mod heard;
mod limits;
mod local;
mod panic;
mod swarm;
mod time;
mod unnamed;

pub(crate) use active::{Active, Guard, Stage};
pub(crate) use ending::{close, fail_open, fail_pending};
pub(crate) use heard::{Heard, Said};
pub use limits::{Deadlines, Limits};
pub(crate) use local::{Local, Turn};
pub(crate) use panic::panic_text;
pub(crate) use swarm::{HostTurn, Swarm};
pub(crate) use time::Time;
pub(crate) use unnamed::{End, Sight, Silent, Steady, Weight};

/// One master.
#[derive(Debug)]
pub(crate) struct Master {
    pub(crate) name: MasterName,
    pub(crate) journal: Journal,
    pub(crate) time: Time,
    pub(crate) active: Arc<Active>,
    pub(crate) local: Local,
    pub(crate) swarm: Swarm,
    pub(crate) discretion: Arc<Discretion>,
}

impl Master {
    pub(crate) fn new(
        name: MasterName,
        (store, bus): (Arc<dyn Store>, Arc<dyn Bus>),
        time: Time,
        mut local: Local,
        swarm: Swarm,
    ) -> Self {
        let active = Arc::<Active>::default();
        let told = Told { active: Arc::clone(&active), heard: Arc::clone(&swarm.heard) };
        let discretion = Arc::new(Discretion::new(Arc::clone(&local.engine)));
        local.progress = Arc::new(Discreet::new(local.progress, Arc::clone(&discretion)));
        let journal = Journal::observed(store, bus, Some(Arc::new(told)), Some(Arc::clone(&discretion)));
        Self { name, journal, time, active, local, swarm, discretion }
    }

    /// This master, as the home of its own deckies.
    pub(crate) fn home(&self) -> Home {
        Home::Master(self.name.clone())
    }

    /// Placements, or why the work can't be begun.
    pub(crate) async fn placements(&self, query: &PlacementQuery) -> Result<Vec<Placement>, Failure> {
        let read = self.journal.store().placements(query).await;
        read.map_err(|error| Failure::new(FailureKind::Store, &format!("not begun: {error}")))
    }
}

/// Hears of every change of a row, in one place, so that no path forgets it.
#[derive(Debug)]
struct Told {
    active: Arc<Active>,
    heard: Arc<Heard>,
}

impl Observer for Told {
    fn changed(&self, row: &Record) {
        self.heard.changed(row);
        // Asked to stop, or ended by somebody else: whoever drives it stops.
        if row.cancel_requested_at.is_some() || !row.is_open() {
            self.active.cancel(row.id);
        }
    }
}
