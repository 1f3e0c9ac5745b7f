//! NATS: a publisher on its core protocol, and what a mirror needs of
//! JetStream. No client crate and no runtime: blocking sockets on threads of
//! their own.

mod connection;
mod creds;
mod error;
mod jetstream;
mod line;
mod publisher;
mod settings;
mod socket;

pub use error::NatsError;
pub use line::{LineError, Message, ServerInfo, ServerLine};
pub use publisher::NatsBus;
pub use settings::NatsSettings;

pub(crate) use connection::Servers;
pub(crate) use jetstream::{JetStream, JetStreamError, Refusal, StreamEnd};
