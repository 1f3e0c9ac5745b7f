//! Publishes to DECNET's bus from a thread that connects again when the server went.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::bus::queue::{Queue, message};
use crate::bus::{Bus, DriftEvent, Event};

use super::frame::{Frame, Verb};

/// A server that takes nothing for this long is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the thread sleeps at a time while there is nothing to send.
const IDLE: Duration = Duration::from_secs(60);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Publishes to DECNET's bus from a thread of its own.
///
/// A commit never waits for it: events stand in a bounded queue, of which the
/// oldest goes when it is full, and is counted. The server may come and go;
/// the thread connects again, at first after 0.1 and at most after 5 seconds.
/// There are no acknowledgements on this bus: an event that was handed to a
/// server that then died is lost, and is not counted.
///
/// Dropping it sends what is queued, if the server takes it, and ends the
/// thread; nobody waits for that.
///
/// ```
/// use decnet_lifecycle::bus::unix::UnixBus;
/// use decnet_lifecycle::bus::Bus as _;
///
/// let bus = UnixBus::new("/nonexistent/bus.sock", "master", 1_024);
/// assert_eq!(bus.dropped(), 0);
/// ```
#[derive(Debug)]
pub struct UnixBus {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    hello: Vec<u8>,
    queue: Queue<Vec<u8>>,
}

impl UnixBus {
    /// A bus at this socket, under this name (what isn't printable ASCII is
    /// left out), with at most so many events waiting.
    #[must_use]
    pub fn new(path: impl AsRef<Path>, name: &str, capacity: usize) -> Self {
        let name: String = name.chars().filter(char::is_ascii_graphic).take(64).collect();
        let hello =
            Frame::new(Verb::Hello, &name, Vec::new()).map(|frame| frame.to_bytes()).unwrap_or_default();
        let shared = Arc::new(Shared { path: path.as_ref().to_owned(), hello, queue: Queue::new(capacity) });
        let theirs = Arc::clone(&shared);
        let spawned = std::thread::Builder::new().name("decnet-bus".to_owned()).spawn(move || theirs.run());
        if let Err(error) = spawned {
            log::error!(target: "decnet_lifecycle::bus", error:% = error; "no thread for the bus: its events are dropped");
        }
        Self { shared }
    }

    /// `PUB decky.<name>.<kind>`; what no frame can hold is left out.
    fn send(&self, kind: &str, topic: &str, payload: &impl serde::Serialize) {
        let body = serde_json::to_vec(&message(kind, payload)).ok();
        if let Some(frame) = body.and_then(|body| Frame::new(Verb::Pub, topic, body).ok()) {
            self.shared.queue.push(frame.to_bytes());
        }
    }
}

impl Bus for UnixBus {
    fn publish(&self, event: &Event) {
        self.send("lifecycle", &event.topic(), event);
    }

    fn publish_drift(&self, event: &DriftEvent) {
        self.send("drift", &event.topic(), event);
    }

    fn dropped(&self) -> u64 {
        self.shared.queue.dropped()
    }
}

impl Drop for UnixBus {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl Shared {
    fn run(&self) {
        let mut wait = FIRST_WAIT;
        loop {
            match self.connect() {
                Ok(mut stream) => {
                    wait = FIRST_WAIT;
                    match self.send(&mut stream) {
                        Ok(()) => return,
                        Err(error) => {
                            log::warn!(target: "decnet_lifecycle::bus", error:% = error; "the bus went away");
                        }
                    }
                }
                Err(error) => {
                    log::debug!(target: "decnet_lifecycle::bus", error:% = error; "no bus at its socket");
                }
            }
            if self.queue.rest(wait) {
                return;
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&self.hello)?;
        Ok(stream)
    }

    /// Sends events as they come; ends well only when the bus is closed.
    fn send(&self, stream: &mut UnixStream) -> io::Result<()> {
        loop {
            match self.queue.next(IDLE) {
                (Some(frame), _) => {
                    if let Err(error) = stream.write_all(&frame) {
                        self.queue.put_back(frame);
                        return Err(error);
                    }
                }
                (None, true) => return stream.write_all(b"BYE\n\0\0\0\0"),
                (None, false) => {}
            }
        }
    }
}
