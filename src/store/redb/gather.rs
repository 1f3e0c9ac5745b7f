//! How the writer's thread waits for those whom it answered a moment ago.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_channel::Receiver;
use event_listener::{Event, Listener as _};

/// The smallest group that is not worth waiting for more: by then the next one
/// can gather while this one is written.
const ENOUGH: usize = 32;

/// The longest that it sleeps, however slow the disk is.
const LONGEST: Duration = Duration::from_millis(5);

/// Where the writer sleeps until as many have come as it waits for. Who comes
/// before does not wake it: each wake may cost a timeslice on a busy machine.
pub(super) struct Gate {
    wanted: AtomicUsize,
    enough: Event,
}

impl Default for Gate {
    fn default() -> Self {
        Self { wanted: AtomicUsize::new(usize::MAX), enough: Event::new() }
    }
}

impl Gate {
    /// To be called after each submission, with how many are queued by then.
    pub(super) fn submitted(&self, queued: usize) {
        if queued >= self.wanted.load(Ordering::SeqCst) {
            self.enough.notify(1);
        }
    }

    /// Sleeps until so many are queued, though not for longer than that; false
    /// if fewer came. To be called on a thread of one's own.
    pub(super) fn wait<T>(&self, queue: &Receiver<T>, wanted: usize, at_most: Duration) -> bool {
        self.wait_until(queue, wanted.min(ENOUGH), Instant::now() + at_most.min(LONGEST))
    }

    fn wait_until<T>(&self, queue: &Receiver<T>, wanted: usize, deadline: Instant) -> bool {
        self.wanted.store(wanted, Ordering::SeqCst);
        let came = loop {
            let listener = self.enough.listen();
            if queue.len() >= wanted {
                break true;
            }
            if listener.wait_deadline(deadline).is_none() {
                break false;
            }
        };
        self.wanted.store(usize::MAX, Ordering::SeqCst);
        came
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_no_longer_than_it_is_told() {
        let (sender, queue) = async_channel::unbounded();
        sender.try_send(()).unwrap();
        let gate = Gate::default();
        assert!(!gate.wait(&queue, 2, Duration::ZERO));
        assert!(!gate.wait(&queue, 2, Duration::MAX));
        assert!(gate.wait(&queue, 1, Duration::ZERO));
    }

    #[test]
    fn the_last_that_it_waits_for_wakes_it() {
        const WANTED: usize = 8;
        for _ in 0..100 {
            let (sender, queue) = async_channel::unbounded();
            let gate = Gate::default();
            let far = Instant::now() + Duration::from_secs(60);
            std::thread::scope(|scope| {
                for _ in 0..WANTED {
                    scope.spawn(|| {
                        sender.try_send(()).unwrap();
                        gate.submitted(sender.len());
                    });
                }
                assert!(gate.wait_until(&queue, WANTED, far));
            });
        }
    }
}
