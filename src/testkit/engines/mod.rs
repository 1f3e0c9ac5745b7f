//! The suite that every engine must pass.
//!
//! Implement [`Machine`] for what an engine works on and call [`check`]; each
//! case begins on a machine on which nothing runs. `tests/engines.rs` of this
//! crate is the example: it runs the suite for the fake engine, for a toy, and
//! for toys with something wrong in them.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::engine::Engine;
use crate::fleet::{DeckyConfig, FleetConfig};
use crate::lifecycle::{DeckyName, Failure, ServiceName};

mod calls;
mod changing;
mod stopping;
mod up;

/// What the engines that are checked work on, and how to see what really runs
/// there without asking them.
#[async_trait]
pub trait Machine: Send + Sync {
    /// Leaves nothing running of this fleet, or of anything.
    async fn clean(&self);

    /// An engine over the machine as it is: each time another object, as after
    /// a restart of the master.
    fn engine(&self) -> Arc<dyn Engine>;

    /// Three deckies or more that can come up, the first with two services or
    /// more.
    fn fleet(&self) -> FleetConfig;

    /// Other services that the fleet's first decky can have.
    fn other_services(&self) -> Vec<ServiceName>;

    /// The same fleet, but that this decky can't come up as it lists it, nor be
    /// given those services. None if there is no such fleet.
    fn spoilt(&self, fleet: &FleetConfig, decky: &DeckyName) -> Option<FleetConfig>;

    /// The services of a decky that really answer, of those that it is listed
    /// with and of any others; each with something that changes when it is
    /// started anew, such as its process id. Not by the engine's word.
    async fn answering(&self, decky: &DeckyConfig) -> BTreeMap<ServiceName, String>;

    /// Ends a service behind the engine's back; false if that can't be done.
    async fn kill(&self, decky: &DeckyName, service: &ServiceName) -> bool {
        let _ = (decky, service);
        false
    }

    /// Time, as the engine's calls are given it.
    fn clock(&self) -> Arc<dyn Clock>;

    /// How many times a call is dropped, each time after one poll more. Fewer,
    /// where a call is expensive.
    fn drops(&self) -> usize {
        usize::MAX
    }
}

/// A case that an engine did not pass.
#[derive(Debug, thiserror::Error)]
#[error("{case}: {what}")]
pub struct Violation {
    /// The case.
    pub case: &'static str,
    /// What was seen.
    pub what: String,
}

/// All cases that an engine did not pass.
#[derive(Debug)]
pub struct Violations(pub Vec<Violation>);

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|violation| writeln!(f, "{violation}"))
    }
}

impl std::error::Error for Violations {}

type Checked<'f> = Pin<Box<dyn Future<Output = Result<(), Wrong>> + 'f>>;
type Case = for<'f> fn(&'f dyn Machine) -> Checked<'f>;

/// Why a case did not pass.
struct Wrong(String);

impl From<Failure> for Wrong {
    fn from(failure: Failure) -> Self {
        Self(format!("a call failed: {failure}"))
    }
}

/// Every case by its name.
const CASES: &[(&str, Case)] = &[
    ("what succeeded is up", |m| Box::pin(up::succeeds(m))),
    ("what can't come up has failed, and holds no other back", |m| Box::pin(up::fails(m))),
    ("deckies that a call is not about stay as they are", |m| Box::pin(up::others(m))),
    ("the same deploy again restarts nothing", |m| Box::pin(up::again(m))),
    ("a deploy brings back what has died, and what runs is told", |m| Box::pin(up::died(m))),
    ("an unknown decky has failed", |m| Box::pin(up::unknown(m))),
    ("a mutate gives the new services and takes the old", |m| Box::pin(changing::mutates(m))),
    ("a mutate that failed leaves the services from before", |m| Box::pin(changing::keeps(m))),
    ("a teardown takes down, and that of nothing succeeds", |m| Box::pin(changing::tears_down(m))),
    ("a teardown goes by what is found of a decky that no fleet names", |m| Box::pin(changing::unnamed(m))),
    ("a restarted master finds what runs", |m| Box::pin(changing::restarts(m))),
    ("what is told early is what the report says", |m| Box::pin(calls::told(m))),
    ("calls that need not wait for one another don't harm each other", |m| Box::pin(calls::turns(m))),
    ("what was cancelled before it began is not begun", |m| Box::pin(stopping::cancelled(m))),
    ("what is cancelled on its way ends, and is what its outcome says", |m| {
        Box::pin(stopping::on_its_way(m))
    }),
    ("a dropped call is mended by the next", |m| Box::pin(stopping::dropped(m))),
];

/// Runs every case, each on a clean machine, and gives all violations.
///
/// # Errors
/// The cases that the engine did not pass.
pub async fn check(machine: &dyn Machine) -> Result<(), Violations> {
    let mut violations = Vec::new();
    for (case, run) in CASES {
        machine.clean().await;
        if let Err(Wrong(what)) = run(machine).await {
            violations.push(Violation { case, what });
        }
    }
    machine.clean().await;
    if violations.is_empty() { Ok(()) } else { Err(Violations(violations)) }
}
