//! The files by which an engine and its decoys find each other.
//!
//! For each decoy: `<decky>.<service>.lock`, which the decoy holds locked for
//! as long as it lives; `.run` with the token that it was started under, whose
//! removal tells it to stop; `.ready` with where it listens. Nobody is ever
//! stopped by a process id, which may be a stranger's by now.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::lifecycle::{DeckyName, ServiceName, Timestamp};

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
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
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

    /// Tells the decoy to stop.
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

/// The decoys whose `.ready` files lie in a directory, alive or not.
pub(super) fn known(dir: &Path) -> io::Result<Vec<Decoy>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != "ready") {
            continue;
        }
        let decoy = Files::of_base(&path.with_extension("")).ready()?;
        // A file whose content names another decoy isn't one of ours.
        found.extend(
            decoy.filter(|decoy| {
                Files::new(dir, &decoy.decky, &decoy.service).base() == path.with_extension("")
            }),
        );
    }
    found.sort_by(|a, b| (&a.decky, &a.service).cmp(&(&b.decky, &b.service)));
    Ok(found)
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

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("the path has no directory"))?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
