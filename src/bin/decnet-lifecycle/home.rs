//! Where everything lies, and how it is opened.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::process::ProcessEngine;
use decnet_lifecycle::{
    HostId, MasterName, OpenError, Progress, RedbReader, RedbStore, Runner, RunnerBuilder, Secrecy,
};

use crate::Complaint;
use crate::engines::Chosen;

pub struct Home {
    dir: PathBuf,
    /// Whose files these are, if not the master's.
    worker: Option<HostId>,
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
        Ok(Self { dir, worker: None })
    }

    fn store_path(&self) -> PathBuf {
        self.dir.join("lifecycle.redb")
    }

    /// Where the first version kept what is deployed.
    pub fn fleet_state_path(&self) -> PathBuf {
        self.dir.join("fleet-state.json")
    }

    /// Where that file is kept once the store has it.
    pub fn taken_over_path(&self) -> PathBuf {
        self.dir.join("fleet-state.json.taken-over")
    }

    /// Who runs what is placed on this machine: the master, or the worker
    /// whose files these are.
    pub fn master(&self) -> Result<MasterName, Complaint> {
        Ok(match &self.worker {
            Some(worker) => MasterName::parse(worker.as_str())?,
            None => MasterName::parse("master")?,
        })
    }

    pub fn hosts_path(&self) -> PathBuf {
        self.dir.join("hosts.json")
    }

    pub fn pki_dir(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// The token that a running master asks for.
    pub fn token_path(&self) -> PathBuf {
        self.dir.join("serve.token")
    }

    /// Where a running master says where it is.
    pub fn place_path(&self) -> PathBuf {
        self.dir.join("serve.json")
    }

    /// Whether this is the master's, and not a worker's.
    pub const fn is_masters(&self) -> bool {
        self.worker.is_none()
    }

    /// What a worker's master has heard.
    pub fn settled_path(&self) -> PathBuf {
        self.dir.join("settled.json")
    }

    /// The files of a worker on this machine.
    pub fn of_worker(&self, name: &HostId) -> Result<Self, Complaint> {
        // A folder of its own, whatever the id allows.
        if name.as_str().bytes().all(|byte| byte == b'.') {
            return Err(Complaint(format!("{name} is no name for a folder; give the host another id")));
        }
        let own = Self { dir: self.dir.join("workers").join(name.as_str()), worker: Some(name.clone()) };
        own.make_root()?;
        Ok(own)
    }

    /// The files of all workers that have some here.
    pub fn of_workers(&self) -> Vec<Self> {
        let entries = fs::read_dir(self.dir.join("workers")).into_iter().flatten().flatten();
        let of = |entry: fs::DirEntry| {
            let worker = HostId::parse(entry.file_name().to_str()?).ok()?;
            Some(Self { dir: entry.path(), worker: Some(worker) })
        };
        entries.filter_map(of).collect()
    }

    /// Files that others must not read or change, and what of that.
    pub fn private_files(&self) -> Vec<(PathBuf, Secrecy)> {
        let lock = self.dir.join("hosts.json.lock");
        vec![
            (self.token_path(), Secrecy::Secret),
            (self.place_path(), Secrecy::Secret),
            (self.store_path(), Secrecy::Secret),
            (self.pki_dir().join("ca.key"), Secrecy::Secret),
            (lock, Secrecy::Secret),
            (self.hosts_path(), Secrecy::Trusted),
        ]
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

    /// Takes over what the first version left, if it did, for who only looks:
    /// the first that comes does it, as for a store of an earlier schema.
    /// Whoever holds the store has done it.
    pub async fn take_over_earlier(&self) -> Result<(), Complaint> {
        if !self.fleet_state_path().exists() {
            return Ok(());
        }
        match RedbStore::open(self.store_path()) {
            Err(OpenError::InUse { .. }) => Ok(()),
            opened => crate::legacy::take_over(self, &opened?, &self.master()?).await,
        }
    }

    /// The store, to be read beside whoever writes it.
    pub fn reader(&self) -> Result<Arc<RedbReader>, Complaint> {
        Ok(self.open_reader()?)
    }

    /// The same, where it matters why there is none.
    pub fn open_reader(&self) -> Result<Arc<RedbReader>, OpenError> {
        RedbReader::open(self.store_path()).map(Arc::new)
    }

    /// The store, to be written; made if it isn't there and `make` says so.
    pub async fn writer(&self, make: Make, wait: Wait) -> Result<Arc<RedbStore>, Complaint> {
        if make == Make::IfMissing {
            self.make_root()?;
        } else if !self.store_path().exists() {
            return Err(OpenError::Missing { path: self.store_path() }.into());
        }
        let mut told = false;
        loop {
            match RedbStore::open(self.store_path()) {
                Err(busy @ OpenError::InUse { .. }) if wait == Wait::Yes => {
                    if !told {
                        crate::output::aside(&format!("waiting: {busy}"));
                        told = true;
                    }
                    smol::Timer::after(Duration::from_millis(200)).await;
                }
                Err(busy @ OpenError::InUse { .. }) if wait == Wait::No => {
                    return Err(Complaint(format!(
                        "{busy}; or give --wait. A `serve` that has just started takes commands within a second: try again"
                    )));
                }
                opened => {
                    let store = Arc::new(opened?);
                    crate::legacy::take_over(self, &*store, &self.master()?).await?;
                    return Ok(store);
                }
            }
        }
    }

    /// Makes the data directory.
    pub fn make_root(&self) -> Result<(), Complaint> {
        self.make(&self.dir)
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
        let runner = self.runner_builder(store, chosen, progress).build()?;
        let known = runner.clone();
        crate::logger::hide(move || known.secrets());
        Ok(runner)
    }

    /// The same, with more to be said of it.
    pub fn runner_builder(
        &self,
        store: Arc<RedbStore>,
        chosen: &Chosen,
        progress: Arc<dyn Progress>,
    ) -> RunnerBuilder {
        Runner::builder(store, chosen.engine()).progress(progress)
    }
}

/// Replaces a file as a whole; the new one is 0600.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Complaint> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

/// Writes a file that must not be there yet.
pub fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Complaint> {
    let complain = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Complaint(format!(
            "{} is there already, and nothing is overwritten; move it away first",
            path.display()
        )),
        _ => Complaint(format!("{}: {error}", path.display())),
    };
    let file = fs::OpenOptions::new().create_new(true).write(true).mode(mode).open(path);
    let mut file = file.map_err(complain)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(complain)
}

/// Whether to wait for a store that another process writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Yes,
    /// No, and `--wait` would.
    No,
    /// No, and there is no way to ask for it.
    NotOffered,
}

impl From<bool> for Wait {
    fn from(wait: bool) -> Self {
        if wait { Self::Yes } else { Self::No }
    }
}

/// Whether a store that isn't there is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    IfMissing,
    Never,
}
