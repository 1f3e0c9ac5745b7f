//! What deckies' services have said, as an engine tells it.

use std::sync::Arc;

use crate::clock::Clock;
use crate::lifecycle::{DeckyName, ServiceName};

/// What is asked of an engine's logs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LogQuery {
    /// Whose.
    pub decky: DeckyName,
    /// Of which of its services; of all, if none is named.
    pub service: Option<ServiceName>,
    /// How many of the last lines of each service at most.
    pub tail: usize,
    /// Whether to go on with what they say from now on.
    pub follow: bool,
    /// Time, injected: engines wait only through it.
    pub clock: Arc<dyn Clock>,
}

impl LogQuery {
    /// The most lines of one service.
    pub const MAX_TAIL: usize = 10_000;
    /// The most characters of one line; the rest is cut off.
    pub const MAX_LINE: usize = 4_096;

    /// The last hundred lines of all services of a decky.
    #[must_use]
    pub const fn new(decky: DeckyName, clock: Arc<dyn Clock>) -> Self {
        Self { decky, service: None, tail: 100, follow: false, clock }
    }

    /// Of this service only.
    #[must_use]
    pub fn service(mut self, service: Option<ServiceName>) -> Self {
        self.service = service;
        self
    }

    /// So many of the last lines, at most [`LogQuery::MAX_TAIL`].
    #[must_use]
    pub const fn tail(mut self, lines: usize) -> Self {
        self.tail = if lines < Self::MAX_TAIL { lines } else { Self::MAX_TAIL };
        self
    }

    /// Goes on with what they say from now on.
    #[must_use]
    pub const fn follow(mut self, follow: bool) -> Self {
        self.follow = follow;
        self
    }

    /// Whether lines of this service are asked for.
    #[must_use]
    pub fn wants(&self, service: Option<&ServiceName>) -> bool {
        self.service.is_none() || self.service.as_ref() == service
    }
}

/// One line that a service has said. Its words are data: of a program, or of
/// whoever talks to it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogLine {
    /// The decky.
    pub decky: DeckyName,
    /// Its service; none is what holds the decky together, such as a base
    /// container.
    pub service: Option<ServiceName>,
    /// What was said.
    pub text: String,
}

impl LogLine {
    /// What a service has said.
    #[must_use]
    pub fn new(decky: DeckyName, service: Option<ServiceName>, text: impl Into<String>) -> Self {
        Self { decky, service, text: text.into() }
    }
}
