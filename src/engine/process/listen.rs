//! Takes connections, a bounded number of them.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::decoy::DecoyOptions;
use super::limits::DecoyLimits;
use super::services::{self, Kind};
use super::session::Session;
use super::visits::{Event, Visits};

/// Speaking a protocol takes little; the default would be megabytes.
const STACK: usize = 256 * 1024;
/// How long the last clients get to be gone.
const FAREWELL: Duration = Duration::from_secs(2);

/// A decoy's open port.
#[derive(Debug)]
pub(super) struct Listening {
    listener: TcpListener,
    addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    kind: Kind,
    hostname: String,
    limits: DecoyLimits,
    visits: Visits,
    open: Mutex<HashMap<u64, Client>>,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Client {
    stream: Arc<TcpStream>,
    peer: SocketAddr,
}

impl Listening {
    pub(super) fn bind(options: &DecoyOptions, visits: Visits) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen)?;
        let addr = listener.local_addr()?;
        let shared = Shared {
            kind: Kind::of(&options.service),
            hostname: options.hostname.clone(),
            limits: options.limits.clone(),
            visits,
            open: Mutex::new(HashMap::new()),
            refused: AtomicU64::new(0),
        };
        Ok(Self { listener, addr, shared: Arc::new(shared) })
    }

    pub(super) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes connections until `stop` is raised and one more comes.
    pub(super) fn serve(self, stop: &AtomicBool) {
        let mut next = 0;
        loop {
            let accepted = self.listener.accept();
            if stop.load(Ordering::SeqCst) {
                break;
            }
            match accepted {
                Ok((stream, peer)) => {
                    next += 1;
                    self.shared.admit(next, stream, peer);
                }
                // Out of file descriptors: they come back as clients time out.
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
        drop(self.listener);
        self.shared.close_all();
    }
}

impl Shared {
    fn admit(self: &Arc<Self>, id: u64, stream: TcpStream, peer: SocketAddr) {
        let stream = Arc::new(stream);
        {
            let mut open = self.open();
            let same = open.values().filter(|client| client.peer.ip() == peer.ip()).count();
            if open.len() >= self.limits.connections || same >= self.limits.per_peer {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return;
            }
            open.insert(id, Client { stream: Arc::clone(&stream), peer });
        }
        let slot = Slot { shared: Arc::clone(self), id };
        // If no thread can be had, the slot goes with the closure.
        let _ = thread::Builder::new().name("decoy-client".to_owned()).stack_size(STACK).spawn(move || {
            slot.shared.attend(&stream, peer);
            drop(stream);
            drop(slot);
        });
    }

    fn attend(&self, stream: &TcpStream, peer: SocketAddr) {
        // A line for each client that is turned away would let a flood fill
        // the disk; the count goes with the next client that is not.
        match self.refused.swap(0, Ordering::Relaxed) {
            0 => {}
            count => self.visits.write(peer, Event::Refused(count)),
        }
        self.visits.write(peer, Event::Connect);
        let mut session = Session::new(stream, peer, &self.hostname, &self.limits);
        let reason = match services::speak(self.kind, &mut session) {
            Ok(()) => {
                session.finish();
                "done"
            }
            Err(end) => end.as_str(),
        };
        if !session.kept().is_empty() {
            self.visits.write(peer, Event::Input(session.kept()));
        }
        self.visits.write(peer, Event::Close { bytes: session.bytes(), reason });
    }

    fn close_all(&self) {
        let until = Instant::now() + FAREWELL;
        loop {
            {
                let open = self.open();
                if open.is_empty() || Instant::now() >= until {
                    return;
                }
                for client in open.values() {
                    let _ = client.stream.shutdown(Shutdown::Both);
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Client>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's place among those that are open; given back however it ends.
struct Slot {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.open().remove(&self.id);
    }
}
