//! The fleet as it is deployed: what a mutate starts from and changes.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::fleet::{DeployedFleet, FleetConfig, FleetError};
use crate::private_file::replace;

/// Keeps the fleet as it is deployed.
#[async_trait]
pub trait FleetState: fmt::Debug + Send + Sync + 'static {
    /// The fleet, if anything is deployed.
    ///
    /// # Errors
    /// [`FleetStateError`] if it can't be read or isn't a fleet.
    async fn load(&self) -> Result<Option<FleetConfig>, FleetStateError>;

    /// Keeps this fleet from now on, or nothing. It replaces what was there as
    /// a whole or not at all.
    ///
    /// # Errors
    /// [`FleetStateError`] if it can't be written; what was there is kept.
    async fn save(&self, fleet: Option<&FleetConfig>) -> Result<(), FleetStateError>;
}

/// The fleet's state can't be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetStateError {
    /// The file can't be read or written.
    #[error("{doing} the fleet's state {}: {source}; check the path and its permissions", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file isn't the state of a fleet.
    #[error("{} is not the state of a fleet, it was left as it is; move it away: {source}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<FleetError>,
    },
}

/// State in memory: forgotten when the master ends.
///
/// ```
/// use decnet_lifecycle::{FleetState, MemoryFleetState};
///
/// let state = MemoryFleetState::default();
/// assert!(futures_lite::future::block_on(state.load()).unwrap().is_none());
/// ```
#[derive(Debug, Default)]
pub struct MemoryFleetState {
    fleet: Mutex<Option<FleetConfig>>,
}

#[async_trait]
impl FleetState for MemoryFleetState {
    async fn load(&self) -> Result<Option<FleetConfig>, FleetStateError> {
        Ok(self.fleet.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn save(&self, fleet: Option<&FleetConfig>) -> Result<(), FleetStateError> {
        *self.fleet.lock().unwrap_or_else(PoisonError::into_inner) = fleet.cloned();
        Ok(())
    }
}

/// State in a file, in the original's format `{"config": .., "compose_path":
/// ".."}`: mode 0600, written beside and renamed.
///
/// ```
/// use decnet_lifecycle::{FileFleetState, FleetState};
///
/// let dir = tempfile::tempdir()?;
/// let state = FileFleetState::new(dir.path().join("fleet-state.json"));
/// assert!(futures_lite::future::block_on(state.load()).unwrap().is_none());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct FileFleetState {
    path: PathBuf,
    compose_path: String,
}

impl FileFleetState {
    /// State in this file; it need not be there yet, its directory must.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), compose_path: String::new() }
    }

    /// The `compose_path` to write beside the fleet.
    #[must_use]
    pub fn compose_path(mut self, path: impl Into<String>) -> Self {
        self.compose_path = path.into();
        self
    }
}

#[async_trait]
impl FleetState for FileFleetState {
    async fn load(&self) -> Result<Option<FleetConfig>, FleetStateError> {
        let path = self.path.clone();
        blocking::unblock(move || {
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(source) => {
                    return Err(FleetStateError::Io { doing: "reading", path, source });
                }
            };
            match DeployedFleet::from_json(&bytes) {
                Ok(state) => Ok(Some(state.config)),
                Err(source) => Err(FleetStateError::Malformed { path, source: Box::new(source) }),
            }
        })
        .await
    }

    async fn save(&self, fleet: Option<&FleetConfig>) -> Result<(), FleetStateError> {
        let path = self.path.clone();
        let text = fleet.map(|fleet| {
            DeployedFleet { config: fleet.clone(), compose_path: self.compose_path.clone() }.to_json()
        });
        blocking::unblock(move || {
            let done = match text {
                Some(text) => replace(&path, text.as_bytes()),
                None => match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                },
            };
            done.map_err(|source| FleetStateError::Io { doing: "writing", path, source })
        })
        .await
    }
}
