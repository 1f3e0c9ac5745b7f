//! What a server takes of whom, and for how long.

use std::time::Duration;

/// Bounds of a [`Server`](super::Server): a client that is slow, silent or
/// many holds up nobody else. How long a body may be is for the routes to say.
///
/// ```
/// use decnet_lifecycle::http::ServerLimits;
/// use std::time::Duration;
///
/// let mut limits = ServerLimits::default();
/// assert_eq!(limits.request, Duration::from_secs(60));
/// limits.request = Duration::from_secs(5 * 60);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Connections at once: 512. Who comes when all are taken gets the place of
    /// the one that has been idle longest; there is none if all are at work.
    pub connections: usize,
    /// Handshakes under way at once: 256.
    pub handshakes: usize,
    /// Those of them from one address, or one IPv6 network of 64 bits: 64.
    pub handshakes_each: usize,
    /// Connections of one certificate that is known: 8.
    pub known_each: usize,
    /// Connections of one certificate that is of the CA and not known, and that
    /// is told so: 2.
    pub unknown_each: usize,
    /// From the first packet to the end of the handshake: 5 seconds.
    pub handshake: Duration,
    /// For a request's header to come: 5 seconds, or `request` if that is less.
    pub header: Duration,
    /// For a whole request to come and to be answered: 60 seconds. An answer
    /// that has begun may go on for as long as its client takes it.
    pub request: Duration,
    /// A body may be silent for this long in all: 5 seconds.
    pub body_grace: Duration,
    /// And else comes at this many bytes a second or more: 32 KiB. None counts
    /// as one.
    pub body_rate: u32,
    /// For a client to take some bytes of an answer: 10 seconds.
    pub stalled: Duration,
    /// For requests under way when the server stops: 10 seconds.
    pub drain: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 512,
            handshakes: 256,
            handshakes_each: 64,
            known_each: 8,
            unknown_each: 2,
            handshake: Duration::from_secs(5),
            header: Duration::from_secs(5),
            request: Duration::from_secs(60),
            body_grace: Duration::from_secs(5),
            body_rate: 32 << 10,
            stalled: Duration::from_secs(10),
            drain: Duration::from_secs(10),
        }
    }
}
