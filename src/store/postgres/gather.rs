//! How the writer waits for those whom it answered a moment ago.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_channel::Receiver;
use async_io::Timer;
use event_listener::Event;
use futures_lite::future::or;

/// The smallest group that is not worth waiting for more: by then the next one
/// can gather while this one is written.
const ENOUGH: usize = 32;

/// The longest that it waits, however slow the server is.
const LONGEST: Duration = Duration::from_millis(5);

/// After so many times in vain, one group in two to the power of it is waited
/// for.
const SELDOM: u32 = 5;

/// Where the writer waits until as many have come as it hopes for. Who comes
/// before does not wake it.
pub(super) struct Gate {
    hoped_for: AtomicUsize,
    enough: Event,
}

impl Default for Gate {
    fn default() -> Self {
        Self { hoped_for: AtomicUsize::new(usize::MAX), enough: Event::new() }
    }
}

impl Gate {
    /// To be called after each submission, with how many are queued by then.
    pub(super) fn submitted(&self, queued: usize) {
        if queued >= self.hoped_for.load(Ordering::SeqCst) {
            self.enough.notify(1);
        }
    }

    /// Waits until so many are queued, though not for longer than that; false
    /// if fewer came.
    async fn wait<T>(&self, queue: &Receiver<T>, hoped_for: usize, at_most: Duration) -> bool {
        let hoped_for = hoped_for.min(ENOUGH);
        self.hoped_for.store(hoped_for, Ordering::SeqCst);
        let came = async {
            loop {
                let listener = self.enough.listen();
                if queue.len() >= hoped_for {
                    return true;
                }
                listener.await;
            }
        };
        let late = async {
            Timer::after(at_most.min(LONGEST)).await;
            false
        };
        let came = or(came, late).await;
        self.hoped_for.store(usize::MAX, Ordering::SeqCst);
        came
    }
}

/// Who was answered a moment ago mostly comes again at once. Not to wait for
/// them would put the first of them in a group of its own, and the others
/// behind it, for ever. To wait in vain costs a part of what the commit took,
/// and is tried ever more seldom.
#[derive(Default)]
pub(super) struct Hope {
    /// How often in a row it was in vain.
    vain: u32,
    /// How many groups are now taken without.
    skip: u32,
}

impl Hope {
    pub(super) async fn wait<T>(
        &mut self,
        gate: &Gate,
        queue: &Receiver<T>,
        answered: usize,
        took: Duration,
    ) {
        if answered < 2 {
            return;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        let came = gate.wait(queue, answered, took / 4).await;
        self.vain = if came { 0 } else { (self.vain + 1).min(SELDOM) };
        self.skip = (1 << self.vain) - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    #[test]
    fn it_waits_no_longer_than_it_is_told() {
        let (sender, queue) = async_channel::unbounded();
        sender.try_send(()).unwrap();
        let gate = Gate::default();
        assert!(!block_on(gate.wait(&queue, 2, Duration::ZERO)));
        assert!(!block_on(gate.wait(&queue, 2, Duration::MAX)));
        assert!(block_on(gate.wait(&queue, 1, Duration::ZERO)));
    }

    #[test]
    fn what_was_in_vain_is_tried_ever_more_seldom() {
        let (gate, (_sender, queue)) = (Gate::default(), async_channel::unbounded::<()>());
        let mut hope = Hope::default();
        let mut waited = 0;
        for _ in 0..100 {
            waited += u32::from(hope.skip == 0);
            block_on(hope.wait(&gate, &queue, 9, Duration::ZERO));
        }
        assert!((5..9).contains(&waited), "{waited}");
    }
}
