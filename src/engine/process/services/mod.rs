//! What decoys say, service by service.

mod ftp;
mod http;
mod mail;
mod mysql;
mod redis;
mod ssh;
mod telnet;

use super::session::{End, Session};
use crate::lifecycle::ServiceName;

/// A protocol that decoys can speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ssh,
    Http,
    Ftp,
    Smtp,
    Telnet,
    Redis,
    Pop3,
    Imap,
    Mysql,
    /// Anything else: reads, and never answers.
    Sink,
}

impl Kind {
    pub(super) fn of(service: &ServiceName) -> Self {
        match service.as_str() {
            "ssh" => Self::Ssh,
            "http" => Self::Http,
            "ftp" => Self::Ftp,
            "smtp" => Self::Smtp,
            "telnet" => Self::Telnet,
            "redis" => Self::Redis,
            "pop3" => Self::Pop3,
            "imap" => Self::Imap,
            "mysql" => Self::Mysql,
            _ => Self::Sink,
        }
    }

    /// Whether the server has the first word.
    pub(super) const fn greets(self) -> bool {
        !matches!(self, Self::Http | Self::Redis | Self::Sink)
    }
}

/// Speaks with a client until one of the two has had enough.
pub(super) fn speak(kind: Kind, session: &mut Session<'_>) -> Result<(), End> {
    match kind {
        Kind::Ssh => ssh::speak(session),
        Kind::Http => http::speak(session),
        Kind::Ftp => ftp::speak(session),
        Kind::Smtp => mail::smtp(session),
        Kind::Telnet => telnet::speak(session),
        Kind::Redis => redis::speak(session),
        Kind::Pop3 => mail::pop3(session),
        Kind::Imap => mail::imap(session),
        Kind::Mysql => mysql::speak(session),
        Kind::Sink => session.drain(),
    }
}

/// Splits a command line into its first word, in capitals, and the rest.
fn command(line: &str) -> (String, &str) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    (word.to_ascii_uppercase(), rest.trim())
}
