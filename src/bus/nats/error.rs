//! What can't be done with a NATS server, in words that hold no secrets.

use std::io;

use crate::lifecycle::text::without_secrets;

/// Why a NATS server can't be used. Never says a password, a token or a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NatsError {
    /// The URL or a file that it names can't be used.
    #[error("the settings of NATS can't be used: {what}")]
    Settings {
        /// What is wrong, and what to write instead.
        what: String,
    },
    /// The connection can't be had, or was lost.
    #[error("{doing} the NATS server {server}: {error}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which server.
        server: String,
        /// Why it failed.
        error: io::Error,
    },
    /// The server is there and says no.
    #[error("the NATS server {server} says: {said}")]
    Refused {
        /// Which.
        server: String,
        /// Its words.
        said: String,
    },
    /// It isn't what was expected there.
    #[error("the NATS server {server} can't be used: {what}")]
    Unfit {
        /// Which.
        server: String,
        /// What is wrong, and what to do.
        what: String,
    },
}

/// The most characters of what a server says.
const WORDS: usize = 500;

impl NatsError {
    pub(super) fn settings(what: impl Into<String>) -> Self {
        Self::Settings { what: what.into() }
    }

    pub(super) fn io(doing: &'static str, server: &str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { doing, server: server.to_owned(), error }
    }

    pub(super) fn refused(server: &str, said: &str) -> Self {
        Self::Refused { server: server.to_owned(), said: without_secrets(said, WORDS) }
    }

    pub(crate) fn unfit(server: &str, what: impl Into<String>) -> Self {
        Self::Unfit { server: server.to_owned(), what: what.into() }
    }
}
