//! Peers that mean no good.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::{ClientConnection, StreamOwned};

use crate::processes::{Data, HANGS, ask_tls, connect_tls, request};

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A beat's header that promises a long body, and the body's first bytes.
const BEGUN: &str = "POST /swarm/heartbeat HTTP/1.1\r\nhost: m\r\ncontent-length: 200000\r\n\r\n{\"host";

/// Raises the limit on open files; gives what it is then.
pub fn raise_limits() -> usize {
    let now = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |room| usize::try_from(room).unwrap())
}

/// The answer to an honest beat.
pub fn beat(data: &Data, swarm: SocketAddr, host: &str) -> Option<u16> {
    let body = format!(r#"{{"host_uuid":"{host}","agent_version":"1","status":{{}},"topology":{{}}}}"#);
    let asked = request("POST", "/swarm/heartbeat", &[], &body);
    Some(ask_tls(swarm, &data.path("pki/ca.crt"), Some(&data.bundle(host)), &asked)?.status)
}

/// A worker that opens connection after connection, as fast as it can, and
/// holds as many as it is let.
pub struct Flood {
    stop: Arc<AtomicBool>,
    held: Arc<Mutex<VecDeque<Tls>>>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Gives it once it has opened all for the first time.
    pub fn start(data: &Data, swarm: SocketAddr, host: &str, most: usize) -> Self {
        let (stop, held) = (Arc::<AtomicBool>::default(), Arc::<Mutex<VecDeque<Tls>>>::default());
        let (ca, bundle): (PathBuf, PathBuf) = (data.path("pki/ca.crt"), data.bundle(host));
        let (full, is_full) = std::sync::mpsc::channel();
        let thread = std::thread::spawn({
            let (stop, held) = (Arc::clone(&stop), Arc::clone(&held));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut tls = connect_tls(swarm, &ca, Some(&bundle));
                    let _ = tls.write_all(BEGUN.as_bytes());
                    let mut held = held.lock().unwrap();
                    held.push_back(tls);
                    if held.len() > most {
                        held.pop_front();
                        let _ = full.send(());
                    }
                }
            }
        });
        is_full.recv_timeout(HANGS).unwrap();
        Self { stop, held, thread: Some(thread) }
    }

    /// Stops to open more, and gives how many of them are left to it.
    pub fn open(&self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut held = self.held.lock().unwrap();
        held.iter_mut().filter(|tls| is_open(&tls.sock)).count()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

/// Whether the other side has not closed it: what it has sent is read first.
fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut bytes = [0; 4096];
    loop {
        match (&*stream).read(&mut bytes) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// Connections that say nothing.
pub struct Strangers {
    _held: Vec<TcpStream>,
}

impl Strangers {
    pub fn connect(to: SocketAddr, count: usize) -> Self {
        Self { _held: (0..count).filter_map(|_| TcpStream::connect(to).ok()).collect() }
    }
}

/// Sends a byte to each, over and over.
pub struct Drip {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drip {
    pub fn start(mut streams: Vec<TcpStream>) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                while !stop.load(Ordering::Relaxed) {
                    for stream in &mut streams {
                        let _ = stream.write_all(b"a");
                    }
                    // Slowly, which is the point.
                    std::thread::park_timeout(Duration::from_millis(200));
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Drip {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().unwrap();
        thread.thread().unpark();
        let _ = thread.join();
    }
}

pub fn dripping_header(api: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(api).unwrap();
    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: m\r\nx-long: ");
    stream
}

/// The beginning of a long hello.
pub fn slow_handshake(swarm: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(swarm).unwrap();
    let _ = stream.write_all(&[0x16, 0x03, 0x01, 0x20, 0x00, 0x01, 0x00, 0x1f, 0xfc, 0x03, 0x03]);
    stream
}

pub fn slow_body(data: &Data, swarm: SocketAddr, host: &str) -> Tls {
    let mut tls = connect_tls(swarm, &data.path("pki/ca.crt"), Some(&data.bundle(host)));
    tls.write_all(BEGUN.as_bytes()).unwrap();
    tls
}

/// Whether the other side ends it within a time, though it drips on.
pub fn is_cut(mut tls: Tls, within: Duration) -> bool {
    let begun = Instant::now();
    tls.sock.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut answer = [0; 1024];
    while begun.elapsed() < within {
        let _ = tls.write_all(b"a");
        match tls.sock.peek(&mut answer) {
            Ok(0) => return true,
            Ok(_) => {
                // An answer, and its end.
                tls.sock.set_read_timeout(Some(HANGS)).unwrap();
                let mut all = Vec::new();
                let _ = tls.read_to_end(&mut all);
                return true;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return true,
        }
    }
    false
}

/// A follower of the feed.
pub struct Feed(TcpStream);

pub fn feed(api: SocketAddr, token: &str) -> Feed {
    let mut stream = TcpStream::connect(api).unwrap();
    stream.set_read_timeout(Some(HANGS)).unwrap();
    let bearer = format!("Bearer {token}");
    stream
        .write_all(request("GET", "/lifecycle/feed", &[("authorization", &bearer)], "").as_bytes())
        .unwrap();
    Feed(stream)
}

impl Feed {
    /// Whether it was told that there are too many, or got no place.
    pub fn is_refused(&self) -> bool {
        let mut begun = [0; 12];
        match (&self.0).read_exact(&mut begun) {
            Ok(()) => begun.ends_with(b"503"),
            Err(_) => true,
        }
    }
}
