//! Who waits for which rows to end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::{Event as Signal, EventListener};

use crate::lifecycle::LifecycleId;

type Rows = BTreeMap<LifecycleId, Vec<Arc<Signal>>>;

/// Wakes who waits for a row when it ends, and nobody else.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    rows: Mutex<Rows>,
}

/// Waits for some rows, until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiter<'w> {
    waiting: &'w Waiting,
    ids: Vec<LifecycleId>,
    signal: Arc<Signal>,
}

impl Waiting {
    pub(crate) fn on(&self, ids: &[LifecycleId]) -> Waiter<'_> {
        let signal = Arc::new(Signal::new());
        let mut rows = self.rows();
        for id in ids {
            rows.entry(*id).or_default().push(Arc::clone(&signal));
        }
        Waiter { waiting: self, ids: ids.to_vec(), signal }
    }

    pub(crate) fn ended(&self, id: LifecycleId) {
        // Whoever is woken may run at once, and drop its waiter.
        let signals = self.rows().get(&id).cloned().unwrap_or_default();
        for signal in signals {
            signal.notify(usize::MAX);
        }
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter<'_> {
    /// Wakes when one of the rows ends from now on.
    pub(crate) fn woken(&self) -> EventListener {
        self.signal.listen()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut rows = self.waiting.rows();
        for id in &self.ids {
            let Some(signals) = rows.get_mut(id) else { continue };
            signals.retain(|signal| !Arc::ptr_eq(signal, &self.signal));
            if signals.is_empty() {
                rows.remove(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_waiter_leaves_nothing_behind() {
        let [one, two] = [1, 2].map(LifecycleId::from_u128);
        let waiting = Waiting::default();
        let first = waiting.on(&[one, two, one]);
        let second = waiting.on(&[two]);
        drop(first);
        assert_eq!(waiting.rows().keys().copied().collect::<Vec<_>>(), [two]);
        drop(second);
        assert!(waiting.rows().is_empty());
    }
}
