//! Decoys that this process has started are its children: each is waited for
//! as it ends, so that none stays behind as a zombie.

use std::process::Child;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use event_listener::{Event, EventListener};
use signal_hook::consts::SIGCHLD;
use signal_hook::iterator::Signals;

static CHILDREN: Mutex<Vec<Child>> = Mutex::new(Vec::new());
static ENDED: Event = Event::new();
static WATCHER: OnceLock<()> = OnceLock::new();

/// Hands over a child that nobody else will wait for.
pub(super) fn keep(child: Child) {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner).push(child);
    WATCHER.get_or_init(|| {
        // Without the watcher they are waited for whenever another comes.
        if let Ok(mut signals) = Signals::new([SIGCHLD]) {
            let watch = move || signals.forever().for_each(|_| reap());
            let _ = thread::Builder::new().name("decnet-decoys".into()).stack_size(128 << 10).spawn(watch);
        }
    });
    // It may have ended before anybody watched.
    reap();
}

/// Wakes when one of them has ended.
pub(super) fn one_ended() -> EventListener {
    ENDED.listen()
}

fn reap() {
    let mut children = CHILDREN.lock().unwrap_or_else(PoisonError::into_inner);
    let before = children.len();
    children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    if children.len() < before {
        drop(children);
        ENDED.notify(usize::MAX);
    }
}
