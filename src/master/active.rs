//! The rows that a future of this process drives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::{Event, EventListener};

use crate::engine::CancelToken;
use crate::lifecycle::LifecycleId;

/// The rows that a future of this process drives, with the token that stops
/// each, and what each waits for.
#[derive(Debug, Default)]
pub(crate) struct Active {
    rows: Mutex<Rows>,
    changed: Event,
}

#[derive(Debug, Default)]
struct Rows {
    driven: BTreeMap<LifecycleId, (CancelToken, Stage)>,
    /// Rows whose future was dropped before its end, and how often the sweep
    /// has looked for each.
    dropped: Vec<(LifecycleId, u8)>,
    closing: bool,
}

/// What a driven row waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nobody runs the future yet.
    Accepted,
    /// Other engine calls come first.
    EngineQueue,
    /// The engine is at work.
    Engine,
    /// Other agent calls come first.
    DispatchQueue,
    /// The agent has not answered yet.
    Dispatch,
}

impl Active {
    /// Takes rows under its wing.
    pub(crate) fn drive(self: &Arc<Self>, ids: impl Iterator<Item = LifecycleId>) -> Guard {
        let ids: Vec<LifecycleId> = ids.collect();
        let mut rows = self.lock();
        for id in &ids {
            rows.driven.insert(*id, (CancelToken::new(), Stage::Accepted));
        }
        Guard { active: Arc::clone(self), ids, finished: false }
    }

    pub(crate) fn token(&self, id: LifecycleId) -> CancelToken {
        self.lock().driven.get(&id).map(|(token, _)| token.clone()).unwrap_or_default()
    }

    pub(crate) fn stage(&self, id: LifecycleId) -> Option<Stage> {
        self.lock().driven.get(&id).map(|(_, stage)| *stage)
    }

    pub(crate) fn enter(&self, ids: impl Iterator<Item = LifecycleId>, stage: Stage) {
        let mut rows = self.lock();
        for id in ids {
            if let Some((_, now)) = rows.driven.get_mut(&id) {
                *now = stage;
            }
        }
    }

    /// Raises the row's token, if this process drives it.
    pub(crate) fn cancel(&self, id: LifecycleId) {
        if let Some((token, _)) = self.lock().driven.get(&id) {
            token.cancel();
        }
    }

    pub(crate) fn cancel_all(&self) {
        for (token, _) in self.lock().driven.values() {
            token.cancel();
        }
    }

    /// The rows whose future was dropped, to be looked at.
    pub(crate) fn take_dropped(&self) -> Dropped<'_> {
        Dropped { active: self, ids: std::mem::take(&mut self.lock().dropped) }
    }

    /// The rows that are driven now.
    pub(crate) fn driven(&self) -> Vec<LifecycleId> {
        self.lock().driven.keys().copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().driven.len()
    }

    pub(crate) fn close(&self) {
        self.lock().closing = true;
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// Wakes when rows have been let go.
    pub(crate) fn changed(&self) -> EventListener {
        self.changed.listen()
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets rows go when their future ends; one that is dropped earlier leaves
/// them to the sweep.
#[derive(Debug)]
pub(crate) struct Guard {
    active: Arc<Active>,
    ids: Vec<LifecycleId>,
    finished: bool,
}

impl Guard {
    pub(crate) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut rows = self.active.lock();
        for id in &self.ids {
            rows.driven.remove(id);
        }
        if !self.finished {
            rows.dropped.extend(self.ids.iter().map(|id| (*id, 0)));
        }
        drop(rows);
        self.active.changed.notify(usize::MAX);
    }
}

/// Rows whose future was dropped, while a sweep looks at them: they are put
/// back unless it says which are left.
#[derive(Debug)]
pub(crate) struct Dropped<'a> {
    active: &'a Active,
    ids: Vec<(LifecycleId, u8)>,
}

impl Dropped<'_> {
    /// The rows, and how often each was looked for.
    pub(crate) fn ids(&self) -> &[(LifecycleId, u8)] {
        &self.ids
    }

    /// These are to be looked at again, the others not.
    pub(crate) fn keep(&mut self, left: Vec<(LifecycleId, u8)>) {
        self.ids = left;
    }
}

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.active.lock().dropped.append(&mut self.ids);
    }
}
