//! Frames of DECNET's bus: written, and taken off what was received.

/// What a frame is for. Facts: the original's wire, as observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// A client's name for itself.
    Hello,
    /// An event to carry, by topic.
    Pub,
    /// A pattern of topics to hear.
    Sub,
    /// A pattern to hear no longer.
    Unsub,
    /// An event, from the server to a subscriber.
    Evt,
    /// The end.
    Bye,
}

impl Verb {
    const ALL: [Self; 6] = [Self::Hello, Self::Pub, Self::Sub, Self::Unsub, Self::Evt, Self::Bye];

    /// As it stands in a frame.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hello => "HELLO",
            Self::Pub => "PUB",
            Self::Sub => "SUB",
            Self::Unsub => "UNSUB",
            Self::Evt => "EVT",
            Self::Bye => "BYE",
        }
    }
}

/// One frame: `VERB[ argument]\n`, four bytes of length (big-endian), a body.
///
/// ```
/// use decnet_lifecycle::bus::unix::{Frame, Verb};
///
/// let frame = Frame::new(Verb::Sub, "decky.*.lifecycle", Vec::new())?;
/// assert_eq!(frame.to_bytes(), b"SUB decky.*.lifecycle\n\0\0\0\0");
///
/// let mut received = frame.to_bytes();
/// assert_eq!(Frame::take(&mut received)?, Some(frame));
/// assert!(received.is_empty());
/// # Ok::<(), decnet_lifecycle::bus::unix::FrameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    verb: Verb,
    argument: String,
    body: Vec<u8>,
}

/// Bytes that aren't a frame. Whoever sent them can't be understood any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The first line has no end, or holds what a line may not.
    #[error("not a frame of DECNET's bus: its first line is no `VERB argument` of at most 4,096 ASCII bytes")]
    Line,
    /// The line starts with no known verb.
    #[error("not a frame of DECNET's bus: {0:?} is no verb of it")]
    Verb(String),
    /// The body is longer than any.
    #[error("a frame's body of {0} bytes is longer than the 1 MiB that the bus allows")]
    Body(usize),
}

impl Frame {
    /// The longest first line, its end included.
    pub const MAX_LINE: usize = 4_096;
    /// The longest body: 1 MiB.
    pub const MAX_BODY: usize = 1 << 20;

    /// A frame that can be sent.
    ///
    /// # Errors
    /// The argument doesn't fit on the line, or the body is too long.
    pub fn new(verb: Verb, argument: &str, body: Vec<u8>) -> Result<Self, FrameError> {
        let plain = argument.chars().all(|c| c.is_ascii_graphic() || c == ' ');
        if !plain || verb.as_str().len() + argument.len() + " \n".len() > Self::MAX_LINE {
            return Err(FrameError::Line);
        }
        if body.len() > Self::MAX_BODY {
            return Err(FrameError::Body(body.len()));
        }
        Ok(Self { verb, argument: argument.to_owned(), body })
    }

    /// What it is for.
    #[must_use]
    pub const fn verb(&self) -> Verb {
        self.verb
    }

    /// What stands after the verb: a name, a topic, a pattern.
    #[must_use]
    pub fn argument(&self) -> &str {
        &self.argument
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// As it is sent.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.verb.as_str().as_bytes().to_vec();
        if !self.argument.is_empty() {
            bytes.push(b' ');
            bytes.extend_from_slice(self.argument.as_bytes());
        }
        bytes.push(b'\n');
        // Checked against MAX_BODY when it was made.
        let length = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Takes the first frame off what was received; none if it isn't whole
    /// yet. At most [`MAX_LINE`](Self::MAX_LINE) and
    /// [`MAX_BODY`](Self::MAX_BODY) bytes need ever be kept for one.
    ///
    /// # Errors
    /// The bytes aren't a frame, whatever may follow.
    pub fn take(received: &mut Vec<u8>) -> Result<Option<Self>, FrameError> {
        let line_end = received.iter().take(Self::MAX_LINE).position(|byte| *byte == b'\n');
        let Some(line_end) = line_end else {
            return if received.len() < Self::MAX_LINE { Ok(None) } else { Err(FrameError::Line) };
        };
        let line = received.get(..line_end).unwrap_or_default();
        let line = std::str::from_utf8(line).map_err(|_| FrameError::Line)?;
        let line = line.strip_suffix('\r').unwrap_or(line);
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        let known = Verb::ALL.into_iter().find(|known| known.as_str() == verb);
        let verb = known.ok_or_else(|| FrameError::Verb(verb.chars().take(40).collect()))?;
        let Some((length, rest)) = received.get(line_end + 1..).and_then(<[u8]>::split_first_chunk::<4>)
        else {
            // What is wrong already need not wait for more.
            return Self::new(verb, argument, Vec::new()).map(|_| None);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > Self::MAX_BODY {
            return Err(FrameError::Body(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let frame = Self::new(verb, argument, body.to_vec())?;
        received.drain(..line_end + 1 + 4 + length);
        Ok(Some(frame))
    }
}
