//! How long rows may stay open, and how much is done at once.

use std::time::Duration;

/// How long a row may stay open, by where it is.
///
/// ```
/// use decnet_lifecycle::runner::Deadlines;
/// use std::time::Duration;
///
/// let mut deadlines = Deadlines::default();
/// assert_eq!(deadlines.run, Duration::from_secs(30 * 60));
/// deadlines.run = Duration::from_secs(5 * 60);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deadlines {
    /// A pending row that nobody starts fails after this: 30 minutes.
    pub queue: Duration,
    /// An agent call without an answer is given up after this: 60 seconds.
    pub dispatch: Duration,
    /// A running row that nobody ends fails after this: 30 minutes.
    pub run: Duration,
    /// The running rows of a host that has not been heard for this long fail:
    /// 5 minutes, ten beats. Of a worker that names no rows, also how long its
    /// beats must show a decky as asked that they have never shown otherwise.
    pub silence: Duration,
    /// A row that its worker should know and has not named in its beats for
    /// this long fails: 90 seconds, three beats. Of a worker that names no rows
    /// instead how long its beats must show a decky as asked after a change, and
    /// the longest that a post of its is taken to be on its way.
    pub unknown: Duration,
    /// How long an engine may take to stop once it was asked: 30 seconds.
    pub cancel: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            queue: Duration::from_secs(30 * 60),
            dispatch: Duration::from_secs(60),
            run: Duration::from_secs(30 * 60),
            silence: Duration::from_secs(5 * 60),
            unknown: Duration::from_secs(90),
            cancel: Duration::from_secs(30),
        }
    }
}

impl Deadlines {
    /// The longest that a row stays in one state.
    pub(crate) fn longest(&self) -> Duration {
        self.queue.max(self.remote_run())
    }

    /// From the commit of `running` to the deadline of a worker's row: two
    /// tries of the dispatch, and the run itself.
    pub(crate) fn remote_run(&self) -> Duration {
        self.run.saturating_add(self.dispatch.saturating_mul(2))
    }
}

/// Bounds on what a master does at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Agent calls under way at once, over all hosts: 128. Each host gets one
    /// at a time.
    pub dispatches: usize,
    /// Deltas taken in one go: 512, and no fewer, for a beat may hold as many.
    pub deltas: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { dispatches: 128, deltas: 512 }
    }
}
