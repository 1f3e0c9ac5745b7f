//! A decoy's visitors: how many are let in, what they hear, what is written down.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::clock::{Clock as _, SystemClock};
use crate::lifecycle::{DeckyName, ServiceName, Timestamp};

use super::banners::{Talk, Then};
use super::files::{Decoy, Files, private};
use super::knock;
use super::options::{DecoyLimits, DecoyOptions};

/// How long somebody who says nothing may be the engine, before they are
/// written down as a visitor.
const INTRODUCTION: Duration = Duration::from_secs(1);

/// What the connections of one decoy share.
pub(super) struct Visits {
    service: String,
    hostname: String,
    greeting: Option<Vec<u8>>,
    /// The first line that makes a visitor the engine.
    call: Vec<u8>,
    decoy: Decoy,
    limits: DecoyLimits,
    /// How many connections each peer has open.
    open: Mutex<BTreeMap<IpAddr, usize>>,
    log: Mutex<()>,
    files: Files,
}

/// One line of the log.
#[derive(Serialize)]
struct Line<'l> {
    ts: Written,
    decky: &'l DeckyName,
    service: &'l ServiceName,
    peer: SocketAddr,
    event: &'l str,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
}

/// A time as RFC 3339 text.
struct Written(Timestamp);

impl Serialize for Written {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// One connection.
struct Visit<'v> {
    all: &'v Visits,
    peer: SocketAddr,
    came: Timestamp,
    /// Whether its coming stands in the log.
    is_told: bool,
    read: usize,
}

/// How a visit ended, if not by a broken connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Visitor,
    /// It was the engine, of which nothing is written down.
    Engine,
}

impl Visits {
    pub(super) fn new(options: &DecoyOptions, decoy: Decoy, files: Files) -> Self {
        Self {
            service: options.service.as_str().to_owned(),
            hostname: options.hostname.clone(),
            greeting: options.greeting.clone(),
            call: knock::line(&decoy.token),
            decoy,
            limits: options.limits,
            open: Mutex::default(),
            log: Mutex::new(()),
            files,
        }
    }

    /// Takes a connection, on a thread of its own; one too many is dropped.
    pub(super) fn take(all: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        if !all.admit(peer.ip()) {
            // Only the drop is left to do: a flood gets no thread and no line.
            return;
        }
        let shared = Arc::clone(all);
        let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
            let came = SystemClock::new().now();
            let mut visit = Visit { all: &shared, peer, came, is_told: false, read: 0 };
            // A broken connection is what connections here come to.
            if !matches!(visit.run(stream), Ok(End::Engine)) {
                visit.tell();
                shared.say(peer, SystemClock::new().now(), "close", None, Some(visit.read));
            }
            shared.leaves(peer.ip());
        });
        if thread.is_err() {
            all.leaves(peer.ip());
        }
    }

    fn talk(&self) -> Talk {
        match &self.greeting {
            Some(greeting) => Talk::own(greeting),
            None => Talk::of(&self.service, &self.hostname),
        }
    }

    /// Counts a connection in, if there is room for it.
    fn admit(&self, peer: IpAddr) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let of_peer = open.entry(peer).or_default();
        let has_room = all < self.limits.connections && *of_peer < self.limits.per_peer;
        if has_room {
            *of_peer += 1;
        } else if *of_peer == 0 {
            open.remove(&peer);
        }
        has_room
    }

    /// Counts a connection out.
    fn leaves(&self, peer: IpAddr) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_peer) = open.get_mut(&peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                open.remove(&peer);
            }
        }
    }

    /// Writes one line to the log. What a client tries is what the log is for.
    fn say(&self, peer: SocketAddr, at: Timestamp, event: &str, input: Option<&str>, bytes: Option<usize>) {
        let line = Line {
            ts: Written(at),
            decky: &self.decoy.decky,
            service: &self.decoy.service,
            peer,
            event,
            input: input.map(|input| input.chars().take(256).collect()),
            bytes,
        };
        let _turn = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.append(&line) {
            eprintln!("decoy: {}: {error}", self.files.log().display());
        }
    }

    fn append(&self, line: &Line<'_>) -> io::Result<()> {
        let path = self.files.log();
        let mut file = private().create(true).append(true).open(&path)?;
        if file.metadata()?.len() > self.limits.log {
            std::fs::rename(&path, path.with_extension("log.1"))?;
            file = private().create(true).append(true).open(&path)?;
        }
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        file.write_all(&text)
    }
}

impl Visit<'_> {
    /// Writes down that they came, once.
    fn tell(&mut self) {
        if !std::mem::replace(&mut self.is_told, true) {
            self.all.say(self.peer, self.came, "connect", None, None);
        }
    }

    fn run(&mut self, mut stream: TcpStream) -> io::Result<End> {
        let limits = self.all.limits;
        let until = Instant::now() + limits.total;
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(limits.idle))?;
        let mut talk = self.all.talk();
        stream.write_all(&talk.greeting)?;
        let mut line = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            let left = until.saturating_duration_since(Instant::now()).min(limits.idle);
            if left.is_zero() || self.read >= limits.bytes {
                return Ok(End::Visitor);
            }
            stream.set_read_timeout(Some(if self.is_told { left } else { left.min(INTRODUCTION) }))?;
            let count = match stream.read(&mut buffer) {
                Ok(0) => return Ok(End::Visitor),
                Ok(count) => count,
                Err(error) if !self.is_told && is_silence(&error) => {
                    self.tell();
                    continue;
                }
                Err(error) => return Err(error),
            };
            let said = buffer.get(..count).unwrap_or_default();
            if !self.is_told {
                let first = [line.as_slice(), said].concat();
                if first == self.all.call {
                    stream.write_all(knock::ANSWER)?;
                    return Ok(End::Engine);
                }
                if !self.all.call.starts_with(&first) {
                    self.tell();
                }
            }
            self.read += count;
            for byte in said {
                match byte {
                    b'\n' => {}
                    b'\r' => continue,
                    byte if line.len() < limits.line => {
                        line.push(*byte);
                        continue;
                    }
                    _ => return Ok(End::Visitor),
                }
                let text = String::from_utf8_lossy(&line).into_owned();
                line.clear();
                if !text.is_empty() {
                    self.all.say(self.peer, SystemClock::new().now(), "input", Some(&text), None);
                }
                let reply = talk.answer(&text);
                stream.write_all(&reply.bytes)?;
                if reply.then == Then::HangUp {
                    return Ok(End::Visitor);
                }
            }
        }
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
