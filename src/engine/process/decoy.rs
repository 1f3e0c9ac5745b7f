//! The decoy process: listens, talks, logs who came, and stops when told.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::clock::{Clock as _, SystemClock};
use crate::lifecycle::{DeckyName, NameError, ServiceName, Timestamp};

use super::banners::{Talk, Then};
use super::files::{Decoy, Files, private};

/// Bounds on what clients can make a decoy do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecoyLimits {
    /// Connections at once; more are closed as they come.
    pub connections: usize,
    /// Connections at once from one address.
    pub per_peer: usize,
    /// How long a client may be silent.
    pub idle: Duration,
    /// How long a connection may last.
    pub total: Duration,
    /// Bytes read from one connection.
    pub bytes: usize,
    /// Bytes of one line.
    pub line: usize,
    /// Bytes of the log before it is moved to `.log.1`.
    pub log: u64,
}

impl Default for DecoyLimits {
    fn default() -> Self {
        Self {
            connections: 64,
            per_peer: 16,
            idle: Duration::from_secs(10),
            total: Duration::from_secs(60),
            bytes: 64 << 10,
            line: 1 << 10,
            log: 8 << 20,
        }
    }
}

/// What a decoy is told on its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecoyOptions {
    /// The decky that it is a service of.
    pub decky: DeckyName,
    /// The service it plays.
    pub service: ServiceName,
    /// The host name it shows.
    pub hostname: String,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Its files, without their endings.
    pub home: PathBuf,
    /// Bounds on its clients.
    pub limits: DecoyLimits,
}

/// Why a decoy could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecoyError {
    /// The command line isn't one of a decoy.
    #[error("decoy: {0}; decoys are started by `deploy`")]
    Usage(String),
    /// A name was refused.
    #[error("decoy: {0}")]
    Name(#[from] NameError),
    /// It was not started by an engine, or that engine wants it no more.
    #[error("decoy: {} holds no token; decoys are started by `deploy`", .0.display())]
    Unwanted(PathBuf),
    /// Another decoy lives under the same files.
    #[error("decoy: another one is at work under {}", .0.display())]
    Twice(PathBuf),
    /// It can't listen there.
    #[error("can't listen on {addr}: {source}; is the port in use?")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Its files can't be read or written.
    #[error("decoy files {}: {source}", path.display())]
    Files {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl DecoyOptions {
    /// Reads a decoy's command line, without the program's name and the word
    /// `decoy`: `--service S --listen ADDR --decky D --hostname H --home BASE`.
    ///
    /// # Errors
    /// [`DecoyError::Usage`] and [`DecoyError::Name`].
    ///
    /// ```
    /// use decnet_lifecycle::process::DecoyOptions;
    ///
    /// let words = "--service ssh --listen 127.0.0.1:0 --decky decky-01 --hostname srv --home /tmp/x";
    /// let options = DecoyOptions::from_args(words.split(' ').map(Into::into))?;
    /// assert_eq!(options.service.as_str(), "ssh");
    /// # Ok::<(), decnet_lifecycle::process::DecoyError>(())
    /// ```
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, DecoyError> {
        let mut words = args.into_iter();
        let mut given = BTreeMap::new();
        while let Some(option) = words.next() {
            let option = option.to_string_lossy().into_owned();
            let value = words.next().ok_or_else(|| DecoyError::Usage(format!("{option} has no value")))?;
            given.insert(option, value);
        }
        let mut take = |option: &str| {
            given.remove(option).ok_or_else(|| DecoyError::Usage(format!("{option} is missing")))
        };
        let text = |value: OsString| value.to_string_lossy().into_owned();
        let options = Self {
            decky: DeckyName::parse(&text(take("--decky")?))?,
            service: ServiceName::parse(&text(take("--service")?))?,
            hostname: text(take("--hostname")?),
            listen: text(take("--listen")?)
                .parse()
                .map_err(|_| DecoyError::Usage("--listen wants IP:PORT".into()))?,
            home: PathBuf::from(take("--home")?),
            limits: DecoyLimits::default(),
        };
        match given.keys().next() {
            Some(option) => Err(DecoyError::Usage(format!("{option} is not known"))),
            None => Ok(options),
        }
    }
}

/// Plays one service until the engine no longer wants it: until its `.run`
/// file is gone or holds another token. Blocks.
///
/// # Errors
/// [`DecoyError`] if it can't begin.
pub fn run_decoy(options: &DecoyOptions) -> Result<(), DecoyError> {
    let files = Files::of_base(&options.home);
    let failed = |source| DecoyError::Files { path: options.home.clone(), source };
    let token = files.token().map_err(failed)?.ok_or_else(|| DecoyError::Unwanted(options.home.clone()))?;
    let lock = files.lock().map_err(failed)?.ok_or_else(|| DecoyError::Twice(options.home.clone()))?;
    let cannot = |source| DecoyError::Listen { addr: options.listen, source };
    let listener = TcpListener::bind(options.listen).map_err(cannot)?;
    listener.set_nonblocking(true).map_err(cannot)?;
    let decoy = Decoy {
        decky: options.decky.clone(),
        service: options.service.clone(),
        addr: listener.local_addr().map_err(cannot)?,
        pid: std::process::id(),
        since: SystemClock::new().now(),
        token: token.clone(),
    };
    files.set_ready(&decoy).map_err(failed)?;
    let house = Arc::new(House {
        talk: (options.service.as_str().to_owned(), options.hostname.clone()),
        decoy,
        limits: options.limits,
        guests: Mutex::default(),
        log: Mutex::new(()),
        files: files.clone(),
    });
    let mut looked = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, peer)) => House::welcome(&house, stream, peer),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(20))
            }
            // Out of descriptors, or a client that was gone again: go on.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
        if looked.elapsed() > Duration::from_millis(200) {
            looked = Instant::now();
            if !matches!(files.token(), Ok(Some(now)) if now == token) {
                break;
            }
        }
    }
    drop(listener);
    drop(lock);
    Ok(())
}

/// What the connections of one decoy share.
struct House {
    talk: (String, String),
    decoy: Decoy,
    limits: DecoyLimits,
    guests: Mutex<BTreeMap<IpAddr, usize>>,
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

impl House {
    fn welcome(house: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        if !house.let_in(peer.ip()) {
            // Only the drop is left to do: a flood gets no thread and no line.
            return;
        }
        let host = Arc::clone(house);
        let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
            host.say(peer, "connect", None, None);
            let mut read = 0;
            // A broken connection is what connections here come to.
            let _ = host.entertain(stream, peer, &mut read);
            host.say(peer, "close", None, Some(read));
            host.see_out(peer.ip());
        });
        if thread.is_err() {
            house.see_out(peer.ip());
        }
    }

    fn let_in(&self, peer: IpAddr) -> bool {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = guests.values().sum();
        let of_peer = guests.entry(peer).or_default();
        let welcome = all < self.limits.connections && *of_peer < self.limits.per_peer;
        if welcome {
            *of_peer += 1;
        } else if *of_peer == 0 {
            guests.remove(&peer);
        }
        welcome
    }

    fn see_out(&self, peer: IpAddr) {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_peer) = guests.get_mut(&peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                guests.remove(&peer);
            }
        }
    }

    fn entertain(&self, mut stream: TcpStream, peer: SocketAddr, read: &mut usize) -> io::Result<()> {
        let until = Instant::now() + self.limits.total;
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(self.limits.idle))?;
        let mut talk = Talk::of(&self.talk.0, &self.talk.1);
        stream.write_all(&talk.greeting)?;
        let mut line = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            let left = until.saturating_duration_since(Instant::now()).min(self.limits.idle);
            if left.is_zero() || *read >= self.limits.bytes {
                return Ok(());
            }
            stream.set_read_timeout(Some(left))?;
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            *read += count;
            for byte in buffer.iter().take(count) {
                match byte {
                    b'\n' => {}
                    b'\r' => continue,
                    byte if line.len() < self.limits.line => {
                        line.push(*byte);
                        continue;
                    }
                    _ => return Ok(()),
                }
                let text = String::from_utf8_lossy(&line).into_owned();
                line.clear();
                if !text.is_empty() {
                    self.say(peer, "input", Some(&text), None);
                }
                let reply = talk.answer(&text);
                stream.write_all(&reply.bytes)?;
                if reply.then == Then::HangUp {
                    return Ok(());
                }
            }
        }
    }

    /// Writes one line to the log. What a client tries is what the log is for.
    fn say(&self, peer: SocketAddr, event: &str, input: Option<&str>, bytes: Option<usize>) {
        let line = Line {
            ts: Written(SystemClock::new().now()),
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
