//! Fingerprints of certificates, and which of them a host may show.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The SHA-256 of a certificate's DER; lowercase hex in text and on the wire.
///
/// ```
/// use decnet_lifecycle::agent::Fingerprint;
///
/// let print = Fingerprint::of(b"a certificate");
/// assert_eq!(print.to_string().parse(), Ok(print));
/// assert!("beef".parse::<Fingerprint>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate, given its DER.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a fingerprint is the SHA-256 of a certificate's DER: 64 hexadecimal digits, colons between them allowed"
)]
pub struct ParseFingerprintError(());

impl FromStr for Fingerprint {
    type Err = ParseFingerprintError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut digits = text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16));
        let mut bytes = [0; 32];
        let mut digit = || digits.next().flatten().and_then(|digit| u8::try_from(digit).ok());
        for byte in &mut bytes {
            match (digit(), digit()) {
                (Some(high), Some(low)) => *byte = high << 4 | low,
                _ => return Err(ParseFingerprintError(())),
            }
        }
        if digits.next().is_some() { Err(ParseFingerprintError(())) } else { Ok(Self(bytes)) }
    }
}

impl From<Fingerprint> for String {
    fn from(print: Fingerprint) -> Self {
        print.to_string()
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = ParseFingerprintError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Which certificates a host may show, besides having one of our CA.
///
/// There is no pin that is empty: who wants to trust the CA alone says so.
///
/// ```
/// use decnet_lifecycle::agent::{Fingerprint, Pin};
///
/// let (old, new) = (Fingerprint::of(b"old"), Fingerprint::of(b"new"));
/// assert!(Pin::Certificate(old).admits(old));
/// assert!(!Pin::Certificate(old).admits(new));
/// assert!(Pin::Rotating { current: old, next: new }.admits(new));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// Any certificate of our CA that is made out to the host's address.
    CaOnly,
    /// This one.
    Certificate(Fingerprint),
    /// Either of these, while the host changes from one to the other.
    Rotating {
        /// The one it has shown so far.
        current: Fingerprint,
        /// The one it will show.
        next: Fingerprint,
    },
}

impl Pin {
    /// Whether a certificate with this fingerprint may be shown.
    #[must_use]
    pub fn admits(self, seen: Fingerprint) -> bool {
        match self {
            Self::CaOnly => true,
            Self::Certificate(only) => only == seen,
            Self::Rotating { current, next } => current == seen || next == seen,
        }
    }
}

/// Which certificates a peer may show that has several, besides having one of
/// our CA: DECNET's master calls with one, and is called at another.
///
/// ```
/// use decnet_lifecycle::agent::{Fingerprint, Pins};
///
/// let (client, server) = (Fingerprint::of(b"decnet-master"), Fingerprint::of(b"swarmctl"));
/// let pins = Pins::certificates(client, [server]);
/// assert!(pins.admit(client) && pins.admit(server));
/// assert!(!pins.admit(Fingerprint::of(b"w1")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pins(Option<BTreeSet<Fingerprint>>);

impl Pins {
    /// Any certificate of our CA that is made out to the peer's address.
    #[must_use]
    pub const fn ca_only() -> Self {
        Self(None)
    }

    /// These, in whichever direction.
    #[must_use]
    pub fn certificates(one: Fingerprint, more: impl IntoIterator<Item = Fingerprint>) -> Self {
        Self(Some(more.into_iter().chain([one]).collect()))
    }

    /// Whether a certificate with this fingerprint may be shown.
    #[must_use]
    pub fn admit(&self, seen: Fingerprint) -> bool {
        self.0.as_ref().is_none_or(|pins| pins.contains(&seen))
    }

    /// Whether the name in the certificate is what counts.
    #[cfg(feature = "https")]
    pub(crate) const fn are_by_name(&self) -> bool {
        self.0.is_none()
    }
}

impl From<Pin> for Pins {
    fn from(pin: Pin) -> Self {
        match pin {
            Pin::CaOnly => Self::ca_only(),
            Pin::Certificate(only) => Self::certificates(only, []),
            Pin::Rotating { current, next } => Self::certificates(current, [next]),
        }
    }
}
