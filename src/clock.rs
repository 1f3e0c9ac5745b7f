//! Time, injected: nothing else in the library looks at a clock or sleeps.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use crate::lifecycle::Timestamp;

/// Wall time, monotonic time and waiting.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The wall time: what rows carry. It may step.
    fn now(&self) -> Timestamp;

    /// Time since some fixed point; it never steps.
    fn monotonic(&self) -> Duration;

    /// Waits for this long of monotonic time. Cancel-safe.
    async fn sleep(&self, duration: Duration);
}

/// The machine's clock. Its timer runs under any executor.
///
/// ```
/// use decnet_lifecycle::clock::{Clock, SystemClock};
/// use std::time::Duration;
///
/// let clock = SystemClock::new();
/// let before = clock.monotonic();
/// futures_lite::future::block_on(clock.sleep(Duration::from_millis(1)));
/// assert!(clock.monotonic() > before);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp::from_micros(0).plus(since)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        async_io::Timer::after(duration).await;
    }
}
