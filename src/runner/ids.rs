//! Ids that rise.

use std::sync::{Mutex, PoisonError};

use crate::lifecycle::{LifecycleId, Timestamp};

/// Makes ids that rise: a UUIDv7 of the injected time and randomness, and one
/// more than the last where the clock stands still or steps back.
#[derive(Debug)]
pub(super) struct Ids {
    state: Mutex<(fastrand::Rng, u128)>,
}

impl Ids {
    pub(super) fn new(seed: Option<u64>) -> Self {
        let random = seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        Self { state: Mutex::new((random, 0)) }
    }

    pub(super) fn next(&self, at: Timestamp) -> LifecycleId {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (random, last) = &mut *state;
        let mut bytes = [0; 10];
        random.fill(&mut bytes);
        let made = LifecycleId::from_parts(at, bytes).as_u128();
        // Adding one to a UUIDv7 touches its random tail only, save once in
        // 2^62: the version stays.
        *last = made.max(last.saturating_add(1));
        LifecycleId::from_u128(*last)
    }

    pub(super) fn epoch(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.u64(..)
    }
}
