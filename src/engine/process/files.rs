//! The files of one decoy, and what they say about it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::lifecycle::{DeckyName, ServiceName};

/// More than any file that a decoy writes for the engine holds.
const MAX_FILE: u64 = 4096;

/// What a decoy publishes once it listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) decky: DeckyName,
    pub(super) service: ServiceName,
    pub(super) hostname: String,
    pub(super) addr: SocketAddr,
    pub(super) pid: u32,
    pub(super) token: String,
    pub(super) started_at: String,
}

/// What is known of a decoy without asking the process table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody holds the lock.
    Dead,
    /// Somebody holds the lock, but has not (or no longer) published where it
    /// listens: a decoy that is starting or stopping, or a stranger.
    Silent,
    /// A decoy holds the lock and listens.
    Up(Ready),
}

/// The files of one decoy: one base path, one ending for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    base: PathBuf,
}

impl Files {
    pub(super) const fn at(base: PathBuf) -> Self {
        Self { base }
    }

    pub(super) fn of(dir: &Path, decky: &DeckyName, service: &ServiceName) -> Self {
        Self::at(dir.join(format!("{decky}.{service}")))
    }

    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// Held by the decoy for its life.
    pub(super) fn lock(&self) -> PathBuf {
        self.ending("lock")
    }

    /// Holds the token; the decoy stops once it is gone.
    pub(super) fn run(&self) -> PathBuf {
        self.ending("run")
    }

    pub(super) fn ready(&self) -> PathBuf {
        self.ending("ready")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.ending("log")
    }

    pub(super) fn old_log(&self) -> PathBuf {
        self.ending("log.1")
    }

    /// Standard output and standard error.
    pub(super) fn out(&self) -> PathBuf {
        self.ending("out")
    }

    fn ending(&self, ending: &str) -> PathBuf {
        let mut path = OsString::from(&self.base);
        path.push(".");
        path.push(ending);
        PathBuf::from(path)
    }

    /// The token in the run file; `None` if there is none that looks like one.
    pub(super) fn token(&self) -> io::Result<Option<String>> {
        Ok(read_small(&self.run())?.map(|text| text.trim().to_owned()).filter(|text| is_token(text)))
    }

    pub(super) fn read_ready(&self) -> io::Result<Option<Ready>> {
        Ok(read_small(&self.ready())?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    pub(super) fn write_token(&self, token: &str) -> io::Result<()> {
        replace(&self.run(), format!("{token}\n").as_bytes())
    }

    pub(super) fn write_ready(&self, ready: &Ready) -> io::Result<()> {
        replace(&self.ready(), &serde_json::to_vec(ready)?)
    }

    /// Removes what a decoy with this token has left, and nothing of anyone
    /// else's.
    pub(super) fn clear(&self, token: &str) -> io::Result<()> {
        if self.token()?.as_deref() == Some(token) {
            remove(&self.run())?;
        }
        if self.read_ready()?.is_some_and(|ready| ready.token == token) {
            remove(&self.ready())?;
        }
        Ok(())
    }

    /// Removes run and ready files that look like a decoy's, whoever's token
    /// they hold. Without a run file, a decoy stops.
    pub(super) fn recall(&self) -> io::Result<()> {
        if self.token()?.is_some() {
            remove(&self.run())?;
        }
        Ok(())
    }

    pub(super) fn forget_ready(&self) -> io::Result<()> {
        if self.read_ready()?.is_some() {
            remove(&self.ready())?;
        }
        Ok(())
    }

    /// Whether somebody holds the lock.
    pub(super) fn is_locked(&self) -> io::Result<bool> {
        let path = self.lock();
        // Opening a pipe with this name would block.
        if !is_file(&path)? {
            return Ok(false);
        }
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(err) => return Err(err),
        };
        // Shared, so that two who look at once don't take each other for a decoy.
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(err)) => Err(err),
        }
    }

    pub(super) fn state(&self, decky: &DeckyName, service: &ServiceName) -> io::Result<State> {
        if !self.is_locked()? {
            return Ok(State::Dead);
        }
        let token = self.token()?;
        let ready = self.read_ready()?;
        Ok(match ready {
            Some(ready)
                if token.as_deref() == Some(ready.token.as_str())
                    && ready.decky == *decky
                    && ready.service == *service =>
            {
                State::Up(ready)
            }
            _ => State::Silent,
        })
    }
}

/// A token that nobody else has.
pub(super) fn new_token() -> String {
    format!("{:032x}", fastrand::u128(..))
}

fn is_token(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Makes the directory, readable by its owner only.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mode = fs::metadata(dir)?.permissions().mode();
    // Who may write here can stop decoys and pretend to be one.
    if mode & 0o022 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("others may write there (mode {:o}); run `chmod 700` on it", mode & 0o7777),
        ));
    }
    Ok(())
}

/// The decoys that the directory has files of, alive or not.
pub(super) fn list(dir: &Path, only: Option<&DeckyName>) -> io::Result<BTreeSet<(DeckyName, ServiceName)>> {
    let mut found = BTreeSet::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(err) => return Err(err),
    };
    for entry in entries {
        let name = entry?.file_name();
        let Some((decky, service)) = name.to_str().and_then(parse_name) else { continue };
        if only.is_none_or(|only| *only == decky) {
            found.insert((decky, service));
        }
    }
    Ok(found)
}

fn parse_name(name: &str) -> Option<(DeckyName, ServiceName)> {
    let mut parts = name.split('.');
    let (decky, service, ending) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || !matches!(ending, "lock" | "run" | "ready") {
        return None;
    }
    Some((DeckyName::parse(decky).ok()?, ServiceName::parse(service).ok()?))
}

/// Opens a file to append to, for its owner only.
pub(super) fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Opens a file to lock, for its owner only.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    // A new file of its own, 0600 from the start; readers see it whole or not.
    let mut temp = tempfile::Builder::new().prefix(".decoy-").tempfile_in(dir)?;
    temp.write_all(bytes)?;
    temp.persist(path).map_err(|err| err.error)?;
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

fn is_file(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(meta.is_file()),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err),
    }
}

/// The text of a small file; `None` if it isn't there or isn't small text.
fn read_small(path: &Path) -> io::Result<Option<String>> {
    if !is_file(path)? {
        return Ok(None);
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(err),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Ok(None);
    }
    Ok(String::from_utf8(bytes).ok())
}
