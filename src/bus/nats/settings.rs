//! Where the servers are, who one is to them, and how they are known.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rustls::ClientConfig;

use super::NatsError;
use super::creds::Creds;
use crate::server_tls;

/// Where the servers are, and who one is to them.
///
/// Made of a URL: `nats://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]..]`, or
/// `tls://..`. A name without a password is a token, as other clients have it.
///
/// | parameter | meaning |
/// |---|---|
/// | several hosts | tried in turn; those that a cluster tells of are not |
/// | `tls` | `off`: no TLS, **also where others can listen**; `first`: the handshake comes before the server's first line (its `handshake_first`) |
/// | `ca` | the file of the CA's certificates in PEM; without one there is no TLS |
/// | `creds` | a `.creds` file: a JWT and the key to it. Read again at each connection |
/// | `prefix` | what subjects start with, else `decnet` |
///
/// TLS is spoken wherever others could listen: with `tls://`, on all
/// connections that leave the machine, and where the server asks for it. The
/// server's certificate and its name are checked.
///
/// Its `Debug` shows no secret.
///
/// ```
/// use decnet_lifecycle::bus::nats::NatsSettings;
/// use std::time::Duration;
///
/// let settings: NatsSettings = "nats://decnet:s3cret@n1,n2:4223?tls=off&prefix=site-7.decnet".parse()?;
/// assert_eq!(settings.servers(), "n1:4222, n2:4223");
/// assert_eq!(settings.prefix(), "site-7.decnet");
/// assert!(!format!("{settings:?}").contains("s3cret"));
///
/// let settings: NatsSettings = "nats://decnet@localhost".parse()?; // a token, or, with a password, a user
/// let settings = settings.password("0ther").again_after(Duration::from_millis(10));
/// assert!(!format!("{settings:?}").contains("0ther"));
///
/// let wrong = "nats://localhost?prefix=decky.>".parse::<NatsSettings>();
/// assert!(wrong.unwrap_err().to_string().contains("prefix"));
/// # Ok::<(), decnet_lifecycle::bus::nats::NatsError>(())
/// ```
#[derive(Clone)]
pub struct NatsSettings {
    pub(super) servers: Vec<Server>,
    pub(super) tls: Tls,
    pub(super) config: Option<Arc<ClientConfig>>,
    pub(super) identity: Identity,
    pub(super) first_wait: Duration,
    prefix: String,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Whether connections are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tls {
    /// Where others could listen, and where the server asks for it.
    OffLoopback,
    Always,
    /// Always, and before the server's first line.
    First,
    /// Somebody said that nobody listens.
    Off,
}

/// Who one is to the server.
#[derive(Clone)]
pub(super) enum Identity {
    Nobody,
    Token(String),
    User { name: String, password: String },
    Creds(PathBuf),
}

impl NatsSettings {
    /// The longest that is waited before another try to connect, in first
    /// waits.
    pub(super) const LONGEST_WAIT: u32 = 50;

    /// The password, if the URL has none: a URL often stands where others can
    /// read it. What the URL has for a token is the user's name then.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        if let Identity::Token(name) = self.identity {
            self.identity = Identity::User { name, password: password.to_owned() };
        }
        self
    }

    /// The token, if the URL says nothing of who one is.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        if matches!(self.identity, Identity::Nobody) {
            self.identity = Identity::Token(token.to_owned());
        }
        self
    }

    /// A `.creds` file, if the URL says nothing of who one is.
    ///
    /// # Errors
    /// [`NatsError::Settings`] if it can't be read, others may read it, or it
    /// isn't one.
    pub fn creds(mut self, path: &Path) -> Result<Self, NatsError> {
        if matches!(self.identity, Identity::Nobody) {
            Creds::load(path).map_err(NatsError::settings)?;
            self.identity = Identity::Creds(path.to_owned());
        }
        Ok(self)
    }

    /// The file of the CA's certificates, if the URL names none.
    ///
    /// # Errors
    /// [`NatsError::Settings`] if it can't be read, or holds none.
    pub fn ca(mut self, path: &Path) -> Result<Self, NatsError> {
        if self.config.is_none() {
            let wrong = |what| NatsError::settings(format!("ca {}: {what}", path.display()));
            self.config = Some(server_tls::client_config(path).map_err(wrong)?);
        }
        Ok(self)
    }

    /// How long is waited after a connection was lost, instead of 0.1 s; each
    /// time twice as long as before, at most fifty times.
    #[must_use]
    pub const fn again_after(mut self, wait: Duration) -> Self {
        self.first_wait = wait;
        self
    }

    /// The servers, for texts.
    #[must_use]
    pub fn servers(&self) -> String {
        let servers: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        servers.join(", ")
    }

    /// What subjects start with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// How long to wait after so many tries that failed in a row.
    pub(crate) fn wait_after(&self, tries: u32) -> Duration {
        let times = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first_wait.saturating_mul(times.min(Self::LONGEST_WAIT))
    }
}

/// What is wrong is told without what was written: a part of a password might
/// be.
fn wrong(what: impl Into<String>) -> NatsError {
    NatsError::settings(what)
}

fn decoded(text: &str) -> Result<String, NatsError> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into).map_err(|_| wrong("something in the URL is no UTF-8, decoded"))
}

impl FromStr for NatsSettings {
    type Err = NatsError;

    fn from_str(url: &str) -> Result<Self, NatsError> {
        let (tls, rest) = match (url.strip_prefix("nats://"), url.strip_prefix("tls://")) {
            (Some(rest), _) => (Tls::OffLoopback, rest),
            (_, Some(rest)) => (Tls::Always, rest),
            _ => return Err(wrong("a URL is wanted: nats://HOST:PORT or tls://HOST:PORT")),
        };
        let credentials_end = rest.rfind('@').map_or(0, |at| at + 1);
        let (credentials, rest) = rest.split_at_checked(credentials_end).unwrap_or(("", rest));
        let (hosts, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let hosts = hosts.strip_suffix('/').unwrap_or(hosts);
        let scheme = if tls == Tls::Always { "tls://" } else { "nats://" };
        let servers = hosts.split(',').map(|one| server(one.strip_prefix(scheme).unwrap_or(one)));
        let mut settings = Self {
            servers: servers.collect::<Result<_, _>>()?,
            tls,
            config: None,
            identity: identity(credentials.strip_suffix('@').unwrap_or(credentials))?,
            first_wait: Duration::from_millis(100),
            prefix: "decnet".to_owned(),
        };
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            settings = settings.set(key, &decoded(value)?)?;
        }
        Ok(settings)
    }
}

impl NatsSettings {
    fn set(mut self, key: &str, value: &str) -> Result<Self, NatsError> {
        match (key, value) {
            ("tls", "first") => self.tls = Tls::First,
            ("tls", "off") if self.tls == Tls::OffLoopback => self.tls = Tls::Off,
            ("tls", _) => {
                return Err(wrong("tls is first, or, with nats://, off where nobody else can listen"));
            }
            ("ca", path) => return self.ca(Path::new(path)),
            ("creds", path) => {
                if !matches!(self.identity, Identity::Nobody) {
                    return Err(wrong("it has creds, and a user or a token: only one can be meant"));
                }
                return self.creds(Path::new(path));
            }
            ("prefix", prefix) => {
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
                let is_token = |token: &str| !token.is_empty() && token.bytes().all(is_plain);
                if prefix.len() > 128 || !prefix.split('.').all(is_token) {
                    return Err(wrong(
                        "a prefix is words of letters, digits, - and _, with dots between them, and at most \
                         128 long",
                    ));
                }
                prefix.clone_into(&mut self.prefix);
            }
            _ => return Err(wrong("it has a parameter that is none of tls, ca, creds and prefix")),
        }
        Ok(self)
    }
}

fn server(text: &str) -> Result<Server, NatsError> {
    let bad = || wrong("a server is HOST or HOST:PORT, several have commas between them");
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(Ok(4222), |port| port.parse().map_err(|_| bad()))?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.is_empty() || port == 0 || !host.bytes().all(is_plain) {
        return Err(bad());
    }
    Ok(Server { host: host.to_owned(), port })
}

fn identity(text: &str) -> Result<Identity, NatsError> {
    Ok(match text.split_once(':') {
        None if text.is_empty() => Identity::Nobody,
        None => Identity::Token(decoded(text)?),
        Some((name, password)) => Identity::User { name: decoded(name)?, password: decoded(password)? },
    })
}

impl fmt::Debug for NatsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = match &self.identity {
            Identity::Nobody => "none",
            // It may be a user whose password is still to come.
            Identity::Token(_) => "a token",
            Identity::User { .. } => "a user",
            Identity::Creds(_) => "a creds file",
        };
        f.debug_struct("NatsSettings")
            .field("servers", &self.servers())
            .field("tls", &self.tls)
            .field("identity", &identity)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
