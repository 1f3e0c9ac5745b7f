//! Whether a store can be written, for whoever watches over it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::{StoreError, StoreHealth};

/// The health that a store and its writer share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    health: Arc<Mutex<StoreHealth>>,
    file: Option<Arc<Named>>,
}

/// A file, and by what it is known to be the same.
#[derive(Debug)]
struct Named {
    path: PathBuf,
    id: Option<(u64, u64)>,
}

impl Shared {
    pub(super) fn new(path: Option<&Path>) -> Self {
        let named = |path: &Path| Arc::new(Named { path: path.to_owned(), id: id_of(path).ok().flatten() });
        Self { health: Arc::new(Mutex::new(StoreHealth::Good)), file: path.map(named) }
    }

    pub(super) fn now(&self) -> StoreHealth {
        self.look();
        self.lock().clone()
    }

    /// Whether it is closed for good; looks whether its file is still its own.
    pub(super) fn is_gone(&self) -> bool {
        self.look();
        matches!(*self.lock(), StoreHealth::Gone { .. })
    }

    /// Sets it; what is gone stays gone. Gives what it was.
    pub(super) fn set(&self, health: StoreHealth) -> StoreHealth {
        let mut now = self.lock();
        match *now {
            StoreHealth::Gone { .. } => now.clone(),
            _ => std::mem::replace(&mut *now, health),
        }
    }

    /// What callers are told while there is no database.
    pub(super) fn refusal(&self, doing: &'static str) -> StoreError {
        match &*self.lock() {
            StoreHealth::Gone { why } => StoreError::Closed { why: why.clone() },
            StoreHealth::Failing { why } => waiting(doing, why),
            StoreHealth::Good => waiting(doing, "it is being opened anew after an error"),
        }
    }

    /// Commits to a file that has no name any more would be lost with it.
    fn look(&self) {
        let Some(file) = self.file.as_ref().filter(|file| file.id.is_some()) else { return };
        let why = match id_of(&file.path) {
            Ok(found) if found == file.id => return,
            Ok(_) => format!("another file is in the place of {}", file.path.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                format!("{} is not there any more", file.path.display())
            }
            // A directory that can't be read for a moment.
            Err(_) => return,
        };
        if !matches!(self.set(StoreHealth::Gone { why: why.clone() }), StoreHealth::Gone { .. }) {
            log::error!(target: "decnet_lifecycle::store", why:% = why; "closed for writing, for good");
        }
    }

    fn lock(&self) -> MutexGuard<'_, StoreHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn waiting(doing: &'static str, why: &str) -> StoreError {
    StoreError::not_committed(doing, io::Error::other(format!("{why}; it is tried again until it can be")))
}

fn id_of(path: &Path) -> io::Result<Option<(u64, u64)>> {
    let found = fs::metadata(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        Ok(Some((found.dev(), found.ino())))
    }
    #[cfg(not(unix))]
    {
        drop(found);
        Ok(None)
    }
}
