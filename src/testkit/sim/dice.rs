//! The one source of chance of a simulation.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The one source of chance of a simulation.
#[derive(Debug, Clone)]
pub(super) struct Dice(Arc<Mutex<fastrand::Rng>>);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).u64(..bound.max(1))
    }

    pub(super) fn index(&self, bound: usize) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).usize(..bound.max(1))
    }

    /// True this often in a hundred.
    pub(super) fn percent(&self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// Up to this long; short mostly.
    pub(super) fn up_to(&self, longest: Duration) -> Duration {
        let millis = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX).max(1);
        let bound = if self.percent(80) { millis / 16 } else { millis };
        Duration::from_millis(1 + self.below(bound))
    }

    pub(super) fn rng(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.below(u64::MAX))
    }
}
