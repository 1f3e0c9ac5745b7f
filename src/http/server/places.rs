//! Places for connections: so many for all, fewer for each that holds them. Who
//! comes when they are taken gets the place of the one that has been idle
//! longest.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Who holds places: as much as is known of it by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Whoever comes from an address; of IPv6 from a network, which one machine
    /// may have whole.
    From(IpAddr),
    /// The holder of the key to this certificate.
    Certified(Arc<[u8]>),
}

impl Who {
    pub fn from(address: IpAddr) -> Self {
        Self::From(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::from((v6.to_bits() >> 64 << 64).to_be_bytes()),
            v4 => v4,
        })
    }
}

/// Places of a kind.
pub struct Places {
    most: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    next: u64,
    /// By when each was last heard of.
    by_number: BTreeMap<u64, Entry>,
}

struct Entry {
    who: Who,
    is_idle: bool,
    leave: Arc<Notify>,
}

/// One place; given back when it is dropped.
pub struct Place {
    places: Arc<Places>,
    number: Mutex<u64>,
    leave: Arc<Notify>,
}

impl Places {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, held: Mutex::default() })
    }

    /// A place for `who`, who may hold so many. Somebody else is asked to leave
    /// if need be: one of its own, else whoever is idle. None if all are at
    /// work.
    pub fn take(self: &Arc<Self>, who: &Who, each: usize) -> Option<Place> {
        let mut held = self.lock();
        let own = held.by_number.values().filter(|entry| entry.who == *who).count();
        let goes = if own >= each {
            let own = |idle: bool| move |entry: &Entry| entry.who == *who && (entry.is_idle || !idle);
            held.oldest(own(true)).or_else(|| held.oldest(own(false)))
        } else if held.by_number.len() >= self.most {
            Some(held.oldest(|entry| entry.is_idle)?)
        } else {
            None
        };
        if let Some(entry) = goes.and_then(|number| held.by_number.remove(&number)) {
            entry.leave.notify_one();
        }
        let leave = Arc::new(Notify::new());
        let entry = Entry { who: who.clone(), is_idle: true, leave: Arc::clone(&leave) };
        let number = held.enter(entry);
        Some(Place { places: Arc::clone(self), number: Mutex::new(number), leave })
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn enter(&mut self, entry: Entry) -> u64 {
        self.next += 1;
        self.by_number.insert(self.next, entry);
        self.next
    }

    fn oldest(&self, is_such: impl Fn(&Entry) -> bool) -> Option<u64> {
        self.by_number.iter().find(|(_, entry)| is_such(entry)).map(|(number, _)| *number)
    }
}

impl Place {
    /// Whether something is being done for its holder.
    pub fn is_at_work(&self, at_work: bool) {
        let mut held = self.places.lock();
        let mut number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = held.by_number.remove(&number) {
            *number = held.enter(Entry { is_idle: !at_work, ..entry });
        }
    }

    /// Resolves once somebody else needs the place more.
    pub async fn is_needed(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let number = *self.number.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.places.lock().by_number.remove(&number);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    async fn has_to_go(place: &Place) -> bool {
        tokio::select! {
            biased;
            () = place.is_needed() => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn the_one_that_has_been_idle_longest_makes_room() {
        let places = Places::new(3);
        let who = |n: u8| Who::from(IpAddr::from([192, 0, 2, n]));
        let first = places.take(&who(1), 9).unwrap();
        let second = places.take(&who(2), 9).unwrap();
        let third = places.take(&who(3), 9).unwrap();
        first.is_at_work(true);
        second.is_at_work(true);
        second.is_at_work(false);
        let _fourth = places.take(&who(4), 9).unwrap();
        assert!(has_to_go(&third).await && !has_to_go(&first).await && !has_to_go(&second).await);
        let _fifth = places.take(&who(5), 9).unwrap();
        assert!(has_to_go(&second).await && !has_to_go(&first).await);
    }

    #[tokio::test]
    async fn who_holds_its_share_makes_room_itself_and_who_works_goes_last() {
        let places = Places::new(100);
        let (a, b) = (Who::from(IpAddr::from([192, 0, 2, 1])), Who::Certified(Arc::from([7_u8].as_slice())));
        let other = places.take(&b, 2).unwrap();
        let [one, two] = [(); 2].map(|()| places.take(&a, 2).unwrap());
        one.is_at_work(true);
        let _three = places.take(&a, 2).unwrap();
        assert!(has_to_go(&two).await && !has_to_go(&one).await && !has_to_go(&other).await);
        // All at work: its own oldest, and nobody else's.
        let places = Places::new(2);
        let [one, two] = [(); 2].map(|()| places.take(&a, 2).unwrap());
        [&one, &two].into_iter().for_each(|place| place.is_at_work(true));
        assert!(places.take(&b, 2).is_none());
        let _three = places.take(&a, 2).unwrap();
        assert!(has_to_go(&one).await && !has_to_go(&two).await);
    }

    #[test]
    fn a_place_that_is_given_back_is_free_and_networks_count_as_one() {
        let places = Places::new(1);
        let net = |n: u16| Who::from(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]));
        assert_eq!(net(1), net(2));
        let place = places.take(&net(1), 1).unwrap();
        place.is_at_work(true);
        assert!(places.take(&Who::from(IpAddr::from([192, 0, 2, 1])), 1).is_none());
        drop(place);
        assert!(places.take(&Who::from(IpAddr::from([192, 0, 2, 1])), 1).is_some());
    }
}
