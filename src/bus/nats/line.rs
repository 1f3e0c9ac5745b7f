//! What a NATS server says: taken off what was received.

use serde::Deserialize;

/// One thing that a server says.
///
/// ```
/// use decnet_lifecycle::bus::nats::ServerLine;
///
/// let mut received = b"PING\r\nMSG decky.a 1 2\r\nhi\r\n+O".to_vec();
/// assert_eq!(ServerLine::take(&mut received)?, Some(ServerLine::Ping));
/// let Some(ServerLine::Message(message)) = ServerLine::take(&mut received)? else { panic!("not yet whole") };
/// assert_eq!((message.subject.as_str(), message.payload.as_slice()), ("decky.a", &b"hi"[..]));
/// assert_eq!(ServerLine::take(&mut received)?, None);
/// assert_eq!(received, b"+O");
/// # Ok::<(), decnet_lifecycle::bus::nats::LineError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerLine {
    /// What it is and asks for: its first line, and later ones when something
    /// changed.
    Info(ServerInfo),
    /// A message of a subscription.
    Message(Message),
    /// It wants to hear a PONG.
    Ping,
    /// It answers a PING: all that was sent before has been read.
    Pong,
    /// It took a line, where it was asked to say so.
    Ok,
    /// Something is wrong, in its own words.
    Error(String),
}

/// What of a server's INFO matters here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Its version.
    pub version: String,
    /// The longest message that it takes, headers included.
    pub max_payload: usize,
    /// Whether it speaks TLS alone.
    pub tls_required: bool,
    /// Whether it speaks TLS to who asks for it.
    pub tls_available: bool,
    /// Whether messages may have headers.
    pub headers: bool,
    /// What a client with a key signs.
    pub nonce: Option<String>,
    /// Whether it is about to stop, and wants its clients to go elsewhere.
    pub ldm: bool,
}

impl Default for ServerInfo {
    fn default() -> Self {
        Self {
            version: String::new(),
            max_payload: 1 << 20,
            tls_required: false,
            tls_available: false,
            headers: false,
            nonce: None,
            ldm: false,
        }
    }
}

/// A message, as a subscriber gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// What it was published on.
    pub subject: String,
    /// Which subscription it is for.
    pub subscription: u64,
    /// Where an answer is wanted.
    pub reply: Option<String>,
    /// Its headers, as they came; empty if it has none.
    pub headers: Vec<u8>,
    /// What it says.
    pub payload: Vec<u8>,
}

impl Message {
    /// The status in its headers: 503 where nobody hears a request.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        let line = self.headers.split(|byte| *byte == b'\r').next()?;
        let status = line.strip_prefix(b"NATS/1.0 ")?.get(..3)?;
        std::str::from_utf8(status).ok()?.parse().ok()
    }
}

/// Bytes that no NATS server says. Whoever sent them can't be understood any
/// more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// A line has no end, or holds what a line may not.
    #[error("not a NATS server: a line is longer than 65,536 bytes, or no text")]
    Line,
    /// A line starts with no known word.
    #[error("not a NATS server: it starts a line with {0:?}")]
    Word(String),
    /// A known word, and not what has to follow it.
    #[error("not a NATS server: what follows {0} can't be understood")]
    Arguments(&'static str),
    /// A message is longer than any that is wanted here.
    #[error("a message of {0} bytes is longer than the 4 MiB that are read")]
    Payload(usize),
}

impl ServerLine {
    /// The longest line, its end included.
    pub const MAX_LINE: usize = 64 << 10;
    /// The longest message that is read, headers included: 4 MiB.
    pub const MAX_PAYLOAD: usize = 4 << 20;

    /// Takes the first thing off what was received; none if it isn't whole
    /// yet, and then nothing is taken.
    ///
    /// # Errors
    /// The bytes are nothing that a server says, whatever may follow.
    pub fn take(received: &mut Vec<u8>) -> Result<Option<Self>, LineError> {
        let end = received.iter().take(Self::MAX_LINE).position(|byte| *byte == b'\n');
        let Some(end) = end else {
            return if received.len() < Self::MAX_LINE { Ok(None) } else { Err(LineError::Line) };
        };
        let (line, rest) = received.split_at(end);
        let rest = rest.get(1..).unwrap_or_default();
        let line = std::str::from_utf8(line).map_err(|_| LineError::Line)?;
        let line = line.strip_suffix('\r').unwrap_or(line);
        let (word, arguments) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let is = |known: &str| word.eq_ignore_ascii_case(known);
        let said = if is("MSG") || is("HMSG") {
            let head = Head::parse(arguments, is("HMSG"))?;
            let Some((message, length)) = head.message(rest)? else { return Ok(None) };
            received.drain(..end + 1 + length);
            return Ok(Some(Self::Message(message)));
        } else if is("PING") {
            Self::Ping
        } else if is("PONG") {
            Self::Pong
        } else if is("+OK") {
            Self::Ok
        } else if is("-ERR") {
            Self::Error(arguments.trim().trim_matches('\'').to_owned())
        } else if is("INFO") {
            let wrong = LineError::Arguments("INFO");
            // Fields without their names would be taken, too.
            if !arguments.trim_start().starts_with('{') {
                return Err(wrong);
            }
            Self::Info(serde_json::from_str(arguments).map_err(|_| wrong)?)
        } else {
            return Err(LineError::Word(word.chars().take(40).collect()));
        };
        received.drain(..=end);
        Ok(Some(said))
    }
}

/// The line before a message's bytes.
struct Head<'a> {
    subject: &'a str,
    subscription: u64,
    reply: Option<&'a str>,
    headers: usize,
    total: usize,
}

impl<'a> Head<'a> {
    fn parse(arguments: &'a str, has_headers: bool) -> Result<Self, LineError> {
        let wrong = LineError::Arguments(if has_headers { "HMSG" } else { "MSG" });
        let words: Vec<&str> = arguments.split_ascii_whitespace().take(6).collect();
        // SUBJECT SUBSCRIPTION [REPLY] [HEADERS] TOTAL
        let (subject, subscription, reply, headers, total) = match (words.as_slice(), has_headers) {
            ([subject, sid, total], false) => (*subject, sid, None, "0", total),
            ([subject, sid, reply, total], false) => (*subject, sid, Some(*reply), "0", total),
            ([subject, sid, headers, total], true) => (*subject, sid, None, *headers, total),
            ([subject, sid, reply, headers, total], true) => (*subject, sid, Some(*reply), *headers, total),
            _ => return Err(wrong),
        };
        let number = |word: &str| word.parse::<usize>().map_err(|_| wrong.clone());
        let (headers, total) = (number(headers)?, number(total)?);
        if headers > total {
            return Err(wrong);
        }
        if total > ServerLine::MAX_PAYLOAD {
            return Err(LineError::Payload(total));
        }
        let subscription = subscription.parse().map_err(|_| wrong)?;
        Ok(Self { subject, subscription, reply, headers, total })
    }

    /// The message and how many bytes it took; none if they aren't all there.
    fn message(&self, rest: &[u8]) -> Result<Option<(Message, usize)>, LineError> {
        let Some((bytes, end)) = rest.split_at_checked(self.total) else { return Ok(None) };
        match end {
            [b'\r', b'\n', ..] => {}
            [] | [b'\r'] => return Ok(None),
            _ => return Err(LineError::Arguments("a message")),
        }
        let (headers, payload) = bytes.split_at_checked(self.headers).unwrap_or((bytes, &[]));
        let message = Message {
            subject: self.subject.to_owned(),
            subscription: self.subscription,
            reply: self.reply.map(str::to_owned),
            headers: headers.to_vec(),
            payload: payload.to_vec(),
        };
        Ok(Some((message, self.total + 2)))
    }
}
