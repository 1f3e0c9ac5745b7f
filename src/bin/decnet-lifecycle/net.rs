//! Connections: how many, how long, and over which TLS. What is asked over
//! them is the router's.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::Complaint;

/// Connections at once, each server; more wait in the kernel's backlog.
const CONNECTIONS: usize = 512;
/// From the first packet to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// For a request's header.
const HEADER: Duration = Duration::from_secs(10);
/// For a client to take some bytes of an answer.
const STALLED: Duration = Duration::from_secs(30);
/// For requests under way when the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// After an accept that failed, for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The certificate that a client has shown, in DER; our CA's word for it has
/// been checked.
#[derive(Debug, Clone)]
pub struct PeerCertificate(pub Arc<[u8]>);

/// What a server listens on, and how.
pub struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    /// For a request and its body to come, and to be answered.
    request: Duration,
}

impl Server {
    pub async fn bind(
        address: SocketAddr,
        tls: Option<rustls::ServerConfig>,
        request: Duration,
    ) -> Result<Self, Complaint> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| Complaint(format!("can't listen on {address}: {error}")))?;
        Ok(Self { listener, tls: tls.map(|config| TlsAcceptor::from(Arc::new(config))), request })
    }

    pub fn address(&self) -> Result<SocketAddr, Complaint> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves until `stop` says so; requests under way are finished.
    pub async fn run(self, app: Router, mut stop: watch::Receiver<bool>) {
        let Self { listener, tls, request } = self;
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut open = JoinSet::new();
        let app = TowerToHyperService::new(app);
        loop {
            while open.try_join_next().is_some() {}
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
                Ok::<_, io::Error>((place, listener.accept().await?.0))
            };
            let next = tokio::select! {
                next = next => next,
                () = stopped(&mut stop) => break,
            };
            match next {
                Ok((place, stream)) => {
                    let (app, tls, stop) = (app.clone(), tls.clone(), stop.clone());
                    open.spawn(async move {
                        connection(stream, tls, app, request, stop).await;
                        drop(place);
                    });
                }
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

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    app: TowerToHyperService<Router>,
    request: Duration,
    stop: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return drive(stream, None, app, request, stop).await };
    match timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let peer = shown.map(|shown| PeerCertificate(Arc::from(shown.as_ref())));
            drive(stream, peer, app, request, stop).await;
        }
        Ok(Err(error)) => {
            log::info!(target: "decnet_lifecycle::http", error:% = error; "a handshake failed");
        }
        Err(_) => log::info!(target: "decnet_lifecycle::http", "a handshake took too long"),
    }
}

async fn drive(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Option<PeerCertificate>,
    app: TowerToHyperService<Router>,
    request: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let service = hyper::service::service_fn(move |mut asked: hyper::Request<Incoming>| {
        if let Some(peer) = &peer {
            asked.extensions_mut().insert(peer.clone());
        }
        let answered = app.call(asked);
        async move {
            Ok::<_, Infallible>(match timeout(request, answered).await {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(_) => too_slow(),
            })
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
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        log::debug!(target: "decnet_lifecycle::http", error:% = error; "a connection broke");
    }
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
