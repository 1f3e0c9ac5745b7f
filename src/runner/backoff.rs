//! How often a decky that won't stay up is brought back.

use std::time::Duration;

use crate::lifecycle::RequestKey;

/// How long a decky that was brought back is left alone before it is brought
/// back again: after the first try so long, and twice as long after each one
/// that follows it, up to a bound. One that has run for twice the bound since
/// is as new.
///
/// ```
/// use decnet_lifecycle::runner::Backoff;
/// use std::time::Duration;
///
/// let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
/// let backoff = Backoff::default();
/// assert_eq!(backoff, Backoff::new(minutes(1), minutes(30)));
/// assert_eq!([1, 2, 3, 9].map(|tries| backoff.after(tries)), [1, 2, 4, 30].map(minutes));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    most: Duration,
}

impl Backoff {
    /// This long after the first try, at most so long after any.
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most }
    }

    /// How long after so many tries in a row.
    #[must_use]
    pub fn after(&self, tries: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(tries.saturating_sub(1));
        self.first.saturating_mul(doubled).min(self.most)
    }

    /// After so long the tries before don't count any more.
    pub(super) fn forgives_after(&self) -> Duration {
        self.most.max(self.first).saturating_mul(2)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_secs(60), Duration::from_secs(30 * 60))
    }
}

/// Why a row was made that nobody asked for: its decky had drifted, and is
/// brought back. The row says so by its key.
///
/// ```
/// use decnet_lifecycle::{RequestKey, runner::Healing};
///
/// let key = RequestKey::parse("heal/2/1767225600000000.0/ssh_dead,_http_gone")?;
/// let healing = Healing::of(&key).unwrap();
/// assert_eq!((healing.tries, healing.why.as_str()), (2, "ssh dead, http gone"));
/// assert_eq!(Healing::of(&RequestKey::parse("deploy/7")?), None);
/// # Ok::<(), decnet_lifecycle::lifecycle::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Healing {
    /// The how-manieth try in a row this is.
    pub tries: u32,
    /// What was seen, in a few words.
    pub why: String,
}

impl Healing {
    const MAX_KEY: usize = 128;

    /// What a row's key says, if it is one of these.
    #[must_use]
    pub fn of(key: &RequestKey) -> Option<Self> {
        let mut parts = key.as_str().strip_prefix("heal/")?.splitn(3, '/');
        let tries = parts.next()?.parse().ok()?;
        let _once = parts.next()?;
        Some(Self { tries, why: parts.next()?.replace('_', " ") })
    }

    /// A key that says it, and that no other request has: of this moment, and
    /// of this number among those of the moment.
    pub(super) fn key(&self, micros: i64, number: usize) -> Option<RequestKey> {
        let mut text = format!("heal/{}/{micros}.{number}/", self.tries);
        let room = Self::MAX_KEY.saturating_sub(text.len());
        let shown = self.why.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' });
        text.extend(shown.take(room));
        RequestKey::parse(&text).ok()
    }
}
