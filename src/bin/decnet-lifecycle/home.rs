//! Where everything lies, and how it is opened.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::process::ProcessEngine;
use decnet_lifecycle::{FileFleetState, OpenError, Progress, RedbReader, RedbStore, Runner};

use crate::Complaint;

pub struct Home {
    dir: PathBuf,
}

impl Home {
    pub fn new(data: Option<PathBuf>) -> Result<Self, Complaint> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let state = || set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
        let dir = match data {
            Some(dir) => dir,
            None => state()
                .ok_or_else(|| {
                    Complaint("neither --data nor HOME says where to keep rows; give --data DIR".into())
                })?
                .join("decnet-lifecycle"),
        };
        // Decoys are started with these paths and may have another working
        // directory.
        let dir =
            std::path::absolute(&dir).map_err(|error| Complaint(format!("{}: {error}", dir.display())))?;
        Ok(Self { dir })
    }

    fn store_path(&self) -> PathBuf {
        self.dir.join("lifecycle.redb")
    }

    pub fn fleet_state(&self) -> FileFleetState {
        FileFleetState::new(self.dir.join("fleet-state.json"))
    }

    pub fn engine(&self) -> ProcessEngine {
        ProcessEngine::new(self.dir.join("decoys"))
    }

    pub fn decoys_dir(&self) -> PathBuf {
        self.dir.join("decoys")
    }

    /// The store, to be read beside whoever writes it.
    pub fn reader(&self) -> Result<Arc<RedbReader>, Complaint> {
        Ok(Arc::new(RedbReader::open(self.store_path())?))
    }

    /// The store, to be written; made if it isn't there and `make` says so.
    pub async fn writer(&self, make: Make, wait: bool) -> Result<Arc<RedbStore>, Complaint> {
        if make == Make::IfMissing {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir);
            made.map_err(|error| self.no_directory(&error))?;
        } else if !self.store_path().exists() {
            return Err(OpenError::Missing { path: self.store_path() }.into());
        }
        let mut told = false;
        loop {
            match RedbStore::open(self.store_path()) {
                Err(busy @ OpenError::InUse { .. }) if wait => {
                    if !told {
                        eprintln!("waiting: {busy}");
                        told = true;
                    }
                    smol::Timer::after(Duration::from_millis(200)).await;
                }
                Err(busy @ OpenError::InUse { .. }) => {
                    return Err(Complaint(format!("{busy}; or give --wait")));
                }
                opened => return Ok(Arc::new(opened?)),
            }
        }
    }

    fn no_directory(&self, error: &io::Error) -> Complaint {
        Complaint(format!(
            "the data directory {} can't be made: {error}; name another with --data",
            self.dir.display()
        ))
    }

    /// A master over the store, the process engine and the fleet's state.
    pub fn runner(&self, store: Arc<RedbStore>, progress: Arc<dyn Progress>) -> Result<Runner, Complaint> {
        let engine = Arc::new(self.engine());
        let runner =
            Runner::builder(store, engine).fleet_state(Arc::new(self.fleet_state())).progress(progress);
        Ok(runner.build()?)
    }
}

/// Whether a store that isn't there is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    IfMissing,
    Never,
}
