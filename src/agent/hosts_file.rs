//! The file of worker hosts: addresses and pins, changed under a lock and replaced as a whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::lifecycle::HostId;
use crate::private_file::replace;

use super::address::Address;
use super::{DirectoryError, Fingerprint, Host, HostDirectory, Pin};

/// The longest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Hosts in a file: `{"hosts": [{"id", "address", "pins" | "ca_only": true}]}`.
///
/// The file is read again when it has changed, and replaced as a whole, 0600;
/// those who change it at the same time wait for each other. One that is broken
/// by hand while somebody reads it leaves what was read before in force, and the
/// log says so ([`trouble`](Self::trouble)).
///
/// ```
/// use decnet_lifecycle::{HostId, agent::{Fingerprint, Host, HostDirectory, HostsFile, Pin}};
///
/// # let dir = tempfile::tempdir()?;
/// let hosts = HostsFile::new(dir.path().join("hosts.json"));
/// let (old, new) = (Fingerprint::of(b"old"), Fingerprint::of(b"new"));
/// let id = HostId::parse("w1")?;
/// hosts.add(Host { id: id.clone(), address: "192.0.2.7:8765".into(), pin: Pin::Certificate(old) })?;
/// hosts.rotate(&id, new)?; // now either will do
/// assert_eq!(hosts.settle(&id)?.pin, Pin::Certificate(new)); // and now only the new one
/// assert!(futures_lite::future::block_on(hosts.find(&id))?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct HostsFile {
    path: PathBuf,
    read: Mutex<Read>,
}

#[derive(Debug, Default)]
struct Read {
    /// The last reading that made sense.
    good: Option<Reading>,
    /// What the file was when it made none, and why.
    broken: Option<(Stamp, String)>,
}

/// The file could not be read or changed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostsFileError {
    /// The file can't be read or written.
    #[error("hosts file {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file holds something else.
    #[error("hosts file {}: {what}; mend it, or remove it and add the hosts again", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The address is none.
    #[error("host {id}: {what}")]
    Address {
        /// The host.
        id: HostId,
        /// What is wrong with it.
        what: String,
    },
    /// The host is there already.
    #[error("host {id} is there already, at {address}; give it a new pin, or take it out first")]
    Known {
        /// The host.
        id: HostId,
        /// Where it is said to be.
        address: String,
    },
    /// There is no such host.
    #[error("there is no host {id}; there are: {known}")]
    Unknown {
        /// The host.
        id: HostId,
        /// Those that there are.
        known: String,
    },
    /// Two hosts would have one pin: each could speak for the other.
    #[error("host {id} may not have the certificate of host {other}: each host has its own")]
    Shared {
        /// The host.
        id: HostId,
        /// Which host has it.
        other: HostId,
    },
    /// The host has no pin that could be changed.
    #[error("host {id} {what}")]
    Pin {
        /// The host.
        id: HostId,
        /// What stands in the way.
        what: String,
    },
}

#[derive(Debug)]
struct Reading {
    stamp: Stamp,
    hosts: Arc<BTreeMap<HostId, Host>>,
}

/// Tells one state of a file from another.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    hosts: Vec<KeptHost>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptHost {
    id: HostId,
    address: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pins: Vec<Fingerprint>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ca_only: bool,
}

impl HostsFile {
    /// The file here; one that isn't there has no hosts.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), read: Mutex::default() }
    }

    /// All hosts, by id.
    ///
    /// # Errors
    /// [`HostsFileError`] if the file can't be read.
    pub fn list(&self) -> Result<Vec<Host>, HostsFileError> {
        Ok(self.load()?.values().cloned().collect())
    }

    /// Adds a host.
    ///
    /// # Errors
    /// [`HostsFileError`]: it is there already, or its address is none.
    pub fn add(&self, host: Host) -> Result<(), HostsFileError> {
        check(&host)?;
        self.change(|hosts| match hosts.get(&host.id) {
            Some(known) => {
                Err(HostsFileError::Known { id: known.id.clone(), address: known.address.clone() })
            }
            None => {
                hosts.insert(host.id.clone(), host);
                Ok(())
            }
        })
    }

    /// Takes a host out, and gives it.
    ///
    /// # Errors
    /// [`HostsFileError`]: there is none.
    pub fn remove(&self, id: &HostId) -> Result<Host, HostsFileError> {
        self.change(|hosts| hosts.remove(id).ok_or_else(|| unknown(id, hosts)))
    }

    /// Lets a host show a second certificate beside the pinned one, for as
    /// long as it changes from one to the other; a third takes the place of
    /// the second.
    ///
    /// # Errors
    /// [`HostsFileError`]: there is no such host, or it is trusted by the CA
    /// alone.
    pub fn rotate(&self, id: &HostId, next: Fingerprint) -> Result<Host, HostsFileError> {
        self.change_pin(id, |pin| match pin {
            Pin::Certificate(current) | Pin::Rotating { current, .. } if current == next => {
                Err("has that pin already")
            }
            Pin::Certificate(current) | Pin::Rotating { current, .. } => Ok(Pin::Rotating { current, next }),
            Pin::CaOnly => Err("is trusted by the CA alone; take it out and add it with its fingerprint"),
        })
    }

    /// Ends a rotation: only the newer certificate is admitted from now on.
    ///
    /// # Errors
    /// [`HostsFileError`]: there is no such host, or no rotation.
    pub fn settle(&self, id: &HostId) -> Result<Host, HostsFileError> {
        self.change_pin(id, |pin| match pin {
            Pin::Rotating { next, .. } => Ok(Pin::Certificate(next)),
            Pin::Certificate(_) | Pin::CaOnly => {
                Err("is not changing its certificate; give it a new pin to begin that")
            }
        })
    }

    fn change_pin(
        &self,
        id: &HostId,
        change: impl FnOnce(Pin) -> Result<Pin, &'static str>,
    ) -> Result<Host, HostsFileError> {
        self.change(|hosts| {
            let Some(host) = hosts.get_mut(id) else { return Err(unknown(id, hosts)) };
            host.pin = change(host.pin)
                .map_err(|what| HostsFileError::Pin { id: id.clone(), what: what.to_owned() })?;
            Ok(host.clone())
        })
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut BTreeMap<HostId, Host>) -> Result<T, HostsFileError>,
    ) -> Result<T, HostsFileError> {
        let io = |error| HostsFileError::Io { path: self.path.clone(), error };
        let mut lock_path = self.path.clone().into_os_string();
        lock_path.push(".lock");
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let lock = options.open(&lock_path).map_err(io)?;
        lock.lock().map_err(io)?;
        #[cfg(unix)]
        lock.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(io)?;
        let mut hosts = (*self.read(Broken::Refused)?).clone();
        let changed = change(&mut hosts)?;
        apart(&hosts)?;
        let kept = Kept { hosts: hosts.into_values().map(KeptHost::from).collect() };
        let text = serde_json::to_string_pretty(&kept).map_err(|error| io(error.into()))?;
        replace(&self.path, format!("{text}\n").as_bytes()).map_err(io)?;
        Ok(changed)
    }

    /// What is wrong with the file while an earlier reading of it is in force;
    /// none if all is well.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let _ = self.load();
        self.lock().broken.as_ref().map(|(_, why)| why.clone())
    }

    pub(super) fn load(&self) -> Result<Arc<BTreeMap<HostId, Host>>, HostsFileError> {
        self.read(Broken::LastGood)
    }

    fn read(&self, broken: Broken) -> Result<Arc<BTreeMap<HostId, Host>>, HostsFileError> {
        let mut read = self.lock();
        let io = |error| HostsFileError::Io { path: self.path.clone(), error };
        let opened = File::open(&self.path).and_then(|file| Ok((Stamp::of(&file.metadata()?), file)));
        let (stamp, file) = match opened {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                *read = Read::default();
                return Ok(Arc::default());
            }
            Err(error) => return read.or_last_good(io(error), None, broken),
        };
        if let Some(good) = read.good.as_ref().filter(|good| good.stamp == stamp) {
            let hosts = Arc::clone(&good.hosts);
            read.broken = None;
            return Ok(hosts);
        }
        match parse(&self.path, file) {
            Ok(hosts) => {
                let hosts = Arc::new(hosts);
                *read = Read { good: Some(Reading { stamp, hosts: Arc::clone(&hosts) }), broken: None };
                Ok(hosts)
            }
            Err(error) => read.or_last_good(error, Some(stamp), broken),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to do with a file that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Refused,
    LastGood,
}

impl Read {
    /// The last reading that made sense, if one did and it will do.
    fn or_last_good(
        &mut self,
        error: HostsFileError,
        stamp: Option<Stamp>,
        broken: Broken,
    ) -> Result<Arc<BTreeMap<HostId, Host>>, HostsFileError> {
        let Some(good) = self.good.as_ref().filter(|_| broken == Broken::LastGood) else { return Err(error) };
        let stamp = stamp.unwrap_or_else(Stamp::none);
        // Once for each time that it was changed.
        if self.broken.as_ref().is_none_or(|(known, _)| *known != stamp) {
            log::error!(target: "decnet_lifecycle::agent", error:% = error; "the hosts file makes no sense; what was read before stays in force");
            self.broken = Some((stamp, error.to_string()));
        }
        Ok(Arc::clone(&good.hosts))
    }
}

#[async_trait]
impl HostDirectory for HostsFile {
    async fn find(&self, id: &HostId) -> Result<Option<Host>, DirectoryError> {
        // A small local file, and only after a change: not worth a thread.
        let hosts = self.load().map_err(|error| DirectoryError { reason: error.to_string() })?;
        Ok(hosts.get(id).cloned())
    }
}

fn parse(path: &Path, file: File) -> Result<BTreeMap<HostId, Host>, HostsFileError> {
    let wrong = |what: String| HostsFileError::Content { path: path.to_owned(), what };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| HostsFileError::Io { path: path.to_owned(), error })?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(wrong(format!("it has more than {MAX_BYTES} bytes")));
    }
    crate::fleet::json::check(&bytes).map_err(|error| wrong(error.to_string()))?;
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    let mut hosts = BTreeMap::new();
    for kept in kept.hosts {
        let id = kept.id.clone();
        let host = kept.into_host().map_err(|what| wrong(format!("host {id}: {what}")))?;
        check(&host).map_err(|error| wrong(error.to_string()))?;
        if hosts.insert(id.clone(), host).is_some() {
            return Err(wrong(format!("host {id} is in it twice")));
        }
    }
    apart(&hosts).map_err(|error| wrong(error.to_string()))?;
    Ok(hosts)
}

/// No two hosts have one pin.
fn apart(hosts: &BTreeMap<HostId, Host>) -> Result<(), HostsFileError> {
    let mut owners: BTreeMap<Fingerprint, &HostId> = BTreeMap::new();
    for host in hosts.values() {
        let pins = match host.pin {
            Pin::CaOnly => [None, None],
            Pin::Certificate(only) => [Some(only), None],
            Pin::Rotating { current, next } => [Some(current), Some(next)],
        };
        for pin in pins.into_iter().flatten() {
            if let Some(other) = owners.insert(pin, &host.id).filter(|other| **other != host.id) {
                return Err(HostsFileError::Shared { id: host.id.clone(), other: other.clone() });
            }
        }
    }
    Ok(())
}

fn check(host: &Host) -> Result<(), HostsFileError> {
    let wrong = |what| HostsFileError::Address { id: host.id.clone(), what };
    Address::parse(&host.address).map(|_| ()).map_err(|error| wrong(error.to_string()))
}

fn unknown(id: &HostId, hosts: &BTreeMap<HostId, Host>) -> HostsFileError {
    let known: Vec<&str> = hosts.keys().take(20).map(HostId::as_str).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    HostsFileError::Unknown { id: id.clone(), known }
}

impl Stamp {
    /// Of a file that can't be looked at.
    const fn none() -> Self {
        Self { modified: None, len: 0, inode: 0 }
    }

    fn of(found: &fs::Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(found);
        #[cfg(not(unix))]
        let inode = 0;
        Self { modified: found.modified().ok(), len: found.len(), inode }
    }
}

impl KeptHost {
    fn into_host(self) -> Result<Host, &'static str> {
        let pin = match (&*self.pins, self.ca_only) {
            ([], true) => Pin::CaOnly,
            ([only], false) => Pin::Certificate(*only),
            ([current, next], false) => Pin::Rotating { current: *current, next: *next },
            ([], false) => return Err("it has no pin; write one in pins, or ca_only: true"),
            (_, true) => {
                return Err("it has pins, and is to be trusted by the CA alone; leave one of both away");
            }
            _ => return Err("it has more than two pins"),
        };
        Ok(Host { id: self.id, address: self.address, pin })
    }
}

impl From<Host> for KeptHost {
    fn from(host: Host) -> Self {
        let (pins, ca_only) = match host.pin {
            Pin::CaOnly => (Vec::new(), true),
            Pin::Certificate(only) => (vec![only], false),
            Pin::Rotating { current, next } => (vec![current, next], false),
        };
        Self { id: host.id, address: host.address, pins, ca_only }
    }
}
