//! What PostgreSQL could not do, in words that hold no secrets and no rows.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;

use tokio_postgres::error::SqlState;

use crate::lifecycle::text;
use crate::store::StoreError;

/// Why a [`PostgresStore`](super::PostgresStore) can't be had. Never says the
/// password.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// The URL or the settings can't be used.
    #[error("the settings of the PostgreSQL store can't be used: {what}")]
    Settings {
        /// What is wrong, and what to write instead.
        what: String,
    },
    /// No host answered as it must, within the patience.
    #[error("no PostgreSQL server of {hosts} can be used: {error}")]
    Unreachable {
        /// All hosts that were tried.
        hosts: String,
        /// What the last of them said.
        error: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The server said no.
    #[error("PostgreSQL refused while {doing}: {error}")]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// What it said.
        error: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The tables are of a newer version of this library.
    #[error("schema {schema} holds tables of version {found}, this program knows {known}: take a newer one")]
    Newer {
        /// The schema in the database.
        schema: String,
        /// The version of its tables.
        found: i32,
        /// The newest version that this program knows.
        known: i32,
    },
    /// The tables aren't there, and were not to be made, or could not be.
    #[error(
        "schema {schema} of the database has no tables of ours: {error}; a master makes them when it may \
         create schemas there, else the statements of PostgresSettings::schema_sql() do"
    )]
    Missing {
        /// The schema in the database.
        schema: String,
        /// Why they were not made.
        error: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// Another process is the only writer.
    #[error("the database is in use by another master ({by}): stop it first")]
    InUse {
        /// What the server knows of its connection.
        by: String,
    },
    /// The thread that drives the connections can't be started.
    #[error("the store's thread can't be started: {0}")]
    Thread(Arc<std::io::Error>),
}

/// What went wrong, and whether to try again.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may go better the next time, on another connection.
    Again(Cause),
    /// It won't get better by itself.
    Wrong(Cause),
    /// What was asked or found is at fault, not the connection.
    Store(StoreError),
}

/// What was said, in one line.
#[derive(Debug, Clone)]
pub(super) struct Cause(String);

impl Cause {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

/// The most characters of what a server or a library says.
const WORDS: usize = 500;

impl From<&tokio_postgres::Error> for Cause {
    fn from(error: &tokio_postgres::Error) -> Self {
        // Not the detail: it may quote a whole row.
        if let Some(said) = error.as_db_error() {
            let (severity, code) = (said.severity(), said.code().code());
            return Self(text::without_secrets(&format!("{severity}: {} ({code})", said.message()), WORDS));
        }
        let mut words = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            words = format!("{words}: {inner}");
            source = inner.source();
        }
        Self(text::without_secrets(&words, WORDS))
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        let cause = Cause::from(&error);
        match error.code() {
            Some(code) if passes(code) => Self::Again(cause),
            Some(_) => Self::Wrong(cause),
            // No answer, or one that isn't: a server that is well gives others.
            None => Self::Again(cause),
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Trouble {
    /// As the caller is told of it, where nothing was written.
    pub(super) fn not_done(self, doing: &'static str) -> StoreError {
        match self {
            Self::Again(cause) | Self::Wrong(cause) => StoreError::not_committed(doing, cause),
            Self::Store(error) => error,
        }
    }
}

/// Whether the server may say otherwise in a moment, or another one may.
fn passes(code: &SqlState) -> bool {
    const PASSING: [&str; 9] = [
        "25006", // read only: it has become a standby
        "25P02", // in an aborted transaction: what failed before it says why
        "25P03", // idle in a transaction for too long: this process was stopped
        "40001", "40P01", // serialization, deadlock
        "55P03", // the lock was not to be had in time
        "57014", // cancelled, or its time was up
        "23505", // the same revision twice: whoever wrote it holds no lock
        "XX000", // a pooler's word for a server that went away
    ];
    let code = code.code();
    // Connections, resources, and an operator's doing.
    ["08", "53", "57P", "58"].iter().any(|class| code.starts_with(class)) || PASSING.contains(&code)
}

/// Whether a statement's error says for certain that its transaction is void.
pub(super) fn is_void(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some()
}

/// Settings that can't be used.
pub(super) fn wrong(what: impl Into<String>) -> PostgresError {
    PostgresError::Settings { what: what.into() }
}
