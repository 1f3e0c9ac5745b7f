use std::time::Duration;

/// What one decoy grants to clients that mean harm.
///
/// ```
/// use decnet_lifecycle::process::DecoyLimits;
///
/// let limits = DecoyLimits::default();
/// assert_eq!(limits.connections, 64);
/// assert_eq!(limits.per_peer, 16);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecoyLimits {
    /// Connections open at once; further ones are closed at once.
    pub connections: usize,
    /// Connections open at once from one IP address.
    pub per_peer: usize,
    /// How long a client may stay silent, or may refuse to take an answer.
    pub idle: Duration,
    /// How long a connection may last, however busy it is.
    pub total: Duration,
    /// Bytes read from one connection before it is closed.
    pub input: usize,
    /// Bytes in one line before the connection is closed.
    pub line: usize,
    /// Bytes in the log before it is moved to `.log.1`.
    pub log: u64,
}

impl Default for DecoyLimits {
    fn default() -> Self {
        Self {
            connections: 64,
            per_peer: 16,
            idle: Duration::from_secs(10),
            total: Duration::from_secs(60),
            input: 64 * 1024,
            line: 1024,
            log: 8 * 1024 * 1024,
        }
    }
}
