//! Publishes to DECNET's bus from a thread that connects again when the server went.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::bus::{Bus, DriftEvent, Event};

use super::frame::{Frame, Verb};

/// A server that takes nothing for this long is given up.
const PATIENCE: Duration = Duration::from_secs(5);
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
    capacity: usize,
    queue: Mutex<Queue>,
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Vec<u8>>,
    is_closing: bool,
}

impl UnixBus {
    /// A bus at this socket, under this name (what isn't printable ASCII is
    /// left out), with at most so many events waiting.
    #[must_use]
    pub fn new(path: impl AsRef<Path>, name: &str, capacity: usize) -> Self {
        let name: String = name.chars().filter(char::is_ascii_graphic).take(64).collect();
        let hello =
            Frame::new(Verb::Hello, &name, Vec::new()).map(|frame| frame.to_bytes()).unwrap_or_default();
        let shared = Arc::new(Shared {
            path: path.as_ref().to_owned(),
            hello,
            capacity: capacity.max(1),
            queue: Mutex::default(),
            changed: Condvar::new(),
            dropped: AtomicU64::new(0),
        });
        let theirs = Arc::clone(&shared);
        let spawned = std::thread::Builder::new().name("decnet-bus".to_owned()).spawn(move || theirs.run());
        if let Err(error) = spawned {
            log::error!(target: "decnet_lifecycle::bus", error:% = error; "no thread for the bus: its events are dropped");
        }
        Self { shared }
    }
}

impl Bus for UnixBus {
    fn publish(&self, event: &Event) {
        self.shared.push(frame_of("lifecycle", &event.topic(), event));
    }

    fn publish_drift(&self, event: &DriftEvent) {
        self.shared.push(frame_of("drift", &event.topic(), event));
    }

    fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for UnixBus {
    fn drop(&mut self) {
        self.shared.lock().is_closing = true;
        self.shared.changed.notify_one();
    }
}

/// `PUB decky.<name>.<kind>` with `{"type": <kind>, "payload": ..}`.
fn frame_of(kind: &str, topic: &str, payload: &impl serde::Serialize) -> Option<Vec<u8>> {
    let body = serde_json::to_vec(&serde_json::json!({"type": kind, "payload": payload})).ok()?;
    Frame::new(Verb::Pub, topic, body).ok().map(|frame| frame.to_bytes())
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, frame: Option<Vec<u8>>) {
        let Some(frame) = frame else { return };
        let mut queue = self.lock();
        queue.frames.push_back(frame);
        if queue.frames.len() > self.capacity {
            queue.frames.pop_front();
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        drop(queue);
        self.changed.notify_one();
    }

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
            if self.rest(wait) {
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
            let mut queue = self.lock();
            let frame = loop {
                match queue.frames.pop_front() {
                    Some(frame) => break Some(frame),
                    None if queue.is_closing => break None,
                    None => queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(queue);
            let Some(frame) = frame else {
                return stream.write_all(b"BYE\n\0\0\0\0");
            };
            if let Err(error) = stream.write_all(&frame) {
                // The next connection may carry it, if there still is room.
                let mut queue = self.lock();
                if queue.frames.len() < self.capacity {
                    queue.frames.push_front(frame);
                } else {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
                return Err(error);
            }
        }
    }

    /// Waits before the next try; true once the bus is closed.
    fn rest(&self, wait: Duration) -> bool {
        let queue = self.lock();
        let open = |queue: &mut Queue| !queue.is_closing;
        let rested = self.changed.wait_timeout_while(queue, wait, open);
        rested.unwrap_or_else(PoisonError::into_inner).0.is_closing
    }
}
