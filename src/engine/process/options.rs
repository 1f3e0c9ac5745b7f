//! What a decoy is told on its command line, and what can go wrong with it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::lifecycle::{DeckyName, NameError, ServiceName};

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
    /// What a service that isn't one of the built-in ones says first.
    pub greeting: Option<Vec<u8>>,
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
    Name(NameError),
    /// It was not started by an engine, or that engine wants it no more.
    #[error("decoy: {} holds no token; decoys are started by `deploy`", .0.display())]
    Unwanted(PathBuf),
    /// Another decoy lives under the same files.
    #[error("decoy: another one is at work under {}", .0.display())]
    Twice(PathBuf),
    /// It can't listen there.
    #[error("can't listen on {addr}: {error}; is the port in use?")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// Its files can't be read or written.
    #[error("decoy files {}: {error}", path.display())]
    Files {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

impl DecoyOptions {
    /// Reads a decoy's command line, without the program's name and the word
    /// `decoy`: `--service S --listen ADDR --decky D --hostname H --home BASE`,
    /// and perhaps `--greeting HEX`.
    ///
    /// # Errors
    /// [`DecoyError::Usage`] and [`DecoyError::Name`].
    ///
    /// ```
    /// use decnet_lifecycle::engine::process::DecoyOptions;
    ///
    /// let words = "--service ssh --listen 127.0.0.1:0 --decky decky-01 --hostname srv --home /tmp/x";
    /// let options = DecoyOptions::from_args(words.split(' ').map(Into::into))?;
    /// assert_eq!(options.service.as_str(), "ssh");
    /// # Ok::<(), decnet_lifecycle::engine::process::DecoyError>(())
    /// ```
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, DecoyError> {
        let mut words = args.into_iter();
        let mut given = BTreeMap::new();
        while let Some(option) = words.next() {
            let option = option.to_string_lossy().into_owned();
            let value = words.next().ok_or_else(|| DecoyError::Usage(format!("{option} has no value")))?;
            given.insert(option, value);
        }
        let greeting = given.remove("--greeting");
        let mut take = |option: &str| {
            given.remove(option).ok_or_else(|| DecoyError::Usage(format!("{option} is missing")))
        };
        let home = PathBuf::from(take("--home")?);
        let text = |value: OsString| value.to_string_lossy().into_owned();
        let options = Self {
            decky: DeckyName::parse(&text(take("--decky")?))?,
            service: ServiceName::parse(&text(take("--service")?))?,
            hostname: text(take("--hostname")?),
            listen: text(take("--listen")?)
                .parse()
                .map_err(|_| DecoyError::Usage("--listen wants IP:PORT".into()))?,
            home,
            greeting: greeting.map(|digits| from_hex(&text(digits))).transpose()?,
            limits: DecoyLimits::default(),
        };
        match given.keys().next() {
            Some(option) => Err(DecoyError::Usage(format!("{option} is not known"))),
            None => Ok(options),
        }
    }
}

/// Bytes as the command line has them.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(digits: &str) -> Result<Vec<u8>, DecoyError> {
    let wrong = || DecoyError::Usage("--greeting wants pairs of hex digits".into());
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| {
        let value = |digit: &u8| char::from(*digit).to_digit(16);
        u8::try_from(value(high)? * 16 + value(low)?).ok()
    };
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    bytes.filter(|_| rest.is_empty()).ok_or_else(wrong)
}

impl From<NameError> for DecoyError {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}
