//! A bus inside the process, with a bounded queue for each subscriber.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use async_channel::{Receiver, Sender};

use super::{Bus, DriftEvent, Event};

/// A bus inside the process: each subscriber has a bounded queue; one that
/// is full loses its oldest event, which is counted.
///
/// Not for a consumer that must see every change: that is what
/// [`Runner::watch`](crate::Runner::watch) is for.
///
/// ```
/// # use decnet_lifecycle::{DeckyName, LifecycleId, Operation, Status, bus::{Bus, ChannelBus, Event}};
/// # let event = Event {
/// #     decky: DeckyName::parse("decky-01")?,
/// #     lifecycle_id: LifecycleId::from_u128(7),
/// #     operation: Operation::Deploy,
/// #     status: Status::Running,
/// #     error: None,
/// # };
/// let bus = ChannelBus::new(16);
/// let subscription = bus.subscribe();
/// bus.publish(&event);
/// assert_eq!(futures_lite::future::block_on(subscription.next()), Some(event));
/// # Ok::<(), decnet_lifecycle::lifecycle::NameError>(())
/// ```
#[derive(Debug)]
pub struct ChannelBus {
    capacity: usize,
    subscribers: Mutex<Vec<Sender<Event>>>,
    of_drift: Mutex<Vec<Sender<DriftEvent>>>,
    dropped: AtomicU64,
}

impl ChannelBus {
    /// A bus whose subscribers have queues of this many events, at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            subscribers: Mutex::default(),
            of_drift: Mutex::default(),
            dropped: AtomicU64::new(0),
        }
    }

    /// Hears every change of a row that is published from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        self.subscription(&self.subscribers)
    }

    /// Hears of every decky that doesn't run as it is placed, from now on.
    #[must_use]
    pub fn subscribe_drift(&self) -> Subscription<DriftEvent> {
        self.subscription(&self.of_drift)
    }

    fn subscription<E>(&self, of: &Mutex<Vec<Sender<E>>>) -> Subscription<E> {
        let (sender, receiver) = async_channel::bounded(self.capacity);
        of.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Subscription { receiver }
    }

    fn send<E: Clone>(&self, to: &Mutex<Vec<Sender<E>>>, event: &E) {
        let mut subscribers = to.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| match subscriber.force_send(event.clone()) {
            Ok(None) => true,
            Ok(Some(_oldest)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(_closed) => false,
        });
    }
}

impl Bus for ChannelBus {
    fn publish(&self, event: &Event) {
        self.send(&self.subscribers, event);
    }

    fn publish_drift(&self, event: &DriftEvent) {
        self.send(&self.of_drift, event);
    }

    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// One subscriber's queue.
#[derive(Debug)]
pub struct Subscription<E = Event> {
    receiver: Receiver<E>,
}

impl<E> Subscription<E> {
    /// The next event; none once the bus is gone. Cancel-safe.
    pub async fn next(&self) -> Option<E> {
        self.receiver.recv().await.ok()
    }

    /// The next event if one is waiting.
    #[must_use]
    pub fn try_next(&self) -> Option<E> {
        self.receiver.try_recv().ok()
    }
}
