//! The server around the routes: its bounds, and who it lets in.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Extension;
use axum::routing::{get, post};
use decnet_lifecycle::agent::Fingerprint;
use decnet_lifecycle::http::{PeerCertificate, Server, ServerLimits, Stop};

use tokio::sync::Notify;

use crate::processes::{HANGS, ask_tls, connect_tls, request};
use crate::tls::Ca;
use crate::{ask, begun, loopback, off, serve};

fn limits(set: impl FnOnce(&mut ServerLimits)) -> ServerLimits {
    let mut limits = ServerLimits::default();
    set(&mut limits);
    limits
}

/// Bounds that nobody meets by being idle.
fn patient(set: impl FnOnce(&mut ServerLimits)) -> ServerLimits {
    limits(|limits| {
        (limits.header, limits.request) = (HANGS * 4, HANGS * 4);
        set(limits);
    })
}

fn routes() -> Router {
    Router::new()
        .route("/", get("hello"))
        .route("/length", post(async |body: Bytes| body.len().to_string()))
        .route("/never", get(std::future::pending::<String>))
}

#[tokio::test]
async fn who_is_never_answered_and_who_never_sends_is_told_so() {
    let short = limits(|limits| limits.request = Duration::from_millis(50));
    let served = serve(loopback().await.limits(short), routes(), &Stop::new());
    assert_eq!(ask(served.address, "GET", "/never", &[]).await.0, 408);

    let at_once = limits(|limits| limits.body_grace = Duration::ZERO);
    let served = serve(loopback().await.limits(at_once), routes(), &Stop::new());
    let address = served.address;
    let head = "POST /length HTTP/1.1\r\nhost: here\r\ncontent-length: 5\r\n\r\n";
    let (_, line) = off(move || begun(address, head)).await;
    assert!(line.starts_with("HTTP/1.1 408 "), "{line}");
    // No lowest rate at all is no division by it.
    let none = limits(|limits| limits.body_rate = 0);
    let served = serve(loopback().await.limits(none), routes(), &Stop::new());
    let (address, whole) = (served.address, request("POST", "/length", &[], "12345"));
    assert_eq!(off(move || crate::processes::ask(address, &whole)).await.body, "5");
}

#[tokio::test]
async fn the_idle_make_room_for_who_asks() {
    let one = patient(|limits| limits.connections = 1);
    let served = serve(loopback().await.limits(one), routes(), &Stop::new());
    let address = served.address;
    let keep = "GET / HTTP/1.1\r\nhost: here\r\n\r\n";
    let (mut idle, line) = off(move || begun(address, keep)).await;
    assert_eq!(line, "HTTP/1.1 200 OK\r\n");
    assert_eq!(ask(address, "GET", "/", &[]).await, (200, "hello".into()));
    let mut rest = Vec::new();
    // The end, or a reset: its place is gone.
    let ended = off(move || idle.read_to_end(&mut rest).map_err(|error| error.kind())).await;
    assert!(ended != Err(std::io::ErrorKind::WouldBlock), "it kept its place");
}

#[tokio::test]
async fn a_server_on_a_listener_of_the_caller_s_answers_what_was_asked_before_it_stops() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (arrived, may_go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&arrived), Arc::clone(&may_go));
    let waits = get(async move || {
        tell.notify_one();
        wait.notified().await;
        "done"
    });
    let served = serve(Server::on(listener).unwrap(), Router::new().route("/", waits), &Stop::new());
    let asked = tokio::spawn(async move { ask(served.address, "GET", "/", &[]).await });
    arrived.notified().await;
    served.stop.now();
    let address = served.address;
    off(move || while TcpStream::connect(address).is_ok() {}).await;
    may_go.notify_one();
    assert_eq!(asked.await.unwrap(), (200, "done".into()));
    served.running.await.unwrap();
}

#[tokio::test]
async fn each_request_says_by_whose_certificate_it_came_until_that_is_taken_out() {
    let ca = Ca::new();
    let (server, host) = (ca.issue("master", "127.0.0.1"), ca.issue("w1", "127.0.0.1"));
    let (print, is_in) = (host.fingerprint, Arc::new(AtomicBool::new(true)));
    let knows = {
        let is_in = Arc::clone(&is_in);
        move |shown: &[u8]| is_in.load(Ordering::SeqCst) && Fingerprint::of(shown) == print
    };
    let says =
        get(async |Extension(shown): Extension<PeerCertificate>| Fingerprint::of(shown.der()).to_string());
    let served = serve(
        loopback().await.limits(patient(|_| ())).tls(server.server(), knows),
        Router::new().route("/", says),
        &Stop::new(),
    );
    let (address, ca_file) = (served.address, server.dir.join("ca.crt"));
    let asked = |bundle: Option<&Path>| {
        let (ca_file, bundle): (PathBuf, Option<PathBuf>) = (ca_file.clone(), bundle.map(Path::to_owned));
        off(move || ask_tls(address, &ca_file, bundle.as_deref(), &request("GET", "/", &[], "")))
    };
    assert_eq!(asked(Some(&host.dir)).await.unwrap().body, print.to_string());
    // Another of the CA comes in, for the routes to turn away; nobody else does.
    let other = ca.issue("w2", "127.0.0.1");
    assert_eq!(asked(Some(&other.dir)).await.unwrap().body, other.fingerprint.to_string());
    assert!(asked(None).await.is_none());
    let others = Ca::new();
    let stranger = others.issue("w1", "127.0.0.1");
    assert!(asked(Some(&stranger.dir)).await.is_none());

    let (dir, file) = (host.dir.clone(), ca_file.clone());
    let kept = off(move || {
        let mut tls = connect_tls(address, &file, Some(&dir));
        tls.sock.set_read_timeout(Some(HANGS)).unwrap();
        tls.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").unwrap();
        let mut begun = [0; 12];
        tls.read_exact(&mut begun).unwrap();
        (tls, begun)
    });
    let (mut tls, first) = kept.await;
    assert_eq!(&first, b"HTTP/1.1 200");
    is_in.store(false, Ordering::SeqCst);
    let mut rest = Vec::new();
    let ended = off(move || tls.read_to_end(&mut rest).map_err(|error| error.kind())).await;
    assert!(ended != Err(std::io::ErrorKind::WouldBlock), "it was not cut off");
}
