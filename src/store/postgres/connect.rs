//! How a server is found and a connection to it is made and driven.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_io::Timer;
use futures_lite::future::or;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustls::ClientConfig;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls};

use super::error::{Cause, Trouble};
use super::settings::{PostgresSettings, TlsMode};
use super::socket::Socket;
use super::tls::Tls;

/// What drives a connection; ends with it.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The most addresses of one host that are tried.
const ADDRESSES: usize = 8;

/// How long a connection that nobody wants may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// The oldest server whose functions we use.
const OLDEST: i32 = 130_000;

/// A parameter, and how it is written.
pub(super) type Param<'p> = (&'p (dyn ToSql + Sync), tokio_postgres::types::Type);

/// A connection. Whoever drops it ends it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) client: Client,
    /// Closed with the link: its driver then has a moment to end.
    _alive: Sender<()>,
    /// Closed when its driver has ended.
    driven: Receiver<()>,
}

impl Link {
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Waits until the connection has ended.
    pub(super) async fn ended(&self) {
        let _ = self.driven.recv().await;
    }
}

/// Makes connections, and hands what drives them to the store's thread.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) settings: Arc<PostgresSettings>,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) drivers: Sender<Driver>,
}

impl Connector {
    /// A connection to the first host that takes writes.
    pub(super) async fn connect(&self) -> Result<Link, Trouble> {
        let mut last = Trouble::Again(Cause::new("no host"));
        for (host, port) in self.settings.targets() {
            let found = match host {
                Host::Unix(dir) => {
                    let path = dir.join(format!(".s.PGSQL.{port}"));
                    let socket = async { Socket::unix(&path).await.map_err(lost) };
                    self.attempt(host, None, socket).await
                }
                Host::Tcp(name) => self.tcp(host, name, port).await,
            };
            match found {
                Ok(link) => return Ok(link),
                Err(trouble) => last = of_host(trouble, host, port),
            }
        }
        Err(last)
    }

    async fn tcp(&self, host: &Host, name: &str, port: u16) -> Result<Link, Trouble> {
        let target = (name.to_owned(), port);
        let looking = blocking::unblock(move || target.to_socket_addrs().map(Vec::from_iter));
        let found = within(self.settings.connect_within, looking).await?;
        let mut last = Trouble::Again(Cause::new("its name has no address"));
        for address in found.map_err(lost)?.into_iter().take(ADDRESSES) {
            let socket = async { Socket::tcp(address).await.map_err(lost) };
            match self.attempt(host, Some(address), socket).await {
                Ok(link) => return Ok(link),
                Err(trouble) => last = trouble,
            }
        }
        Err(last)
    }

    async fn attempt(
        &self,
        host: &Host,
        address: Option<SocketAddr>,
        socket: impl Future<Output = Result<Socket, Trouble>>,
    ) -> Result<Link, Trouble> {
        let encrypt = self.tls_to(host, address.map(|address| address.ip()))?;
        let made = async {
            let link = self.greet(socket.await?, encrypt).await?;
            takes_writes(&link.client).await?;
            Ok(link)
        };
        within(self.settings.connect_within, made).await?
    }

    /// How to encrypt what goes to this address; none if it needs not be.
    fn tls_to(&self, host: &Host, address: Option<IpAddr>) -> Result<Option<Tls>, Trouble> {
        let (Host::Tcp(name), Some(address)) = (host, address) else { return Ok(None) };
        let wanted = match self.settings.tls {
            TlsMode::Always => true,
            TlsMode::OffLoopback => !address.is_loopback(),
            TlsMode::Never => false,
        };
        if !wanted {
            return Ok(None);
        }
        let Some(config) = self.tls.clone() else {
            return Err(Trouble::Wrong(Cause::new(
                "it is not on this machine, so TLS is needed: name the CA's certificates with \
                 sslrootcert=FILE, or say sslmode=disable where nobody else can listen",
            )));
        };
        match Tls::to(name, config) {
            Some(tls) => Ok(Some(tls)),
            None => Err(Trouble::Wrong(Cause::new("no certificate can be made out to that name"))),
        }
    }

    async fn greet(&self, socket: Socket, encrypt: Option<Tls>) -> Result<Link, Trouble> {
        let mut config: Config = self.settings.config.clone();
        let (client, driver): (Client, Driver) = match encrypt {
            None => {
                let (client, connection) = config.connect_raw(socket, NoTls).await?;
                (client, Box::pin(async { log_end(connection.await) }))
            }
            Some(tls) => {
                config.ssl_mode(SslMode::Require);
                let (client, connection) = config.connect_raw(socket, tls).await?;
                (client, Box::pin(async { log_end(connection.await) }))
            }
        };
        let (alive, gone) = async_channel::bounded::<()>(1);
        let given_up = async move {
            let _ = gone.recv().await;
            Timer::after(GOODBYE).await;
        };
        let (driving, driven) = async_channel::bounded::<()>(1);
        let driver: Driver = Box::pin(async move {
            or(driver, given_up).await;
            drop(driving);
        });
        let closed = || Trouble::Wrong(Cause::new("the store is closed"));
        self.drivers.send(driver).await.map_err(|_| closed())?;
        Ok(Link { client, _alive: alive, driven })
    }
}

/// Drives connections, in whatever order they have something to do, until
/// nobody can hand over any more and all have ended.
pub(super) async fn drive(new: Receiver<Driver>) {
    enum Event {
        New(Driver),
        Ended,
        Last,
    }
    let mut running: FuturesUnordered<Driver> = FuturesUnordered::new();
    let mut last = false;
    while !(last && running.is_empty()) {
        let handed_over = async {
            match new.recv().await {
                Ok(driver) if !last => Event::New(driver),
                _ if last => std::future::pending().await,
                _ => Event::Last,
            }
        };
        let ended = async {
            match running.next().await {
                Some(()) => Event::Ended,
                None => std::future::pending().await,
            }
        };
        match or(handed_over, ended).await {
            Event::New(driver) => running.push(driver),
            Event::Ended => {}
            Event::Last => last = true,
        }
    }
}

/// Waits for an answer, but not for ever.
pub(super) async fn within<T>(time: Duration, work: impl Future<Output = T>) -> Result<T, Trouble> {
    let late = async {
        Timer::after(time).await;
        Err(Trouble::Again(Cause::new(format!("no answer within {time:?}"))))
    };
    or(async { Ok(work.await) }, late).await
}

/// Refuses what isn't PostgreSQL, is too old, or takes no writes.
async fn takes_writes(client: &Client) -> Result<(), Trouble> {
    const ASK: &str = "select version(), current_setting('server_version_num')::int4, \
                       current_setting('transaction_read_only')";
    let rows = client.query_typed(ASK, &[]).await?;
    let told = || Trouble::Wrong(Cause::new("it doesn't tell its version"));
    let row = rows.first().ok_or_else(told)?;
    let (version, number, read_only): (&str, i32, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    for other in ["CockroachDB", "-YB-", "Redshift"] {
        if version.contains(other) {
            let what = format!("{other} speaks like PostgreSQL and has not the locks that the store needs");
            return Err(Trouble::Wrong(Cause::new(what)));
        }
    }
    if number < OLDEST {
        let what = format!("it is of version {}, the oldest that will do is 13", number / 10_000);
        return Err(Trouble::Wrong(Cause::new(what)));
    }
    match read_only {
        "off" => Ok(()),
        _ => Err(Trouble::Again(Cause::new("it takes no writes: a standby, or set to read only"))),
    }
}

fn lost(error: std::io::Error) -> Trouble {
    Trouble::Again(Cause::new(error.to_string()))
}

fn of_host(trouble: Trouble, host: &Host, port: u16) -> Trouble {
    let name = match host {
        Host::Tcp(name) => format!("{name}:{port}"),
        Host::Unix(path) => format!("{} (port {port})", path.display()),
    };
    match trouble {
        Trouble::Again(cause) => Trouble::Again(Cause::new(format!("{name}: {cause}"))),
        Trouble::Wrong(cause) => Trouble::Wrong(Cause::new(format!("{name}: {cause}"))),
        other => other,
    }
}

fn log_end(ended: Result<(), tokio_postgres::Error>) {
    if let Err(error) = ended {
        let error = Cause::from(&error);
        log::debug!(target: "decnet_lifecycle::store", error:% = error; "a connection ended");
    }
}
