//! What waits for the thread of a bus: bounded, of which the oldest goes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

/// Events on their way to a bus's own thread. Who puts one in never waits.
#[derive(Debug)]
pub(super) struct Queue<T> {
    capacity: usize,
    waiting: Mutex<Waiting<T>>,
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Waiting<T> {
    events: VecDeque<T>,
    is_closing: bool,
}

impl<T> Queue<T> {
    /// At most so many wait, and one at least may.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            waiting: Mutex::new(Waiting { events: VecDeque::new(), is_closing: false }),
            changed: Condvar::new(),
            dropped: AtomicU64::new(0),
        }
    }

    pub(super) fn push(&self, event: T) {
        let mut waiting = self.lock();
        waiting.events.push_back(event);
        if waiting.events.len() > self.capacity {
            waiting.events.pop_front();
            self.count_dropped();
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// One that could not be sent: the next connection may carry it, if there
    /// still is room.
    pub(super) fn put_back(&self, event: T) {
        let mut waiting = self.lock();
        if waiting.events.len() < self.capacity {
            waiting.events.push_front(event);
        } else {
            self.count_dropped();
        }
    }

    /// The next event, or none within this time or once the bus is closed and
    /// nothing waits; and whether it is closed.
    pub(super) fn next(&self, within: Duration) -> (Option<T>, bool) {
        let nothing = |waiting: &mut Waiting<T>| waiting.events.is_empty() && !waiting.is_closing;
        let waited = self.changed.wait_timeout_while(self.lock(), within, nothing);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (waiting.events.pop_front(), waiting.is_closing)
    }

    /// Waits before the next try to connect; true once the bus is closed.
    pub(super) fn rest(&self, wait: Duration) -> bool {
        let open = |waiting: &mut Waiting<T>| !waiting.is_closing;
        let rested = self.changed.wait_timeout_while(self.lock(), wait, open);
        rested.unwrap_or_else(PoisonError::into_inner).0.is_closing
    }

    pub(super) fn close(&self) {
        self.lock().is_closing = true;
        self.changed.notify_one();
    }

    /// One more that nobody will hear.
    pub(super) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is said of an event: `{"type": <kind>, "payload": ..}`, as on DECNET's
/// own bus.
pub(super) fn message(kind: &str, payload: &impl Serialize) -> Value {
    json!({"type": kind, "payload": payload})
}
