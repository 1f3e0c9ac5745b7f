//! How long to go on trying, and how often.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

/// Tries of one call.
pub(super) struct Tries {
    since: Instant,
    pause: Duration,
}

impl Tries {
    /// Of a call that begins now, while no server has answered since then.
    pub(super) fn new(down_since: Option<Instant>) -> Self {
        let now = Instant::now();
        Self { since: down_since.unwrap_or(now), pause: FIRST }
    }

    /// One has failed: how long to wait before the next, if there is to be one.
    pub(super) fn failed(&mut self, patience: Duration) -> Option<Duration> {
        if self.since.elapsed() >= patience {
            return None;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST);
        // Masters that lost the same server don't all come back at once.
        Some(pause.mul_f64(0.5 + fastrand::f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_after_a_long_outage_tries_once() {
        let long_ago = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        assert_eq!(Tries::new(Some(long_ago)).failed(Duration::from_secs(1)), None);
        assert!(Tries::new(Some(long_ago)).failed(Duration::from_secs(60)).is_some());
    }

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let mut tries = Tries::new(None);
        let pauses: Vec<Duration> = (0..30).filter_map(|_| tries.failed(Duration::from_secs(60))).collect();
        assert!(pauses[0] < Duration::from_millis(20), "{pauses:?}");
        assert!(pauses[29] >= LONGEST / 2 && pauses[29] < LONGEST * 2, "{pauses:?}");
    }
}
