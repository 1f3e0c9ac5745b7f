//! Where everything lies, and how it is opened.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::process::ProcessEngine;
use decnet_lifecycle::{
    FileFleetState, FleetConfig, FleetState as _, OpenError, Progress, RedbReader, RedbStore, Runner,
};

use crate::Complaint;
use crate::engines::Chosen;

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

    pub fn fleet_state_path(&self) -> PathBuf {
        self.dir.join("fleet-state.json")
    }

    /// The fleet as deployed, if anything is and its state can be read.
    pub async fn deployed(&self) -> Result<Option<FleetConfig>, Complaint> {
        Ok(FileFleetState::new(self.fleet_state_path()).load().await?)
    }

    pub fn process_engine(&self) -> ProcessEngine {
        ProcessEngine::new(self.dir.join("decoys"))
    }

    pub fn compose_dir(&self) -> PathBuf {
        self.dir.join("compose")
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
            self.make(&self.dir)?;
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

    /// Makes the data directory, or one in it.
    pub fn make(&self, dir: &Path) -> Result<(), Complaint> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| {
            let dir = dir.display();
            Complaint(format!("the data directory {dir} can't be made: {error}; name another with --data"))
        })
    }

    /// A master over the store, an engine and the fleet's state.
    pub fn runner(
        &self,
        store: Arc<RedbStore>,
        chosen: &Chosen,
        progress: Arc<dyn Progress>,
    ) -> Result<Runner, Complaint> {
        let state = FileFleetState::new(self.fleet_state_path()).compose_path(chosen.compose_path());
        let runner = Runner::builder(store, chosen.engine()).fleet_state(Arc::new(state)).progress(progress);
        Ok(runner.build()?)
    }
}

/// Whether a store that isn't there is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    IfMissing,
    Never,
}
