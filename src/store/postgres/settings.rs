//! Where the database is, and how the store behaves towards it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::PostgresError;
use super::error::wrong;
use super::tables::{Schema, schema_sql};

/// Where the database is, how it is reached, and what the store asks of it.
///
/// Made of a URL as other PostgreSQL clients take it, with these parameters:
///
/// | parameter | meaning |
/// |---|---|
/// | several hosts | `h1:5432,h2:5432`: tried in order; one that is a standby or takes no writes is passed over, as `target_session_attrs=read-write` says, which is the only choice |
/// | `host=/run/postgresql` | a UNIX socket |
/// | `sslmode` | `verify-full`: TLS, with the server's certificate and name verified; the default everywhere but on loopback and UNIX sockets. `disable`: no TLS, **also where others can listen**. There are no half measures |
/// | `sslrootcert` | the file of the CA's certificates in PEM; without one there is no TLS |
/// | `schema` | where our tables are, else `decnet` |
/// | `notify` | `off`: no `NOTIFY decnet_lifecycle` with each commit |
/// | `application_name`, `connect_timeout` | as everywhere; else `decnet-lifecycle`, 5 s |
///
/// Its `Debug` never shows the password.
///
/// ```
/// use decnet_lifecycle::store::PostgresSettings;
/// use std::time::Duration;
///
/// let url = "postgres://decnet:s3cret@db1,db2/decnet?sslmode=verify-full&sslrootcert=/etc/decnet/ca.pem";
/// let settings: PostgresSettings = url.parse()?;
/// assert_eq!(settings.hosts(), "db1:5432, db2:5432");
/// assert!(!format!("{settings:?}").contains("s3cret"));
///
/// let settings = settings.schema("decoys")?.password("0ther").notify(false).only_writer().existing_only();
/// let settings = settings.patience(Duration::from_secs(5)).answer_within(Duration::from_secs(20));
/// assert!(settings.has_password() && settings.schema_sql().contains("create table decoys.lifecycles"));
///
/// let halfway = "postgres://decnet@db1/decnet?sslmode=prefer".parse::<PostgresSettings>();
/// assert!(halfway.unwrap_err().to_string().contains("verify-full"));
/// # Ok::<(), decnet_lifecycle::store::PostgresError>(())
/// ```
#[derive(Clone)]
pub struct PostgresSettings {
    pub(super) config: Config,
    pub(super) tls: TlsMode,
    pub(super) roots: Option<PathBuf>,
    pub(super) schema: Schema,
    pub(super) notify: bool,
    pub(super) patience: Duration,
    pub(super) answer_within: Duration,
    pub(super) connect_within: Duration,
    pub(super) only_writer: bool,
    pub(super) make: bool,
}

/// Whether connections are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsMode {
    /// Wherever others could listen: not on loopback, nor on UNIX sockets.
    OffLoopback,
    Always,
    /// Somebody said that nobody listens.
    Never,
}

/// What other clients take and this one has no use for.
const UNKNOWN: &str = "it has a parameter or a part that this client doesn't know; see PostgresSettings, and \
                       write %XX for special characters in a password";

impl PostgresSettings {
    /// How long a call goes on trying while no server can be reached.
    pub const PATIENCE: Duration = Duration::from_secs(30);

    /// How long the server may take for one answer.
    pub const ANSWER_WITHIN: Duration = Duration::from_secs(60);

    /// The password, if the URL has none: a URL often stands where others can
    /// read it.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.config.password(password);
        self
    }

    /// Whether there is a password yet.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }

    /// The schema that our tables are in, instead of `decnet`: several stores
    /// may share a database.
    ///
    /// # Errors
    /// [`PostgresError::Settings`] for a name that would need quotes.
    pub fn schema(mut self, name: &str) -> Result<Self, PostgresError> {
        self.schema = Schema::parse(name)?;
        Ok(self)
    }

    /// Whether each commit tells `LISTEN decnet_lifecycle` its newest revision.
    /// It costs some, and takes a lock on the whole server for a moment.
    #[must_use]
    pub const fn notify(mut self, notify: bool) -> Self {
        self.notify = notify;
        self
    }

    /// How long calls go on trying while no server can be reached, instead of
    /// [`PostgresSettings::PATIENCE`]. Counted from when it was lost, not by
    /// the call: after that each tries once.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long the server may take for one answer before the connection counts
    /// as lost, instead of [`PostgresSettings::ANSWER_WITHIN`].
    #[must_use]
    pub const fn answer_within(mut self, time: Duration) -> Self {
        self.answer_within = time;
        self
    }

    /// Refuses to connect while another store that asked for the same is, and
    /// keeps others out for as long as this one lives. Takes a connection of its
    /// own, in a transaction that stays open and holds nothing else.
    #[must_use]
    pub const fn only_writer(mut self) -> Self {
        self.only_writer = true;
        self
    }

    /// Makes no tables where there are none: [`PostgresError::Missing`] says so.
    #[must_use]
    pub const fn existing_only(mut self) -> Self {
        self.make = false;
        self
    }

    /// The hosts, for texts.
    #[must_use]
    pub fn hosts(&self) -> String {
        let hosts = self.targets().map(|(host, port)| match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(path) => path.display().to_string(),
        });
        hosts.collect::<Vec<_>>().join(", ")
    }

    /// The statements that make our tables: for a database whose owner makes
    /// them, so that the store's own role may only use them.
    #[must_use]
    pub fn schema_sql(&self) -> String {
        schema_sql(&self.schema)
    }

    /// The hosts and their ports.
    pub(super) fn targets(&self) -> impl Iterator<Item = (&Host, u16)> {
        let ports = self.config.get_ports();
        self.config.get_hosts().iter().enumerate().map(move |(place, host)| {
            // One port for all, or one for each.
            let port = ports.get(place).or(ports.first()).copied().unwrap_or(5432);
            (host, port)
        })
    }
}

impl FromStr for PostgresSettings {
    type Err = PostgresError;

    fn from_str(url: &str) -> Result<Self, PostgresError> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(wrong("a URL is wanted: postgres://USER@HOST:PORT/DATABASE"));
        }
        let credentials = url.find('@').unwrap_or(0);
        let at = url.get(credentials..).and_then(|rest| rest.find('?')).map(|place| place + credentials);
        let (base, parameters) = at.and_then(|at| url.split_at_checked(at)).unwrap_or((url, ""));
        let mut own = Own::default();
        let others: Vec<&str> = parameters
            .trim_start_matches('?')
            .split('&')
            .filter(|parameter| !parameter.is_empty() && !own.take(parameter))
            .collect();
        // What is wrong with it isn't repeated: a part of the password might be.
        let mut config: Config =
            format!("{base}?{}", others.join("&")).parse().map_err(|_| wrong(UNKNOWN))?;
        if config.get_target_session_attrs() == TargetSessionAttrs::ReadOnly {
            return Err(wrong("target_session_attrs=read-only: the store writes; leave it out"));
        }
        if !config.get_hostaddrs().is_empty() || config.get_options().is_some() {
            return Err(wrong("hostaddr and options are not supported; leave them out"));
        }
        if config.get_hosts().is_empty() {
            return Err(wrong("it names no host; for a UNIX socket write ?host=/run/postgresql"));
        }
        if !matches!(config.get_ports().len(), 0 | 1) && config.get_ports().len() != config.get_hosts().len()
        {
            return Err(wrong("it has one port for all hosts, or one for each"));
        }
        if config.get_user().is_none_or(str::is_empty) {
            return Err(wrong("it names no user: postgres://USER@HOST:PORT/DATABASE"));
        }
        if config.get_application_name().is_none() {
            config.application_name("decnet-lifecycle");
        }
        config.ssl_mode(SslMode::Disable);
        Ok(Self {
            connect_within: config.get_connect_timeout().copied().unwrap_or(Duration::from_secs(5)),
            config,
            tls: match own.sslmode.as_deref() {
                None => TlsMode::OffLoopback,
                Some("verify-full") => TlsMode::Always,
                Some("disable") => TlsMode::Never,
                Some(_) => {
                    return Err(wrong(
                        "sslmode is verify-full, or disable where nobody else can listen: all between \
                         them can be talked down",
                    ));
                }
            },
            roots: own.sslrootcert.map(PathBuf::from),
            schema: Schema::parse(own.schema.as_deref().unwrap_or("decnet"))?,
            notify: match own.notify.as_deref() {
                None | Some("on") => true,
                Some("off") => false,
                Some(_) => return Err(wrong("notify is on or off")),
            },
            patience: Self::PATIENCE,
            answer_within: Self::ANSWER_WITHIN,
            only_writer: false,
            make: true,
        })
    }
}

/// The parameters that the client itself doesn't know, or knows otherwise.
#[derive(Default)]
struct Own {
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    schema: Option<String>,
    notify: Option<String>,
}

impl Own {
    /// Takes a parameter that is one of them.
    fn take(&mut self, parameter: &str) -> bool {
        let Some((key, value)) = parameter.split_once('=') else { return false };
        let place = match key {
            "sslmode" => &mut self.sslmode,
            "sslrootcert" => &mut self.sslrootcert,
            "schema" => &mut self.schema,
            "notify" => &mut self.notify,
            _ => return false,
        };
        *place = Some(percent_decode_str(value).decode_utf8_lossy().into_owned());
        true
    }
}

impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSettings")
            .field("hosts", &self.hosts())
            .field("user", &self.config.get_user())
            .field("database", &self.config.get_dbname())
            .field("tls", &self.tls)
            .field("schema", &self.schema.to_string())
            .finish_non_exhaustive()
    }
}
