//! The files by which an engine and its decoys find each other.
//!
//! For each decoy: `<decky>.<service>.lock`, which the decoy holds locked for
//! as long as it lives; `.run` with the token that it was started under, whose
//! removal tells it to stop; `.ready` with where it listens. Nobody is ever
//! stopped by a process id, which may be a stranger's by now.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lifecycle::{DeckyName, ServiceName, Timestamp};
use crate::private_file::replace;

/// How long a decoy that begins waits for its lock: who looks whether it lives
/// holds it for a moment.
const LOOKS: (u32, Duration) = (300, Duration::from_millis(10));
/// The largest file of ours that is read.
const MAX_BYTES: u64 = 16 << 10;

/// The files of one decoy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    base: PathBuf,
}

/// What a decoy writes once it listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decoy {
    /// The decky that it is a service of.
    pub decky: DeckyName,
    /// The service it plays.
    pub service: ServiceName,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its process id; to show, never to signal.
    pub pid: u32,
    /// When it began to listen.
    pub since: Timestamp,
    /// What it was started under.
    pub(super) token: String,
}

impl Files {
    pub(super) fn new(dir: &Path, decky: &DeckyName, service: &ServiceName) -> Self {
        Self { base: dir.join(format!("{decky}.{service}")) }
    }

    pub(super) fn of_base(base: &Path) -> Self {
        Self { base: base.to_owned() }
    }

    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    fn with(&self, ending: &str) -> PathBuf {
        let mut name = self.base.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.with(".log")
    }

    pub(super) fn errors(&self) -> PathBuf {
        self.with(".err")
    }

    /// Takes the lock that says "this decoy lives"; none if another has it.
    pub(super) fn lock(&self) -> io::Result<Option<File>> {
        let file = private().create(true).truncate(false).write(true).open(self.with(".lock"))?;
        let (tries, pause) = LOOKS;
        for _ in 0..tries {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) => thread::sleep(pause),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Whether a decoy lives under these files.
    pub(super) fn is_alive(&self) -> io::Result<bool> {
        match File::open(self.with(".lock")) {
            Ok(file) => match file.try_lock_shared() {
                Ok(()) => Ok(false),
                Err(TryLockError::WouldBlock) => Ok(true),
                Err(TryLockError::Error(error)) => Err(error),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn token(&self) -> io::Result<Option<String>> {
        read(&self.with(".run")).map(|bytes| bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    pub(super) fn set_token(&self, token: &str) -> io::Result<()> {
        replace(&self.with(".run"), token.as_bytes())
    }

    /// Tells the decoy to stop; it looks when it is next called on.
    pub(super) fn stop(&self) -> io::Result<()> {
        remove(&self.with(".run"))
    }

    pub(super) fn ready(&self) -> io::Result<Option<Decoy>> {
        Ok(read(&self.with(".ready"))?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    pub(super) fn set_ready(&self, decoy: &Decoy) -> io::Result<()> {
        replace(&self.with(".ready"), &serde_json::to_vec(decoy)?)
    }

    pub(super) fn forget_ready(&self) -> io::Result<()> {
        remove(&self.with(".ready"))
    }
}

/// What the files say of one decoy.
#[derive(Debug, Clone)]
pub(super) struct Trace {
    pub(super) decky: DeckyName,
    pub(super) service: ServiceName,
    pub(super) state: State,
    /// What it said of itself, if it has come so far.
    pub(super) decoy: Option<Decoy>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It lives and is wanted.
    Running,
    /// It lives, but doesn't listen yet.
    Starting,
    /// It lives and was told to stop.
    Stopping,
    /// It is wanted, was up and doesn't live.
    Dead,
    /// It is wanted and was never up: it is just being started, or whoever
    /// started it was killed.
    NotUp,
}

impl State {
    pub(super) const fn lives(self) -> bool {
        matches!(self, Self::Running | Self::Starting | Self::Stopping)
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Starting => "starting",
            Self::Stopping => "stopping",
            Self::Dead => "dead",
            Self::NotUp => "not up",
        }
    }
}

/// All decoys in a directory that are wanted or alive, by decky and service.
pub(super) fn traces(dir: &Path) -> io::Result<Vec<Trace>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut named = BTreeSet::new();
    for entry in entries {
        named.extend(entry?.file_name().to_str().and_then(decoy_of));
    }
    let mut traces = Vec::with_capacity(named.len());
    for (decky, service) in named {
        traces.extend(trace(dir, decky, service)?);
    }
    Ok(traces)
}

/// Whose file this is, if it is one that a decoy that is wanted or alive has.
fn decoy_of(file: &str) -> Option<(DeckyName, ServiceName)> {
    let base = file.strip_suffix(".run").or_else(|| file.strip_suffix(".lock"))?;
    let (decky, service) = base.split_once('.')?;
    Some((DeckyName::parse(decky).ok()?, ServiceName::parse(service).ok()?))
}

fn trace(dir: &Path, decky: DeckyName, service: ServiceName) -> io::Result<Option<Trace>> {
    let files = Files::new(dir, &decky, &service);
    let token = files.token()?;
    let lives = files.is_alive()?;
    // A file whose content names another decoy isn't one of ours.
    let decoy = files.ready()?.filter(|decoy| decoy.decky == decky && decoy.service == service);
    let is_ready = token.is_some() && token.as_ref() == decoy.as_ref().map(|decoy| &decoy.token);
    let state = match (token.is_some(), lives) {
        (false, false) => return Ok(None),
        (false, true) => State::Stopping,
        (true, true) if is_ready => State::Running,
        (true, true) => State::Starting,
        (true, false) if is_ready => State::Dead,
        (true, false) => State::NotUp,
    };
    Ok(Some(Trace { decky, service, state, decoy }))
}

/// Options for a file that only its owner reads.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MAX_BYTES).read_to_end(&mut bytes).map(|_| Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
