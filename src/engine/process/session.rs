//! One client's connection, within bounds.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::limits::DecoyLimits;

/// How much of what a client says is kept for the log.
const KEPT: usize = 256;
/// How long the last answer gets to arrive.
const LINGER: Duration = Duration::from_millis(200);

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The client closed it.
    Closed,
    /// The client was silent for too long, or took no answer.
    Idle,
    /// It lasted too long.
    Overtime,
    /// The client sent too much.
    Flood,
    /// The client sent too long a line.
    LongLine,
    /// The network broke it.
    Broken,
}

impl End {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Idle => "idle",
            Self::Overtime => "overtime",
            Self::Flood => "flood",
            Self::LongLine => "long-line",
            Self::Broken => "broken",
        }
    }
}

/// One client's connection.
#[derive(Debug)]
pub(super) struct Session<'a> {
    stream: &'a TcpStream,
    limits: &'a DecoyLimits,
    /// What the decoy calls its host.
    pub(super) hostname: &'a str,
    pub(super) peer: SocketAddr,
    started: Instant,
    waiting: std::collections::VecDeque<u8>,
    bytes: usize,
    kept: Vec<u8>,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        stream: &'a TcpStream,
        peer: SocketAddr,
        hostname: &'a str,
        limits: &'a DecoyLimits,
    ) -> Self {
        Self {
            stream,
            limits,
            hostname,
            peer,
            started: Instant::now(),
            waiting: std::collections::VecDeque::new(),
            bytes: 0,
            kept: Vec::new(),
        }
    }

    /// Bytes read so far.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first bytes that the client sent.
    pub(super) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> Result<u8, End> {
        loop {
            if let Some(byte) = self.waiting.pop_front() {
                return Ok(byte);
            }
            self.fill()?;
        }
    }

    /// The next line, without its end.
    pub(super) fn line(&mut self) -> Result<Vec<u8>, End> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => break,
                byte => line.push(byte),
            }
            self.check_line(&line)?;
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(line)
    }

    /// Refuses a line that is too long.
    pub(super) fn check_line(&self, line: &[u8]) -> Result<(), End> {
        if line.len() > self.limits.line { Err(End::LongLine) } else { Ok(()) }
    }

    /// The next line as text of printable ASCII, so that it can be sent back.
    pub(super) fn text(&mut self) -> Result<String, End> {
        let line = self.line()?;
        Ok(line.into_iter().filter(|b| b.is_ascii_graphic() || *b == b' ').map(char::from).collect())
    }

    /// This many bytes.
    pub(super) fn exactly(&mut self, count: usize) -> Result<Vec<u8>, End> {
        if count > self.limits.input {
            return Err(End::Flood);
        }
        let mut bytes = Vec::new();
        while bytes.len() < count {
            bytes.push(self.byte()?);
        }
        Ok(bytes)
    }

    /// Reads until something ends the connection.
    pub(super) fn drain(&mut self) -> Result<(), End> {
        loop {
            self.waiting.clear();
            self.fill()?;
        }
    }

    pub(super) fn send(&mut self, text: &str) -> Result<(), End> {
        self.send_bytes(text.as_bytes())
    }

    pub(super) fn send_bytes(&mut self, mut bytes: &[u8]) -> Result<(), End> {
        let mut stream = self.stream;
        while !bytes.is_empty() {
            // Anew for each write: a client that takes one byte at a time
            // can't stretch the connection beyond its end.
            stream.set_write_timeout(Some(self.patience()?)).map_err(|_| End::Broken)?;
            match stream.write(bytes) {
                Ok(0) => return Err(End::Closed),
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(self.reason(&err)),
            }
        }
        Ok(())
    }

    /// Closes so that the last answer still arrives: a close with unread
    /// input in the way would reset the connection.
    pub(super) fn finish(&mut self) {
        let mut stream = self.stream;
        let _ = stream.shutdown(Shutdown::Write);
        let until = Instant::now() + LINGER;
        let mut sink = [0; 1024];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
                break;
            }
            if !matches!(stream.read(&mut sink), Ok(1..)) {
                break;
            }
        }
    }

    fn fill(&mut self) -> Result<(), End> {
        let mut buffer = [0; 2048];
        let room = self.limits.input.saturating_sub(self.bytes).min(buffer.len());
        let Some(window) = buffer.get_mut(..room).filter(|window| !window.is_empty()) else {
            return Err(End::Flood);
        };
        let mut stream = self.stream;
        stream.set_read_timeout(Some(self.patience()?)).map_err(|_| End::Broken)?;
        let count = match stream.read(window) {
            Ok(0) => return Err(End::Closed),
            Ok(count) => count,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(err) => return Err(self.reason(&err)),
        };
        let new = window.get(..count).unwrap_or_default();
        self.bytes += count;
        let wanted = KEPT.saturating_sub(self.kept.len()).min(count);
        self.kept.extend_from_slice(new.get(..wanted).unwrap_or_default());
        self.waiting.extend(new);
        Ok(())
    }

    /// How long to wait now; a time-out of zero would mean for ever.
    fn patience(&self) -> Result<Duration, End> {
        let left = self.limits.total.saturating_sub(self.started.elapsed());
        if left.is_zero() { Err(End::Overtime) } else { Ok(left.min(self.limits.idle).max(Duration::from_millis(1))) }
    }

    fn reason(&self, err: &io::Error) -> End {
        match err.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut if self.started.elapsed() >= self.limits.total => {
                End::Overtime
            }
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => End::Idle,
            _ => End::Broken,
        }
    }
}
