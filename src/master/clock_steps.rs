//! Compares wall and monotonic time, so that a step of the wall clock fails
//! nothing early.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::lifecycle::{LifecycleId, Record, Revision, Timestamp};

/// A clock that is off by more than this between two looks has stepped.
const STEP: Duration = Duration::from_secs(2);

/// The steps of the wall clock that open rows must not suffer for.
///
/// Deadlines are wall times, for they outlive a restart. Wall and monotonic
/// clock should advance alike; where they haven't since the last look, the wall
/// clock has stepped. After a step forward all older rows look due too early:
/// `due_time` then stays behind by the step, for as long as any of them may
/// live. After a step back their deadlines lie too far ahead: such rows are
/// noted with a deadline in monotonic time.
///
/// A look is needed where a deadline is set as well as where one counts. An
/// hour back and an hour forward between two sweeps are no step to the second,
/// and a row that got its deadline in between would be due an hour early.
#[derive(Debug)]
pub(crate) struct ClockSteps {
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    wall: Timestamp,
    monotonic: Duration,
    /// Forward steps whose grace still runs: how far, and until when.
    steps: Vec<(Duration, Duration)>,
    /// Whether it stepped back, and nobody has looked yet for rows that last
    /// changed in what is now the future.
    stepped_back: bool,
    /// Those rows at the revision that they had, and when each is due, in
    /// monotonic time.
    ahead: BTreeMap<LifecycleId, (Revision, Duration)>,
}

impl ClockSteps {
    /// Sees every step from now on.
    pub(crate) fn new(clock: &dyn Clock) -> Self {
        let seen = Seen {
            wall: clock.now(),
            monotonic: clock.monotonic(),
            steps: Vec::new(),
            stepped_back: false,
            ahead: BTreeMap::new(),
        };
        Self { seen: Mutex::new(seen) }
    }

    /// The time by which rows count as due. After a forward step it stays
    /// behind by the step for as long as a row may live, so that no row made
    /// before the step loses any of its time.
    pub(crate) fn due_time(&self, clock: &dyn Clock, longest: Duration) -> Timestamp {
        let (wall, monotonic) = (clock.now(), clock.monotonic());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = seen.wall.plus(monotonic.saturating_sub(seen.monotonic));
        let jumped = wall.since(expected);
        if jumped > STEP {
            log::warn!(
                target: "decnet_lifecycle::sweep",
                seconds = jumped.as_secs();
                "the wall clock stepped forward; open rows keep their time"
            );
            seen.steps.push((jumped, monotonic.saturating_add(longest)));
        }
        if expected.since(wall) > STEP {
            log::warn!(
                target: "decnet_lifecycle::sweep",
                seconds = expected.since(wall).as_secs();
                "the wall clock stepped back; open rows keep their time"
            );
            seen.stepped_back = true;
        }
        seen.steps.retain(|(_, until)| *until > monotonic);
        (seen.wall, seen.monotonic) = (wall, monotonic);
        let behind = seen.steps.iter().fold(Duration::ZERO, |sum, (by, _)| sum.saturating_add(*by));
        wall.minus(behind)
    }

    /// Whether to look for rows that last changed in what is now the future.
    pub(crate) fn has_stepped_back(&self) -> bool {
        self.lock().stepped_back
    }

    /// All were looked for.
    pub(crate) fn looked_ahead(&self) {
        self.lock().stepped_back = false;
    }

    /// Takes an open row. One that last changed in what is now the future is
    /// due once as much time has gone by as it may take from now on.
    pub(crate) fn note_ahead(&self, clock: &dyn Clock, row: &Record, patience: Duration) {
        if row.updated_at.since(clock.now()) <= STEP {
            return;
        }
        let due = (row.revision, clock.monotonic().saturating_add(patience));
        let mut seen = self.lock();
        let known = seen.ahead.entry(row.id).or_insert(due);
        if known.0 != row.revision {
            *known = due;
        }
    }

    /// Those of them that are due by now, each given once, and the revision
    /// that it had; whoever asks looks for them anew.
    pub(crate) fn ahead_and_due(&self, clock: &dyn Clock) -> Vec<(LifecycleId, Revision)> {
        let now = clock.monotonic();
        let mut seen = self.lock();
        let due: Vec<_> = seen
            .ahead
            .iter()
            .filter(|(_, (_, due))| *due <= now)
            .map(|(id, (revision, _))| (*id, *revision))
            .collect();
        for (id, _) in &due {
            seen.ahead.remove(id);
        }
        seen.stepped_back |= !due.is_empty();
        due
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
