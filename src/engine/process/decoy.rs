//! One service of one decky: the process that the engine starts.

use std::fs::{File, TryLockError};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::files::{Files, Ready, open_lock};
use super::limits::DecoyLimits;
use super::listen::Listening;
use super::visits::Visits;
use crate::lifecycle::{DeckyName, ServiceName};

/// How often a decoy looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(200);
/// How long it tries for its lock, which those who look at it take for moments.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// What a decoy needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecoyOptions {
    /// The decky that it is a part of.
    pub decky: DeckyName,
    /// What it pretends to be. A service that it can't speak is a silent sink.
    pub service: ServiceName,
    /// Where it listens; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// What it calls its host in banners.
    pub hostname: String,
    /// Where its files are: the run file is this path and `.run`, and so on.
    pub home: PathBuf,
    /// What it grants to clients.
    pub limits: DecoyLimits,
}

/// Why a decoy doesn't run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecoyError {
    /// The arguments can't be read.
    #[error("decoy: {reason}; it is started by the engine, as: {usage}")]
    Arguments {
        /// What is wrong with them.
        reason: String,
        /// How they are written.
        usage: &'static str,
    },
    /// The host name would break banners.
    #[error("decoy {decky}/{service}: {hostname:?} is no host name: 1 to 253 of letters, digits, '.', '-' and '_'; \
             correct the decky's hostname in the fleet")]
    Hostname {
        /// The decky.
        decky: DeckyName,
        /// The service.
        service: ServiceName,
        /// What was given.
        hostname: String,
    },
    /// Another decoy is there already.
    #[error("decoy {decky}/{service}: another process holds {}; stop it first", path.display())]
    Held {
        /// The decky.
        decky: DeckyName,
        /// The service.
        service: ServiceName,
        /// The lock.
        path: PathBuf,
    },
    /// Nobody wants this decoy (any more).
    #[error("decoy {decky}/{service}: {} holds no token, so nobody wants it to run; let the engine start it", path.display())]
    Unwanted {
        /// The decky.
        decky: DeckyName,
        /// The service.
        service: ServiceName,
        /// The run file.
        path: PathBuf,
    },
    /// The port belongs to somebody else.
    #[error("decoy {decky}/{service}: the address {addr} is in use; free the port, or give the service another \
             one in service_config.{service}.port")]
    InUse {
        /// The decky.
        decky: DeckyName,
        /// The service.
        service: ServiceName,
        /// The address.
        addr: SocketAddr,
    },
    /// It can't listen.
    #[error("decoy {decky}/{service}: can't listen on {addr}: {source}; ports below 1024 need the right to bind \
             them, and the address must be the host's")]
    Listen {
        /// The decky.
        decky: DeckyName,
        /// The service.
        service: ServiceName,
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// One of its files can't be read or written.
    #[error("decoy {decky}/{service}: can't use {}: {source}; check the directory's owner and the disk", path.display())]
    File {
        /// The decky.
        decky: DeckyName,
        /// The service.
        service: ServiceName,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Runs a decoy until its run file is gone or holds another token.
///
/// The run file (`<home>.run`) must exist and hold 32 hexadecimal digits. The
/// decoy holds a lock on `<home>.lock` for its life, publishes where it
/// listens in `<home>.ready`, and writes who came to `<home>.log`.
///
/// # Errors
/// [`DecoyError`] if it can't start; once it listens it ends only when asked.
pub fn run_decoy(options: DecoyOptions) -> Result<(), DecoyError> {
    let files = Files::at(options.home.clone());
    if !is_hostname(&options.hostname) {
        let DecoyOptions { decky, service, hostname, .. } = options;
        return Err(DecoyError::Hostname { decky, service, hostname });
    }
    // Held until the end of this function.
    let _lock = take_lock(&options, &files)?;
    let Some(token) = files.token().map_err(|err| file_error(&options, files.run(), err))? else {
        let DecoyOptions { decky, service, .. } = options;
        return Err(DecoyError::Unwanted { decky, service, path: files.run() });
    };
    let visits = Visits::open(files.clone(), options.decky.clone(), options.service.clone(), options.limits.log)
        .map_err(|err| file_error(&options, files.log(), err))?;
    let listening = Listening::bind(&options, visits).map_err(|err| listen_error(&options, err))?;
    let ready = Ready {
        decky: options.decky.clone(),
        service: options.service.clone(),
        hostname: options.hostname.clone(),
        addr: listening.addr(),
        pid: std::process::id(),
        token: token.clone(),
        started_at: format!("{:.6}", jiff::Timestamp::now()),
    };
    files.write_ready(&ready).map_err(|err| file_error(&options, files.ready(), err))?;

    let stop = Arc::new(AtomicBool::new(false));
    let watch = Watch { files: files.clone(), token: token.clone(), stop: Arc::clone(&stop), addr: ready.addr };
    let watching = thread::Builder::new().name("decoy-watch".to_owned()).spawn(move || watch.run());
    let watching = match watching {
        Ok(watching) => watching,
        Err(err) => {
            let _ = files.clear(&token);
            return Err(listen_error(&options, err));
        }
    };
    listening.serve(&stop);
    stop.store(true, Ordering::SeqCst);
    let _ = watching.join();
    let _ = files.clear(&token);
    Ok(())
}

/// The address to reach a listener at, from the same host.
pub(super) fn reach(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// Looks whether the decoy is still wanted, and wakes the listener if not.
struct Watch {
    files: Files,
    token: String,
    stop: Arc<AtomicBool>,
    addr: SocketAddr,
}

impl Watch {
    fn run(&self) {
        // A read that fails for want of file descriptors says nothing.
        while !matches!(self.files.token(), Ok(token) if token.as_deref() != Some(self.token.as_str())) {
            thread::sleep(LOOK);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
        }
        self.stop.store(true, Ordering::SeqCst);
        // The listener waits in accept; a connection wakes it.
        let _ = TcpStream::connect_timeout(&reach(self.addr), Duration::from_secs(1));
    }
}

fn take_lock(options: &DecoyOptions, files: &Files) -> Result<File, DecoyError> {
    let path = files.lock();
    let file = open_lock(&path).map_err(|err| file_error(options, path.clone(), err))?;
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(err)) => return Err(file_error(options, path, err)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
            Err(TryLockError::WouldBlock) => {
                let (decky, service) = (options.decky.clone(), options.service.clone());
                return Err(DecoyError::Held { decky, service, path });
            }
        }
    }
}

fn is_hostname(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

fn file_error(options: &DecoyOptions, path: PathBuf, source: io::Error) -> DecoyError {
    DecoyError::File { decky: options.decky.clone(), service: options.service.clone(), path, source }
}

fn listen_error(options: &DecoyOptions, source: io::Error) -> DecoyError {
    let (decky, service, addr) = (options.decky.clone(), options.service.clone(), options.listen);
    match source.kind() {
        io::ErrorKind::AddrInUse => DecoyError::InUse { decky, service, addr },
        _ => DecoyError::Listen { decky, service, addr, source },
    }
}
