//! Why a mirror can't go on.

use crate::bus::nats::{JetStreamError, NatsError};

/// Something that doesn't get better by waiting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// No server lets us in, or the settings can't be used.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// The stream isn't there.
    #[error(
        "the NATS server {server} has no stream {stream}: make one for the subjects {subjects}, with \
         retention limits"
    )]
    NoStream {
        /// Which server said so.
        server: String,
        /// The stream's name.
        stream: String,
        /// What it has to keep.
        subjects: String,
    },
    /// Nobody answers for JetStream.
    #[error("the NATS server {server} has no JetStream for this account; switch it on")]
    NoJetStream {
        /// Which server.
        server: String,
    },
    /// The stream is set up in a way that won't do.
    #[error("stream {stream} can't be a mirror of the feed: {what}")]
    Unfit {
        /// The stream's name.
        stream: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// We may not ask or publish.
    #[error("the NATS server {server} doesn't allow a mirror what it needs: {said}")]
    Denied {
        /// Which server.
        server: String,
        /// Its words.
        said: String,
    },
    /// What is in the stream is not of this store.
    #[error("stream {stream} is no mirror of this store: {what}")]
    Foreign {
        /// The stream's name.
        stream: String,
        /// What was seen, and what to do.
        what: String,
    },
    /// A change takes more room than the server gives.
    #[error(
        "the NATS server {server} takes messages of {max} bytes, a change has {len}: raise its max_payload"
    )]
    TooLong {
        /// Which server.
        server: String,
        /// The server's bound.
        max: usize,
        /// How long the message is.
        len: usize,
    },
}

/// How a mirror's connection ended.
#[derive(Debug)]
pub(super) enum Stop {
    /// Another one may go better.
    Again(String),
    /// The connection to a server, or what that said.
    Nats(NatsError),
    NoJetStream(String),
    Wrong(MirrorError),
}

impl Stop {
    /// What a stream's answer means for the mirror.
    pub(super) fn of(error: JetStreamError, server: &str, stream: &str, subjects: &str) -> Self {
        let (server, stream) = (server.to_owned(), stream.to_owned());
        Self::Wrong(match error {
            JetStreamError::Nats(error) => return Self::Nats(error),
            JetStreamError::NoJetStream => return Self::NoJetStream(server),
            JetStreamError::NoStream => {
                MirrorError::NoStream { server, stream, subjects: subjects.to_owned() }
            }
            JetStreamError::Unfit(what) => MirrorError::Unfit { stream, what },
            JetStreamError::Denied(said) => MirrorError::Denied { server, said },
        })
    }

    /// Whether it is over, or what was the matter, if another try may help. At
    /// the first one more is an error: nothing of it has ever gone well.
    pub(super) fn judge(self, is_first: bool) -> Result<String, MirrorError> {
        match self {
            Self::Wrong(error) => Err(error),
            Self::Nats(
                error @ (NatsError::Settings { .. } | NatsError::Refused { .. } | NatsError::Unfit { .. }),
            ) if is_first => Err(error.into()),
            Self::NoJetStream(server) if is_first => Err(MirrorError::NoJetStream { server }),
            Self::Nats(error) => Ok(error.to_string()),
            Self::NoJetStream(server) => Ok(MirrorError::NoJetStream { server }.to_string()),
            Self::Again(words) => Ok(words),
        }
    }
}

impl From<NatsError> for Stop {
    fn from(error: NatsError) -> Self {
        Self::Nats(error)
    }
}
