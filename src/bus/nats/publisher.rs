//! Publishes to NATS from a thread that connects again when the server went.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bus::queue::{Queue, message};
use crate::bus::{Bus, DriftEvent, Event};

use super::connection::{Connection, Heard, PATIENCE, Servers};
use super::error::NatsError;
use super::settings::NatsSettings;

/// How often a server is listened to while there is nothing to say.
const TICK: Duration = Duration::from_secs(1);

/// Publishes to NATS from a thread of its own: its core protocol, so at best
/// effort.
///
/// The subject is `<prefix>.decky.<name>.lifecycle`, the message
/// `{"type": "lifecycle", "payload": ..}`, as on DECNET's own bus; of a decky
/// that runs otherwise than it is placed, the word is `drift` in both. A decky's
/// name has no character that means anything in a subject.
///
/// A commit never waits for it: events stand in a bounded queue, of which the
/// oldest goes when it is full, and is counted. Servers may come and go; the
/// thread connects again, to the next of them. Core NATS acknowledges nothing:
/// an event that was handed to a server that then died is lost, and is not
/// counted. Who must see every change follows the feed, or a stream that a
/// [`NatsMirror`](crate::mirror::NatsMirror) fills.
///
/// Dropping it sends what is queued, if a server is there and takes it, and
/// ends the thread; nobody waits for that.
///
/// ```
/// use decnet_lifecycle::bus::{Bus as _, nats::NatsBus};
///
/// let bus = NatsBus::new("nats://127.0.0.1:1".parse()?, 1_024);
/// assert_eq!(bus.dropped(), 0);
/// # Ok::<(), decnet_lifecycle::bus::nats::NatsError>(())
/// ```
#[derive(Debug)]
pub struct NatsBus {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    prefix: String,
    queue: Queue<Publication>,
}

/// An event, as it is sent.
#[derive(Debug)]
struct Publication {
    bytes: Vec<u8>,
    /// How many of them are the message.
    payload: usize,
}

impl Publication {
    fn of(prefix: &str, kind: &str, topic: &str, payload: &impl serde::Serialize) -> Self {
        let body = message(kind, payload).to_string();
        let mut bytes = format!("PUB {prefix}.{topic} {}\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body.as_bytes());
        bytes.extend_from_slice(b"\r\n");
        Self { bytes, payload: body.len() }
    }
}

impl NatsBus {
    /// A bus at these servers, with at most so many events waiting.
    #[must_use]
    pub fn new(settings: NatsSettings, capacity: usize) -> Self {
        let shared = Arc::new(Shared { prefix: settings.prefix().to_owned(), queue: Queue::new(capacity) });
        let theirs = Arc::clone(&shared);
        let servers = Servers::new(settings, "decnet-lifecycle");
        let spawned =
            std::thread::Builder::new().name("decnet-bus".to_owned()).spawn(move || theirs.run(servers));
        if let Err(error) = spawned {
            log::error!(target: "decnet_lifecycle::bus", error:% = error; "no thread for the bus: its events are dropped");
        }
        Self { shared }
    }
}

impl Bus for NatsBus {
    fn publish(&self, event: &Event) {
        self.shared.queue.push(Publication::of(&self.shared.prefix, "lifecycle", &event.topic(), event));
    }

    fn publish_drift(&self, event: &DriftEvent) {
        self.shared.queue.push(Publication::of(&self.shared.prefix, "drift", &event.topic(), event));
    }

    fn dropped(&self) -> u64 {
        self.shared.queue.dropped()
    }
}

impl Drop for NatsBus {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl Shared {
    fn run(&self, mut servers: Servers) {
        let (mut tries, mut told) = (0, String::new());
        loop {
            let trouble = match servers.connect() {
                Ok(mut connection) => {
                    log::info!(target: "decnet_lifecycle::bus", server:% = connection.server(); "connected to NATS");
                    let since = Instant::now();
                    let Err(trouble) = self.send(&mut connection) else { return };
                    // One that lets us in and throws us out is no better than none.
                    if since.elapsed() > PATIENCE {
                        (tries, told) = (0, String::new());
                    }
                    trouble
                }
                Err(trouble) => trouble,
            };
            // Once for each kind of trouble, not for each try.
            let words = trouble.to_string();
            if words != told {
                log::warn!(target: "decnet_lifecycle::bus", error:% = words; "no NATS server for the bus");
                told = words;
            }
            tries += 1;
            if self.queue.rest(servers.settings().wait_after(tries)) {
                return;
            }
        }
    }

    /// Sends events as they come; ends well only when the bus is closed.
    fn send(&self, connection: &mut Connection) -> Result<(), NatsError> {
        let mut was_told = false;
        loop {
            let (event, is_closing) = self.queue.next(TICK);
            // First of all: what was handed to one that has gone is lost.
            if let Err(trouble) = self.listen(connection, &mut was_told) {
                event.into_iter().for_each(|event| self.queue.put_back(event));
                return Err(trouble);
            }
            match event {
                Some(event) if event.payload > connection.info().max_payload => {
                    self.queue.count_dropped();
                    log::warn!(target: "decnet_lifecycle::bus", server:% = connection.server(), bytes = event.payload;
                        "an event is longer than the server's max_payload: dropped");
                }
                Some(event) => {
                    if let Err(trouble) = connection.send(&event.bytes) {
                        self.queue.put_back(event);
                        return Err(trouble);
                    }
                }
                None if is_closing => return flush(connection),
                None => {}
            }
        }
    }

    /// Hears what the server says; of what it refuses, the first is told.
    fn listen(&self, connection: &mut Connection, was_told: &mut bool) -> Result<(), NatsError> {
        if let Some(said) = connection.refused_by_now()?
            && !std::mem::replace(was_told, true)
        {
            log::warn!(target: "decnet_lifecycle::bus", server:% = connection.server(), error = said.as_str();
                "the NATS server refused something");
        }
        connection.keep_alive()
    }
}

/// Waits until the server has read all: closing a connection on which
/// something is unread would take it back.
fn flush(connection: &mut Connection) -> Result<(), NatsError> {
    let end = Instant::now() + PATIENCE;
    connection.send(b"PING\r\n")?;
    while !matches!(connection.hear_until(end)?, Some(Heard::Pong) | None) {}
    Ok(())
}
