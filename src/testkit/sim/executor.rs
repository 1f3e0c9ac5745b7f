//! An executor that polls one task at a time, in an order that a seed decides.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

type BoxedTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs tasks on the caller's thread, one poll at a time, in an order that a
/// seed decides; the same seed and tasks give the same order.
///
/// ```
/// use decnet_lifecycle::testkit::sim::Executor;
///
/// let executor = Executor::new(7);
/// executor.spawn(0, async {});
/// assert!(executor.poll_one());
/// assert!(!executor.poll_one());
/// ```
#[derive(Clone)]
pub struct Executor {
    state: Arc<Mutex<State>>,
    ready: Arc<Ready>,
}

struct State {
    tasks: BTreeMap<u64, Task>,
    next: u64,
    polls: u64,
    random: fastrand::Rng,
    trace: u64,
}

struct Task {
    group: usize,
    /// Empty while it is being polled.
    future: Option<BoxedTask>,
}

#[derive(Default)]
struct Ready(Mutex<Vec<u64>>);

impl Ready {
    fn push(&self, id: u64) {
        let mut ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !ready.contains(&id) {
            ready.push(id);
        }
    }
}

struct TaskWaker {
    id: u64,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.id);
    }
}

impl Executor {
    /// An executor without tasks.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let state = State { tasks: BTreeMap::new(), next: 0, polls: 0, random, trace: 0xcbf2_9ce4_8422_2325 };
        Self { state: Arc::new(Mutex::new(state)), ready: Arc::default() }
    }

    /// Adds a task to a group, ready to be polled.
    pub fn spawn(&self, group: usize, task: impl Future<Output = ()> + Send + 'static) {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.tasks.insert(id, Task { group, future: Some(Box::pin(task)) });
        drop(state);
        self.ready.push(id);
    }

    /// Drops every task of a group where it is: a crash.
    pub fn kill(&self, group: usize) {
        let mut state = self.state();
        let ids: Vec<u64> =
            state.tasks.iter().filter(|(_, task)| task.group == group).map(|(id, _)| *id).collect();
        let killed: Vec<Task> = ids.iter().filter_map(|id| state.tasks.remove(id)).collect();
        drop(state);
        drop(killed);
    }

    /// Polls one of the tasks that are ready; false if none is.
    pub fn poll_one(&self) -> bool {
        loop {
            let mut state = self.state();
            let id = {
                let mut ready = self.ready.0.lock().unwrap_or_else(PoisonError::into_inner);
                if ready.is_empty() {
                    return false;
                }
                let place = state.random.usize(..ready.len());
                ready.swap_remove(place)
            };
            let Some(mut future) = state.tasks.get_mut(&id).and_then(|task| task.future.take()) else {
                continue;
            };
            state.polls += 1;
            state.mix(id);
            drop(state);
            let waker = Waker::from(Arc::new(TaskWaker { id, ready: Arc::clone(&self.ready) }));
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            let mut state = self.state();
            match polled {
                Poll::Ready(()) => drop(state.tasks.remove(&id)),
                Poll::Pending => match state.tasks.get_mut(&id) {
                    Some(task) => task.future = Some(future),
                    // It was killed by its own poll.
                    None => {
                        drop(state);
                        drop(future);
                    }
                },
            }
            return true;
        }
    }

    /// Adds to the trace what should replay as well.
    pub fn note(&self, number: u64) {
        self.state().mix(number);
    }

    /// A hash of every poll and note so far: equal for equal schedules.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.state().trace
    }

    /// How many polls there were.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.state().polls
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// FNV-1a, a number at a time.
    fn mix(&mut self, number: u64) {
        self.trace = (self.trace ^ number).wrapping_mul(0x100_0000_01b3);
    }
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("polls", &self.polls()).finish_non_exhaustive()
    }
}
