//! A clock that stands still until a test moves it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::lifecycle::Timestamp;

/// A clock that stands still until a test moves it.
///
/// ```
/// use decnet_lifecycle::{clock::Clock, testkit::VirtualClock};
/// use std::time::Duration;
///
/// let clock = VirtualClock::new();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().since(before), Duration::from_secs(60));
/// ```
#[derive(Debug)]
pub struct VirtualClock {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    wall: Timestamp,
    monotonic: Duration,
    /// Who sleeps until when, in the order of falling asleep.
    sleepers: BTreeMap<(Duration, u64), Waker>,
    next: u64,
}

impl VirtualClock {
    /// A clock at 2026-01-01T00:00:00Z.
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            wall: Timestamp::from_micros(1_767_225_600_000_000),
            monotonic: Duration::from_secs(1_000_000),
            sleepers: BTreeMap::new(),
            next: 0,
        };
        Self { state: Mutex::new(state) }
    }

    /// Lets time pass; wakes who has slept long enough.
    pub fn advance(&self, by: Duration) {
        let mut state = self.lock();
        state.wall = state.wall.plus(by);
        state.monotonic = state.monotonic.saturating_add(by);
        // Who is due is off the list, also if nobody polls it now.
        let from = (state.monotonic.saturating_add(Duration::from_nanos(1)), 0);
        let later = state.sleepers.split_off(&from);
        let due = std::mem::replace(&mut state.sleepers, later);
        drop(state);
        due.into_values().for_each(Waker::wake);
    }

    /// Lets time pass up to when the first sleeper wakes; false if nobody
    /// sleeps.
    pub fn advance_to_next(&self) -> bool {
        let state = self.lock();
        let Some(((until, _), _)) = state.sleepers.first_key_value() else {
            return false;
        };
        let by = until.saturating_sub(state.monotonic);
        drop(state);
        self.advance(by);
        true
    }

    /// When the first sleeper wakes, in monotonic time; none if nobody sleeps.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        self.lock().sleepers.first_key_value().map(|((until, _), _)| *until)
    }

    /// Sets the wall clock forward, as an operator would; nobody wakes.
    pub fn step_forward(&self, by: Duration) {
        let mut state = self.lock();
        state.wall = state.wall.plus(by);
    }

    /// Sets the wall clock back.
    pub fn step_back(&self, by: Duration) {
        let mut state = self.lock();
        state.wall = state.wall.minus(by);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes a sleeper off the list, also when it is dropped.
struct Sleeper<'c> {
    clock: &'c VirtualClock,
    key: (Duration, u64),
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        self.clock.lock().sleepers.remove(&self.key);
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.lock().wall
    }

    fn monotonic(&self) -> Duration {
        self.lock().monotonic
    }

    async fn sleep(&self, duration: Duration) {
        let key = {
            let mut state = self.lock();
            state.next += 1;
            (state.monotonic.saturating_add(duration), state.next)
        };
        let _sleeper = Sleeper { clock: self, key };
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.monotonic >= key.0 {
                return Poll::Ready(());
            }
            state.sleepers.insert(key, cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
