//! The ids of rows: UUIDs that sort by when they were made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::time::Timestamp;

/// The identity of one lifecycle: a UUIDv7, so ids made later sort later.
///
/// On the wire it reads as the usual hyphenated lowercase text. Any UUID is
/// accepted when parsing, because rows of the Python master carry version 4.
///
/// ```
/// use decnet_lifecycle::{LifecycleId, Timestamp};
///
/// let early = LifecycleId::from_parts(Timestamp::from_micros(1_000_000), [7; 10]);
/// let late = LifecycleId::from_parts(Timestamp::from_micros(2_000_000), [0; 10]);
/// assert!(early < late);
/// assert_eq!(early.to_string().parse::<LifecycleId>(), Ok(early));
/// assert!("not-an-id".parse::<LifecycleId>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LifecycleId(Uuid);

impl LifecycleId {
    /// Builds a UUIDv7 from a wall time (milliseconds are kept) and 74 of 80
    /// random bits. Times before 1970 count as 1970.
    #[must_use]
    pub fn from_parts(at: Timestamp, random: [u8; 10]) -> Self {
        let millis = u64::try_from(at.as_micros() / 1_000).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// The id as a number that sorts like the id; what stores use as key.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }

    /// The same id as one that no master has named: a UUIDv8.
    #[cfg(feature = "worker")]
    pub(crate) fn unnamed(self) -> Self {
        let bytes = self.0.into_bytes();
        Self(uuid::Builder::from_bytes(bytes).with_version(uuid::Version::Custom).into_uuid())
    }

    /// Whether no master has named it.
    #[cfg(feature = "worker")]
    pub(crate) fn is_unnamed(self) -> bool {
        self.0.get_version() == Some(uuid::Version::Custom)
    }

    /// The id with this number.
    #[must_use]
    pub const fn from_u128(number: u128) -> Self {
        Self(Uuid::from_u128(number))
    }
}

impl fmt::Display for LifecycleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for LifecycleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a lifecycle id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a lifecycle id is a UUID such as 01937b2c-5a7e-7000-8000-0123456789ab")]
pub struct ParseIdError(());

impl FromStr for LifecycleId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self).map_err(|_| ParseIdError(()))
    }
}
