//! A stream of JetStream: where it ends, and messages put behind that, in order.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::lifecycle::text::one_line;

use super::connection::{Connection, Heard, PATIENCE};
use super::error::NatsError;
use super::line::Message;

/// How many messages at the end that somebody has deleted are passed over.
const DELETED: u64 = 10_000;

/// A connection that speaks with JetStream.
#[derive(Debug)]
pub(crate) struct JetStream {
    connection: Connection,
    inbox: String,
    requests: u64,
    waiting: Vec<u8>,
}

/// Where a stream ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamEnd {
    /// The sequence of the newest message that there ever was.
    pub(crate) sequence: u64,
    /// The newest message that there is.
    pub(crate) last: Option<Vec<u8>>,
}

/// What became of a message.
#[derive(Debug)]
pub(crate) struct Acked {
    /// Behind which sequence it was to stand.
    pub(crate) after: u64,
    pub(crate) outcome: Result<(), Refusal>,
}

/// Why a message isn't in the stream.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The stream doesn't end where it was thought to end.
    Sequence,
    /// In the server's words.
    Other(String),
}

/// Why a stream can't be used.
#[derive(Debug)]
pub(crate) enum JetStreamError {
    /// The connection, or the server for now.
    Nats(NatsError),
    NoStream,
    /// Nobody answers for JetStream.
    NoJetStream,
    /// It is set up in a way that won't do.
    Unfit(String),
    /// We may not.
    Denied(String),
}

impl From<NatsError> for JetStreamError {
    fn from(error: NatsError) -> Self {
        Self::Nats(error)
    }
}

impl JetStream {
    pub(crate) fn new(mut connection: Connection) -> Result<Self, NatsError> {
        if !connection.info().headers {
            return Err(NatsError::unfit(connection.server(), "it knows no headers; take 2.2 or newer"));
        }
        let inbox = format!("_INBOX.{:032x}", fastrand::u128(..));
        connection.send(format!("SUB {inbox}.* 1\r\n").as_bytes())?;
        Ok(Self { connection, inbox, requests: 0, waiting: Vec::new() })
    }

    pub(crate) fn server(&self) -> &str {
        self.connection.server()
    }

    /// The longest message that the server takes.
    pub(crate) fn max_payload(&self) -> usize {
        self.connection.info().max_payload
    }

    /// Where a stream ends; it has to keep what is published below a prefix.
    pub(crate) fn end_of(&mut self, stream: &str, below: &str) -> Result<StreamEnd, JetStreamError> {
        let info = self.request(&format!("STREAM.INFO.{stream}"), &json!({}))?;
        let info: StreamInfo = info.ok_or(JetStreamError::NoStream)?;
        info.config.check(below).map_err(JetStreamError::Unfit)?;
        let state = info.state;
        let oldest = state.first_seq.max(1).max(state.last_seq.saturating_sub(DELETED));
        let mut sequence = state.last_seq;
        while state.messages > 0 && sequence >= oldest {
            let got: Option<Got> =
                self.request(&format!("STREAM.MSG.GET.{stream}"), &json!({"seq": sequence}))?;
            let Some(got) = got else {
                // Somebody deleted it.
                sequence -= 1;
                continue;
            };
            let last = STANDARD.decode(got.message.data.unwrap_or_default()).map_err(|_| {
                NatsError::unfit(self.server(), format!("message {sequence} of {stream} is no base64"))
            })?;
            return Ok(StreamEnd { sequence: state.last_seq, last: Some(last) });
        }
        if state.messages > 0 && oldest > state.first_seq {
            return Err(JetStreamError::Unfit(format!("its last {DELETED} messages were deleted")));
        }
        Ok(StreamEnd { sequence: state.last_seq, last: None })
    }

    /// Puts a message behind a sequence; it goes out with the next `flush`.
    pub(crate) fn publish(&mut self, stream: &str, subject: &str, id: &str, after: u64, payload: &[u8]) {
        let headers = format!(
            "NATS/1.0\r\nNats-Msg-Id: {id}\r\nNats-Expected-Stream: {stream}\r\nNats-Expected-Last-Sequence: {after}\r\n\r\n"
        );
        let total = headers.len() + payload.len();
        let line = format!("HPUB {subject} {}.{after} {} {total}\r\n", self.inbox, headers.len());
        for bytes in [line.as_bytes(), headers.as_bytes(), payload, b"\r\n"] {
            self.waiting.extend_from_slice(bytes);
        }
    }

    pub(crate) fn flush(&mut self) -> Result<(), NatsError> {
        if !self.waiting.is_empty() {
            self.connection.send(&self.waiting)?;
            self.waiting.clear();
        }
        Ok(())
    }

    /// What became of the next message, if that is told until then.
    pub(crate) fn acked(&mut self, end: Instant) -> Result<Option<Acked>, JetStreamError> {
        loop {
            self.connection.keep_alive()?;
            let Some(message) = self.hear(end)? else { return Ok(None) };
            // Answers to requests have other names.
            let Some(after) = self.named(&message).and_then(|name| name.parse().ok()) else { continue };
            if message.status().is_some() {
                let outcome = Err(Refusal::Other("nobody takes what is published for it".to_owned()));
                return Ok(Some(Acked { after, outcome }));
            }
            let ack: PubAck = self.read(&message.payload)?;
            let outcome = match ack.error {
                Some(error) if error.err_code == WRONG_SEQUENCE => Err(Refusal::Sequence),
                Some(error) => Err(Refusal::Other(error.words())),
                // A duplicate of one that stands elsewhere is not there.
                None if ack.seq != after + 1 => Err(Refusal::Sequence),
                None => Ok(()),
            };
            return Ok(Some(Acked { after, outcome }));
        }
    }

    /// Asks for something; none if that isn't there, in a stream that is.
    fn request<T: for<'de> Deserialize<'de>>(
        &mut self,
        what: &str,
        body: &Value,
    ) -> Result<Option<T>, JetStreamError> {
        self.requests += 1;
        let (name, body) = (format!("r{}", self.requests), body.to_string());
        let line = format!("PUB $JS.API.{what} {}.{name} {}\r\n{body}\r\n", self.inbox, body.len());
        self.connection.send(line.as_bytes())?;
        let end = Instant::now() + PATIENCE;
        loop {
            let Some(message) = self.hear(end)? else {
                return Err(
                    NatsError::unfit(self.server(), format!("no answer from JetStream to {what}")).into()
                );
            };
            if self.named(&message) != Some(name.as_str()) {
                continue;
            }
            if message.status().is_some() {
                return Err(JetStreamError::NoJetStream);
            }
            let failure: Failed = self.read(&message.payload)?;
            return match failure.error {
                None => Ok(Some(self.read(&message.payload)?)),
                Some(error) if error.err_code == NO_STREAM => Err(JetStreamError::NoStream),
                Some(error) if error.code == 404 => Ok(None),
                Some(error) if error.err_code == NOT_ENABLED_FOR_ACCOUNT => Err(JetStreamError::NoJetStream),
                Some(error) => Err(NatsError::refused(self.server(), &error.words()).into()),
            };
        }
    }

    fn hear(&mut self, end: Instant) -> Result<Option<Message>, JetStreamError> {
        loop {
            match self.connection.hear_until(end)? {
                Some(Heard::Message(message)) => return Ok(Some(message)),
                Some(Heard::Error(said)) if said.starts_with("Permissions Violation") => {
                    return Err(JetStreamError::Denied(said));
                }
                Some(Heard::Error(said)) => return Err(NatsError::refused(self.server(), &said).into()),
                Some(Heard::Pong) => {}
                None => return Ok(None),
            }
        }
    }

    /// What it answers to.
    fn named<'a>(&self, message: &'a Message) -> Option<&'a str> {
        message.subject.strip_prefix(&self.inbox)?.strip_prefix('.')
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, payload: &[u8]) -> Result<T, NatsError> {
        serde_json::from_slice(payload).map_err(|error| {
            NatsError::unfit(self.server(), format!("an answer of JetStream can't be read: {error}"))
        })
    }
}

const WRONG_SEQUENCE: u32 = 10_071;
const NO_STREAM: u32 = 10_059;
const NOT_ENABLED_FOR_ACCOUNT: u32 = 10_039;

#[derive(Deserialize)]
struct Failed {
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    code: u32,
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

impl ApiError {
    fn words(&self) -> String {
        format!("{} ({})", one_line(&self.description, 300), self.err_code)
    }
}

#[derive(Deserialize)]
struct PubAck {
    error: Option<ApiError>,
    #[serde(default)]
    seq: u64,
}

#[derive(Deserialize)]
struct StreamInfo {
    config: StreamConfig,
    state: StreamState,
}

#[derive(Deserialize)]
struct StreamState {
    messages: u64,
    first_seq: u64,
    last_seq: u64,
}

#[derive(Deserialize)]
struct StreamConfig {
    #[serde(default)]
    subjects: Vec<String>,
    #[serde(default)]
    retention: String,
    #[serde(default)]
    no_ack: bool,
    #[serde(default)]
    sealed: bool,
}

impl StreamConfig {
    fn check(&self, below: &str) -> Result<(), String> {
        if !self.subjects.iter().any(|subject| covers(subject, below)) {
            return Err(format!("its subjects don't cover {below}; add that to them"));
        }
        if self.retention != "limits" {
            let retention = one_line(&self.retention, 40);
            return Err(format!(
                "its retention is {retention}, so that what is read leaves it, and with it the place where a \
                 mirror goes on; make one whose retention is limits"
            ));
        }
        if self.no_ack {
            return Err("it acknowledges nothing (no_ack); switch that off".to_owned());
        }
        if self.sealed {
            return Err("it is sealed and takes nothing any more; name another".to_owned());
        }
        Ok(())
    }
}

/// Whether all that a pattern matches is matched by this one too.
fn covers(pattern: &str, other: &str) -> bool {
    let (mut pattern, mut other) = (pattern.split('.'), other.split('.'));
    loop {
        match (pattern.next(), other.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(one), Some(token)) if one == token => {}
            _ => return false,
        }
    }
}

#[derive(Deserialize)]
struct Got {
    message: GotMessage,
}

#[derive(Deserialize)]
struct GotMessage {
    #[serde(default)]
    data: Option<String>,
}
