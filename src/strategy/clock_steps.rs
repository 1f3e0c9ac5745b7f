//! Compares wall and monotonic time, so that a step of the wall clock fails
//! nothing early.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::lifecycle::Timestamp;

/// A clock that is off by more than this between two looks has stepped.
const STEP: Duration = Duration::from_secs(2);

/// The forward steps of the wall clock that open rows must not suffer for.
///
/// It has to be asked wherever a deadline is set as well as where it counts:
/// a step back and one forward between two sweeps look like none, and a row
/// made between them would be due too early.
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
}

impl ClockSteps {
    /// Sees every step from now on.
    pub(crate) fn new(clock: &dyn Clock) -> Self {
        let seen = Seen { wall: clock.now(), monotonic: clock.monotonic(), steps: Vec::new() };
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
        seen.steps.retain(|(_, until)| *until > monotonic);
        (seen.wall, seen.monotonic) = (wall, monotonic);
        let behind = seen.steps.iter().fold(Duration::ZERO, |sum, (by, _)| sum.saturating_add(*by));
        wall.minus(behind)
    }
}
