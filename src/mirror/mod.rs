//! The feed in a stream of JetStream: each change once, in order.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;

use crate::bus::nats::{JetStream, NatsError, NatsSettings, Refusal, Servers, StreamEnd};
use crate::lifecycle::{Revision, text};
use crate::store::{Feed, Store, StoreError};

mod error;
mod place;

pub use error::MirrorError;

use error::Stop;
use place::{Place, Told};

/// How often the feed is looked at while nothing changes.
const POLL: Duration = Duration::from_millis(250);
/// How long the next acknowledgement may take.
const ACKNOWLEDGED: Duration = Duration::from_secs(15);
/// Messages on their way at once.
const WINDOW: usize = 256;

/// Puts a store's feed into a stream of JetStream: each change once, in order.
///
/// It reads the feed beside whoever writes the store. Where it goes on, it
/// reads from the stream's last message: it keeps nothing of its own, so it
/// can be killed, moved, and run twice at once. A stream that has lost
/// messages at its end gets them again; it gets the feed from its oldest change
/// on if it is empty.
///
/// A change's subject is `<prefix>.feed.decky.<name>`; the message is what
/// [`Entry::to_told`](crate::store::Entry::to_told) gives. Where changes were
/// pruned before they could be mirrored, a message
/// `{"event": "compacted", "oldest": ..}` on `<prefix>.feed.compacted` stands
/// in their place. The stream has to be there, for the subjects
/// `<prefix>.feed.>` and for nobody else's messages.
///
/// This rests on revisions without gaps: behind a message of revision `r` only
/// `r + 1` may stand, which the server checks (`Nats-Expected-Last-Sequence`).
/// What was sent and not acknowledged is sent again on the next connection, and
/// the server knows it again (`Nats-Msg-Id`, `<revision>@<sequence>`).
///
/// ```no_run
/// use std::ops::ControlFlow;
/// use std::sync::Arc;
/// use decnet_lifecycle::mirror::{Mirrored, NatsMirror};
/// # use decnet_lifecycle::store::MemoryStore;
///
/// # let store = Arc::new(MemoryStore::new());
/// let mirror = NatsMirror::new(store, "nats://127.0.0.1".parse()?, "decnet")?;
/// let thread = std::thread::spawn(move || {
///     mirror.run(|now| {
///         if let Mirrored::Trouble { words } = now {
///             eprintln!("{words}");
///         }
///         ControlFlow::Continue(())
///     })
/// });
/// # Ok::<(), decnet_lifecycle::mirror::MirrorError>(())
/// ```
#[derive(Debug)]
pub struct NatsMirror {
    store: Arc<dyn Store>,
    settings: NatsSettings,
    stream: String,
    start: Revision,
}

/// How a mirror is coming along.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mirrored {
    /// It has found its place, and goes on from there.
    Following {
        /// With which server.
        server: String,
        /// The newest change that the stream has.
        after: Revision,
    },
    /// The stream has acknowledged all up to here. Told at least once a second
    /// while the connection is good.
    UpTo {
        /// The newest change that it has for certain.
        revision: Revision,
        /// Whether that is all there is.
        is_all: bool,
    },
    /// Something went wrong; it is tried again in a moment.
    Trouble {
        /// What.
        words: String,
    },
}

/// What somebody who is told wants.
type Tell<'a> = &'a mut dyn FnMut(Mirrored) -> ControlFlow<()>;

impl NatsMirror {
    /// A mirror of this store's feed in the stream of this name.
    ///
    /// # Errors
    /// [`NatsError::Settings`]: no stream has such a name.
    pub fn new(store: Arc<dyn Store>, settings: NatsSettings, stream: &str) -> Result<Self, NatsError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if stream.is_empty() || stream.len() > 64 || !stream.bytes().all(is_plain) {
            return Err(NatsError::Settings {
                what: "a stream's name is made of at most 64 letters, digits, - and _".to_owned(),
            });
        }
        Ok(Self { store, settings, stream: stream.to_owned(), start: Revision::ZERO })
    }

    /// Begins after this revision if the stream is empty, instead of with the
    /// oldest change there is.
    #[must_use]
    pub const fn start_after(mut self, revision: Revision) -> Self {
        self.start = revision;
        self
    }

    /// Mirrors until it is told to break. Blocks: give it a thread of its own.
    /// It can be ended at any time by any means; nothing is lost or doubled.
    ///
    /// # Errors
    /// [`MirrorError`]: waiting won't help. Trouble on the way is told and
    /// tried again, for as long as it takes; the first connection must be let
    /// in, though.
    pub fn run(&self, mut tell: impl FnMut(Mirrored) -> ControlFlow<()>) -> Result<(), MirrorError> {
        let mut servers = Servers::new(self.settings.clone(), "decnet-lifecycle-mirror");
        let (mut known, mut tries) = (None, 0);
        let mut is_first = true;
        loop {
            let before = known;
            let Err(stop) = self.follow(&mut servers, &mut known, &mut is_first, &mut tell) else {
                return Ok(());
            };
            let words = stop.judge(is_first)?;
            tries = if known == before { tries + 1 } else { 1 };
            if tell(Mirrored::Trouble { words }).is_break() {
                return Ok(());
            }
            std::thread::sleep(self.settings.wait_after(tries));
        }
    }

    fn subjects(&self) -> String {
        format!("{}.feed.>", self.settings.prefix())
    }

    /// Mirrors on one connection; ends well only when it is told to break.
    fn follow(
        &self,
        servers: &mut Servers,
        known: &mut Option<Place>,
        is_first: &mut bool,
        tell: Tell<'_>,
    ) -> Result<(), Stop> {
        let mut stream = JetStream::new(servers.connect()?)?;
        let server = stream.server().to_owned();
        let end = stream
            .end_of(&self.stream, &self.subjects())
            .map_err(|error| Stop::of(error, &server, &self.stream, &self.subjects()))?;
        let after = self.place(&end, *known)?;
        *is_first = false;
        if tell(Mirrored::Following { server, after }).is_break() {
            return Ok(());
        }
        let last = Place { sequence: end.sequence, revision: after };
        Sending { mirror: self, stream, last, sent: VecDeque::new() }.run(known, tell)
    }

    /// The newest change that the stream has.
    fn place(&self, end: &StreamEnd, known: Option<Place>) -> Result<Revision, Stop> {
        let Some(payload) = &end.last else {
            // All that is too old has gone from it, perhaps.
            let known = known.filter(|known| known.sequence == end.sequence);
            return Ok(known.map_or(self.start, |known| known.revision));
        };
        let told = Told::read(payload).ok_or_else(|| {
            self.foreign(
                "its last message is nothing that a mirror says; let it have the mirror's subjects alone",
            )
        })?;
        match block_on(told.against(&*self.store)).map_err(unread)? {
            Some(what) => Err(self.foreign(what)),
            None => Ok(told.revision()),
        }
    }

    fn foreign(&self, what: impl Into<String>) -> Stop {
        Stop::Wrong(MirrorError::Foreign { stream: self.stream.clone(), what: what.into() })
    }
}

fn unread(error: StoreError) -> Stop {
    Stop::Again(format!("the feed can't be read: {error}"))
}

/// A connection on which the stream is filled.
struct Sending<'a> {
    mirror: &'a NatsMirror,
    stream: JetStream,
    /// The last that was sent, and where it will stand.
    last: Place,
    /// What was sent and is not acknowledged.
    sent: VecDeque<Place>,
}

impl Sending<'_> {
    fn run(mut self, known: &mut Option<Place>, tell: Tell<'_>) -> Result<(), Stop> {
        let mut mirrored = self.last.revision;
        loop {
            let is_all = self.send()?;
            if let Some(acknowledged) = self.acknowledged()? {
                *known = Some(acknowledged);
                mirrored = acknowledged.revision;
            }
            let is_all = is_all && self.sent.is_empty();
            if tell(Mirrored::UpTo { revision: mirrored, is_all }).is_break() {
                return Ok(());
            }
        }
    }

    /// Sends what is new, once half of the window is free; whether nothing is.
    fn send(&mut self) -> Result<bool, Stop> {
        if self.sent.len() > WINDOW / 2 {
            return Ok(false);
        }
        let (after, room) = (self.last.revision, WINDOW - self.sent.len());
        let feed = block_on(self.mirror.store.changes(after, room)).map_err(unread)?;
        let is_all = match feed {
            Feed::Entries { head, .. } if head < after => {
                return Err(self.mirror.foreign(format!(
                    "the store ends at revision {head}, before the {after} that was mirrored: it is an older \
                     copy now. Name another stream, or purge this one"
                )));
            }
            Feed::Entries { entries, .. } => {
                for entry in &entries {
                    let message = text::json(&entry.to_told());
                    self.put(&format!("decky.{}", entry.decky), entry.revision, &message)?;
                }
                entries.is_empty()
            }
            Feed::Compacted { oldest } if oldest <= after.next() => {
                return Err(Stop::Again("the feed can't be read from where the stream ends".to_owned()));
            }
            Feed::Compacted { oldest } => {
                let before = Revision::new(oldest.get().saturating_sub(1));
                self.put("compacted", before, &Told::compacted(oldest))?;
                false
            }
        };
        self.stream.flush()?;
        Ok(is_all)
    }

    /// Puts a message behind the last.
    fn put(&mut self, what: &str, revision: Revision, message: &str) -> Result<(), Stop> {
        let max = self.stream.max_payload();
        // Headers count, too.
        if message.len() + 512 > max {
            let server = self.stream.server().to_owned();
            return Err(Stop::Wrong(MirrorError::TooLong { server, max, len: message.len() }));
        }
        let subject = format!("{}.feed.{what}", self.mirror.settings.prefix());
        let after = self.last.sequence;
        self.last = Place { sequence: after + 1, revision };
        // By its sequence, too: a stream that was purged remembers what it had.
        let id = format!("{revision}@{}", self.last.sequence);
        self.stream.publish(&self.mirror.stream, &subject, &id, after, message.as_bytes());
        self.sent.push_back(self.last);
        Ok(())
    }

    /// Hears of what was sent; the last that the stream has for certain, if one
    /// more does.
    fn acknowledged(&mut self) -> Result<Option<Place>, Stop> {
        let (patience, mut last) = (if self.sent.is_empty() { POLL } else { ACKNOWLEDGED }, None);
        let mut end = Instant::now() + patience;
        while let Some(acked) = self.stream.acked(end).map_err(|error| {
            Stop::of(error, self.stream.server(), &self.mirror.stream, &self.mirror.subjects())
        })? {
            let stream = &self.mirror.stream;
            match acked.outcome {
                Err(Refusal::Other(said)) => return Err(Stop::Again(format!("stream {stream}: {said}"))),
                Err(Refusal::Sequence) => {
                    return Err(Stop::Again(format!(
                        "stream {stream} doesn't end where it did: looking anew"
                    )));
                }
                Ok(()) => {}
            }
            match self.sent.pop_front() {
                Some(place) if place.sequence == acked.after + 1 => last = Some(place),
                _ => return Err(Stop::Again(format!("stream {stream} acknowledges out of order"))),
            }
            // What has come by now, no more.
            end = Instant::now();
        }
        if last.is_none() && !self.sent.is_empty() {
            return Err(Stop::Again(format!("no acknowledgement from stream {}", self.mirror.stream)));
        }
        Ok(last)
    }
}
