//! Connections: how many, whose, how long, and over which TLS. What is asked
//! over them is the router's.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::agent::https::is_about_time;

use super::Stop;

mod body;
mod impatient;
mod limits;
mod places;

pub use limits::ServerLimits;

use body::{Slow, timely};
use impatient::Impatient;
use places::{Place, Places, Who};

/// How often trouble with clocks is told.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// How often it is looked whether a peer is still known.
const KNOWN_EVERY: Duration = Duration::from_secs(1);
/// After an accept that failed, for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The certificate that a client has shown, whose key it holds, and which is
/// of the server's CA. It is among the extensions of each request over TLS.
///
/// A server of one's own, in place of [`Server`], puts it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate(Arc<[u8]>);

impl PeerCertificate {
    /// The certificate with this DER.
    pub fn new(der: impl Into<Arc<[u8]>>) -> Self {
        Self(der.into())
    }

    /// Its DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0
    }
}

type Knows = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Whom a server over TLS lets in.
#[derive(Clone)]
struct Door {
    tls: TlsAcceptor,
    /// Whether the holder of a certificate of the CA is known.
    knows: Knows,
}

/// A server over TCP or mutual TLS, in bounds: see [`ServerLimits`].
///
/// Over TLS it is known who somebody is before anything is asked: whoever has
/// no certificate of the CA is gone after the handshake, and each request says
/// by its [`PeerCertificate`] who asks. What to make of that is for the routes
/// to say, as [`Swarm`](super::Swarm) and [`Agent`](super::Agent) do before a
/// byte of a body is read. A connection is cut off once its certificate is not
/// known any more.
///
/// ```
/// use std::io::{Read as _, Write as _};
/// use axum::{Router, routing::get};
/// use decnet_lifecycle::http::{Server, Stop};
///
/// # #[tokio::main(flavor = "multi_thread")] async fn main() -> std::io::Result<()> {
/// let server = Server::bind("127.0.0.1:0".parse().unwrap()).await?;
/// let (address, stop) = (server.address()?, Stop::new());
/// let serving = tokio::spawn(server.run(Router::new().route("/", get("hello")), stop.clone()));
///
/// let mut client = std::net::TcpStream::connect(address)?;
/// client.write_all(b"GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert!(answer.ends_with("\r\n\r\nhello"));
///
/// stop.now();
/// serving.await?; // what was under way has been answered
/// # Ok(()) }
/// ```
pub struct Server {
    listener: TcpListener,
    door: Option<Door>,
    limits: ServerLimits,
}

/// What all connections of a server share.
#[derive(Clone)]
struct House {
    app: TowerToHyperService<Router>,
    door: Option<Door>,
    limits: ServerLimits,
    handshakes: Arc<Places>,
    places: Arc<Places>,
    stop: Stop,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listener", &self.listener)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server at this address, over plain TCP unless told otherwise. It
    /// listens from now on, and answers once it [runs](Self::run).
    ///
    /// # Errors
    /// [`io::Error`]: it can't listen there.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, door: None, limits: ServerLimits::default() })
    }

    /// A server on a listener that there is, as of a service manager.
    ///
    /// # Errors
    /// [`io::Error`]: the listener can't be used.
    pub fn on(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener: TcpListener::from_std(listener)?, door: None, limits: ServerLimits::default() })
    }

    /// Over TLS, for clients with a certificate of the CA alone:
    /// [`Identity::server_config`] asks for one. `knows` is asked with its DER
    /// which of them are known; others may come as well, are few at once, and
    /// are for the routes to turn away.
    ///
    /// [`Identity::server_config`]: crate::agent::https::Identity::server_config
    #[must_use]
    pub fn tls(
        mut self,
        config: rustls::ServerConfig,
        knows: impl Fn(&[u8]) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.door = Some(Door { tls: TlsAcceptor::from(Arc::new(config)), knows: Arc::new(knows) });
        self
    }

    /// Its bounds. Without: [`ServerLimits::default`].
    #[must_use]
    pub const fn limits(mut self, limits: ServerLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Where it listens.
    ///
    /// # Errors
    /// [`io::Error`]: the system doesn't say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is told to stop; requests under way are answered, for as
    /// long as [`ServerLimits::drain`] allows. Dropping the future cuts all
    /// connections off.
    pub async fn run(self, routes: Router, stop: Stop) {
        let Self { listener, door, limits } = self;
        let house = House {
            app: TowerToHyperService::new(routes),
            door,
            limits,
            handshakes: Places::new(limits.handshakes),
            places: Places::new(limits.connections),
            stop: stop.clone(),
        };
        let mut asked = std::pin::pin!(stop.asked());
        let mut open = JoinSet::new();
        loop {
            while open.try_join_next().is_some() {}
            let next = tokio::select! {
                next = listener.accept() => next,
                () = asked.as_mut() => break,
            };
            match next {
                // Here, so that who came first has its place first.
                Ok((stream, from)) => match house.place(from.ip()) {
                    Some(place) => drop(open.spawn(connection(house.clone(), stream, place))),
                    None => crowded(),
                },
                Err(error) => {
                    log::warn!(target: "decnet_lifecycle::http", error:% = error; "a connection was not taken");
                    sleep(PAUSE).await;
                }
            }
        }
        drop(listener);
        let _ = timeout(limits.drain, async { while open.join_next().await.is_some() {} }).await;
    }
}

impl House {
    /// A place for who has just come, to shake hands or to ask at once.
    fn place(&self, from: IpAddr) -> Option<Place> {
        let from = Who::from(from);
        match self.door {
            Some(_) => self.handshakes.take(&from, self.limits.handshakes_each),
            None => self.places.take(&from, self.limits.connections),
        }
    }
}

async fn connection(house: House, stream: TcpStream, place: Place) {
    let _ = stream.set_nodelay(true);
    let Some(door) = house.door.clone() else { return drive(house, stream, None, place).await };
    let shake = async {
        // Who says something goes before who says nothing.
        stream.readable().await?;
        place.is_at_work(true);
        door.tls.accept(stream).await
    };
    let shaken = tokio::select! {
        shaken = timeout(house.limits.handshake, shake) => shaken,
        () = place.is_needed() => return,
    };
    drop(place);
    match shaken {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let Some(shown) = shown.map(|shown| Arc::<[u8]>::from(shown.as_ref())) else { return };
            // Who it is is known before anything is asked.
            let ServerLimits { known_each, unknown_each, .. } = house.limits;
            let each = if (door.knows)(&shown) { known_each } else { unknown_each };
            let who = Who::Certified(Arc::clone(&shown));
            let Some(place) = house.places.take(&who, each) else { return crowded() };
            drive(house, stream, Some(PeerCertificate(shown)), place).await;
        }
        Ok(Err(error)) => failed(&error),
        Err(_) => log::info!(target: "decnet_lifecycle::http", "a handshake took too long"),
    }
}

/// A certificate that was refused for its dates is worth more than a line
/// among others: it may be a clock, and then nobody is heard. Told once in a
/// while, for strangers may cause it too.
fn failed(error: &io::Error) {
    static TOLD: Mutex<Option<Instant>> = Mutex::new(None);
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if tls.is_some_and(is_about_time) && told.is_none_or(|at| at.elapsed() > TELL_AGAIN) {
        *told = Some(Instant::now());
        log::warn!(target: "decnet_lifecycle::http", error:% = error; "a handshake failed; is the clock right, here and there, and has the certificate not run out?");
    } else {
        log::info!(target: "decnet_lifecycle::http", error:% = error; "a handshake failed");
    }
}

fn crowded() {
    log::warn!(target: "decnet_lifecycle::http", "a connection was not taken: all places are at work");
}

async fn drive(
    house: House,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Option<PeerCertificate>,
    place: Place,
) {
    let House { app, limits, door, stop, .. } = house;
    let place = Arc::new(place);
    let shown = peer.clone();
    let at_work = Arc::clone(&place);
    let service = hyper::service::service_fn(move |asked: hyper::Request<Incoming>| {
        let slow = Slow::default();
        let mut asked = asked.map(|body| timely(Body::new(body), &limits, slow.clone()));
        if let Some(peer) = &peer {
            asked.extensions_mut().insert(peer.clone());
        }
        at_work.is_at_work(true);
        let (answered, place) = (app.call(asked), Arc::clone(&at_work));
        async move {
            let answer = match timeout(limits.request, answered).await {
                Ok(Ok(_)) if slow.is_so() => too_slow(),
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(_) => too_slow(),
            };
            // What goes on and on is at work for as long.
            if !is_stream(&answer) {
                place.is_at_work(false);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header.min(limits.request))
        .max_buf_size(64 << 10);
    // A client may close its side once it has asked.
    server.half_close(true);
    let stream = TokioIo::new(Impatient::new(stream, limits.stalled));
    let mut connection = std::pin::pin!(server.serve_connection(stream, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = place.is_needed() => return,
        () = is_forgotten(shown, door) => {
            log::warn!(target: "decnet_lifecycle::http", "a connection was cut off: its host was taken out");
            return;
        }
        () = stop.asked() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        log::debug!(target: "decnet_lifecycle::http", error:% = error; "a connection broke");
    }
}

/// Resolves once a peer that was known isn't any more.
async fn is_forgotten(peer: Option<PeerCertificate>, door: Option<Door>) {
    let (Some(PeerCertificate(shown)), Some(door)) = (peer, door) else {
        return std::future::pending().await;
    };
    if !(door.knows)(&shown) {
        // It is told so, and has to leave with that.
        return std::future::pending().await;
    }
    let mut look = interval(KNOWN_EVERY);
    loop {
        look.tick().await;
        if !(door.knows)(&shown) {
            return;
        }
    }
}

fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get(axum::http::header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

fn too_slow() -> Response {
    let mut response = Response::new(Body::from(r#"{"detail":"the request took too long"}"#));
    *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
    response
}
