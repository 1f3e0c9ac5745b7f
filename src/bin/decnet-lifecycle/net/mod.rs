//! Connections: how many, whose, how long, and over which TLS. What is asked
//! over them is the router's.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use decnet_lifecycle::agent::https::is_about_time;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Sleep, interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::Complaint;

mod body;
mod places;

use body::{Slow, timely};
use places::{Place, Places, Who};

/// Connections at once, each server.
const CONNECTIONS: usize = 512;
/// Handshakes under way at once, and those from one address.
const HANDSHAKES: usize = 256;
const HANDSHAKES_EACH: usize = 64;
/// Connections of one certificate: of one that we know, and of another of our
/// CA, which is told so.
const KNOWN_EACH: usize = 8;
const UNKNOWN_EACH: usize = 2;
/// From the first packet to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// For a request's header.
const HEADER: Duration = Duration::from_secs(5);
/// For a client to take some bytes of an answer.
const STALLED: Duration = Duration::from_secs(10);
/// How often trouble with clocks is told.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// How often it is looked whether a peer is still known.
const KNOWN_EVERY: Duration = Duration::from_secs(1);
/// For requests under way when the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// After an accept that failed, for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The certificate that a client has shown, in DER; our CA's word for it has
/// been checked.
#[derive(Debug, Clone)]
pub struct PeerCertificate(pub Arc<[u8]>);

/// Whether we know the holder of a certificate of our CA.
pub type Knows = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Whom a server over TLS lets in.
#[derive(Clone)]
pub struct Door {
    tls: TlsAcceptor,
    knows: Knows,
}

impl Door {
    pub fn new(config: rustls::ServerConfig, knows: Knows) -> Self {
        Self { tls: TlsAcceptor::from(Arc::new(config)), knows }
    }
}

/// What a server listens on, and how.
pub struct Server {
    listener: TcpListener,
    door: Option<Door>,
    /// For a request and its body to come, and to be answered.
    request: Duration,
}

/// What all connections of a server share.
#[derive(Clone)]
struct House {
    app: TowerToHyperService<Router>,
    door: Option<Door>,
    request: Duration,
    handshakes: Arc<Places>,
    places: Arc<Places>,
    stop: watch::Receiver<bool>,
}

impl Server {
    pub async fn bind(address: SocketAddr, door: Option<Door>, request: Duration) -> Result<Self, Complaint> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| Complaint(format!("can't listen on {address}: {error}")))?;
        Ok(Self { listener, door, request })
    }

    pub fn address(&self) -> Result<SocketAddr, Complaint> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves until `stop` says so; requests under way are finished.
    pub async fn run(self, app: Router, mut stop: watch::Receiver<bool>) {
        let Self { listener, door, request } = self;
        let house = House {
            app: TowerToHyperService::new(app),
            door,
            request,
            handshakes: Places::new(HANDSHAKES),
            places: Places::new(CONNECTIONS),
            stop: stop.clone(),
        };
        let mut open = JoinSet::new();
        loop {
            while open.try_join_next().is_some() {}
            let next = tokio::select! {
                next = listener.accept() => next,
                () = stopped(&mut stop) => break,
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
        let _ = timeout(DRAIN, async { while open.join_next().await.is_some() {} }).await;
    }
}

impl House {
    /// A place for who has just come, to shake hands or to ask at once.
    fn place(&self, from: IpAddr) -> Option<Place> {
        let from = Who::from(from);
        match self.door {
            Some(_) => self.handshakes.take(&from, HANDSHAKES_EACH),
            None => self.places.take(&from, CONNECTIONS),
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
        shaken = timeout(HANDSHAKE, shake) => shaken,
        () = place.is_needed() => return,
    };
    drop(place);
    match shaken {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let Some(shown) = shown.map(|shown| Arc::<[u8]>::from(shown.as_ref())) else { return };
            // Who it is is known before anything is asked.
            let each = if (door.knows)(&shown) { KNOWN_EACH } else { UNKNOWN_EACH };
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
    let House { app, request, door, mut stop, .. } = house;
    let place = Arc::new(place);
    let shown = peer.clone();
    let at_work = Arc::clone(&place);
    let service = hyper::service::service_fn(move |asked: hyper::Request<Incoming>| {
        let slow = Slow::default();
        let mut asked = asked.map(|body| timely(Body::new(body), slow.clone()));
        if let Some(peer) = &peer {
            asked.extensions_mut().insert(peer.clone());
        }
        at_work.is_at_work(true);
        let (answered, place) = (app.call(asked), Arc::clone(&at_work));
        async move {
            let answer = match timeout(request, answered).await {
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
    server.timer(TokioTimer::new()).header_read_timeout(HEADER.min(request)).max_buf_size(64 << 10);
    // A client may close its side once it has asked.
    server.half_close(true);
    let stream = TokioIo::new(Impatient { stream, waits: None });
    let mut connection = std::pin::pin!(server.serve_connection(stream, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = place.is_needed() => return,
        () = is_forgotten(shown, door) => {
            log::warn!(target: "decnet_lifecycle::http", "a connection was cut off: its host was taken out");
            return;
        }
        () = stopped(&mut stop) => {
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

/// A stream whose other side has to take what is written.
struct Impatient<S> {
    stream: S,
    /// Since a write had to wait.
    waits: Option<Pin<Box<Sleep>>>,
}

impl<S: Unpin> Impatient<S> {
    fn or_give_up<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = None;
            return written;
        }
        let waits = self.waits.get_or_insert_with(|| Box::pin(sleep(STALLED)));
        ready!(waits.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.or_give_up(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.or_give_up(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.or_give_up(cx, shut)
    }
}

/// Lets this process have as many files and connections as it may: a usual
/// soft limit is 1,024, and what a server needs beside its connections must
/// not fail for want of one.
pub fn raise_limits() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: now.maximum, maximum: now.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        log::warn!(target: "decnet_lifecycle::http", error:% = error; "the limit on open files stays as it is");
    }
}

/// Waits until the server is to stop.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Becomes true at the first SIGINT or SIGTERM; the second ends the program.
pub fn stop_signal() -> Result<watch::Receiver<bool>, Complaint> {
    use tokio::signal::unix::{SignalKind, signal};
    let (tell, told) = watch::channel(false);
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        let mut asked = 0;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            asked += 1;
            if asked > 1 {
                std::process::exit(130);
            }
            crate::output::aside("stopping; once more to leave at once");
            tell.send_replace(true);
        }
    });
    Ok(told)
}
