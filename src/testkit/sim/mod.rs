//! The whole master with fake workers, on virtual time, on one thread, from
//! one seed.
//!
//! [`simulate`] plays one schedule: requests, cancels, an engine and workers
//! that are slow, fail, hang and crash, a network that loses, delays, doubles
//! and reorders, a clock that steps, a disk that fails and lies, crashes of
//! the master between any two polls. All the while [`Invariants`](super::Invariants) must hold,
//! nothing acknowledged may be lost, who watches the feed hears of each change
//! once, and once the weather is fair every row must end. The same seed gives
//! the same schedule, poll by poll.
//!
//! After each event the rows that changed are checked; every row and index is
//! whenever the store was opened, and at the end.
//!
//! `examples/simulate.rs` plays as many as you like.

mod dice;
mod disk;
mod engine;
mod executor;
mod network;
mod original;
mod play;
mod setting;
mod shown;
mod watcher;
mod worker;

use std::fmt;
use std::time::Duration;

pub use disk::{DiskCall, DiskHandle, Honesty, SimDisk, apply, tear};
pub use executor::Executor;

/// How rough a schedule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Weather {
    /// How many things happen, from a request to a crash.
    pub events: u32,
    /// Whether the disk does what it says.
    pub disk: Honesty,
    /// Something wrong on purpose, to see that it is found.
    pub planted: Option<Planted>,
    /// Commits whose outcome is unknown while the store can't be read.
    pub blind_commits: bool,
    /// Steps back of the wall clock by up to a year, which keep no row open
    /// for longer.
    pub far_steps_back: bool,
    /// A store that comes back from a backup, while who watches it goes on
    /// from where they were: beyond its head.
    pub restores: bool,
    /// How many in a hundred words of the worker that says each once get lost.
    pub lost_words: u64,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            events: 60,
            disk: Honesty::Honest,
            planted: None,
            blind_commits: false,
            far_steps_back: false,
            restores: false,
            lost_words: 10,
        }
    }
}

/// Something wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Planted {
    /// The disk lies, and the checks aren't told.
    UnknownLies,
    /// The engine says that what failed succeeded.
    EngineBoasts,
    /// Nobody sweeps.
    NoSweeps,
    /// What an engine says at its end gets lost now and then.
    EngineUnheard,
    /// Who watches misses a change whenever the master starts.
    WatcherSkips,
    /// The worker that says each word once says some of an earlier call once
    /// more, dated anew, when the next has come.
    LateWords,
    /// That worker's words get lost, and its beats show nothing.
    BlindBeats,
}

/// What a schedule came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Played {
    /// Rows accepted.
    pub rows: u64,
    /// Of them, how many succeeded.
    pub succeeded: u64,
    /// Changes committed.
    pub changes: u64,
    /// Crashes of the master.
    pub crashes: u64,
    /// Times that the store closed for good, or would not open.
    pub store_losses: u64,
    /// Looks at everything that must hold.
    pub checks: u64,
    /// Of them, how many at every row and not only at those that changed.
    pub whole_checks: u64,
    /// Changes that were watched.
    pub watched: u64,
    /// Commits that were to be unknown, with failing reads after them.
    pub blind_commits: u64,
    /// Steps back of the wall clock.
    pub steps_back: u64,
    /// Times that the store came back from a backup.
    pub restores: u64,
    /// Rows of the worker that says each word once that ended well by what its
    /// beats show.
    pub seen: u64,
    /// Polls of tasks.
    pub polls: u64,
    /// How much time went by on the virtual clock.
    pub time: Duration,
    /// Equal for equal schedules.
    pub trace: u64,
}

/// A schedule that broke something. [`simulate`] with the same seed and
/// weather breaks it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}, after {polls} polls: {what}")]
pub struct Broken {
    /// The seed.
    pub seed: u64,
    /// How far it got.
    pub polls: u64,
    /// What broke.
    pub what: String,
}

/// Plays the schedule of a seed.
///
/// ```
/// use decnet_lifecycle::testkit::sim::{Weather, simulate};
///
/// let weather = Weather::default();
/// assert_eq!(simulate(1, &weather)?, simulate(1, &weather)?);
/// # Ok::<(), decnet_lifecycle::testkit::sim::Broken>(())
/// ```
///
/// # Errors
/// [`Broken`] says what broke.
pub fn simulate(seed: u64, weather: &Weather) -> Result<Played, Broken> {
    play::Play::new(seed, *weather).run()
}

impl fmt::Display for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, succeeded, changes, crashes, .. } = self;
        write!(f, "{rows} rows, {succeeded} succeeded, {changes} changes, {crashes} crashes")
    }
}
