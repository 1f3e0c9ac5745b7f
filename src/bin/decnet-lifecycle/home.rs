//! Where everything lies, and how it is opened.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::engine::process::ProcessEngine;
use decnet_lifecycle::{
    HostId,
    lifecycle::MasterName,
    private_file::Secrecy,
    store::{
        MemoryStore, OpenError, PostgresError, PostgresSettings, PostgresStore, RedbReader, RedbStore, Store,
    },
};

use crate::Complaint;
use crate::legacy::Earlier;

pub struct Home {
    dir: PathBuf,
    /// Where the rows are, if not in a file of the directory.
    database: Option<PostgresSettings>,
    /// Whose files these are, if not the master's.
    worker: Option<HostId>,
}

impl Home {
    pub fn new(data: Option<PathBuf>, store: Option<String>) -> Result<Self, Complaint> {
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
        let database = store.filter(|url| !url.is_empty()).map(|url| database(&url)).transpose()?;
        Ok(Self { dir, database, worker: None })
    }

    /// As people are told of it.
    pub fn shown(&self) -> String {
        match &self.database {
            Some(settings) => settings.hosts(),
            None => self.dir.display().to_string(),
        }
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
        let dir = self.dir.join("workers").join(name.as_str());
        let own = Self { dir, database: None, worker: Some(name.clone()) };
        own.make_root()?;
        Ok(own)
    }

    /// The files of all workers that have some here.
    pub fn of_workers(&self) -> Vec<Self> {
        let entries = fs::read_dir(self.dir.join("workers")).into_iter().flatten().flatten();
        let of = |entry: fs::DirEntry| {
            let worker = HostId::parse(entry.file_name().to_str()?).ok()?;
            Some(Self { dir: entry.path(), database: None, worker: Some(worker) })
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
        match self.open_writer(Make::IfMissing).await? {
            Writable::InUse(_) => Ok(()),
            Writable::Missing(why) => Err(why),
            Writable::Ours(store) => {
                crate::legacy::take_over(&self.earlier(), &*store, &self.master()?).await
            }
        }
    }

    fn earlier(&self) -> Earlier {
        Earlier {
            state: self.fleet_state_path(),
            aside: self.taken_over_path(),
            is_masters: self.is_masters(),
        }
    }

    /// The store to look at; an empty one where none has been made.
    pub async fn store_to_look_at(&self) -> Result<Arc<dyn Store>, Complaint> {
        self.take_over_earlier().await?;
        Ok(self.open_reader().await?.unwrap_or_else(|| Arc::new(MemoryStore::new())))
    }

    /// The store, to be read beside whoever writes it.
    pub async fn reader(&self) -> Result<Arc<dyn Store>, Complaint> {
        match self.open_reader().await? {
            Some(store) => Ok(store),
            None => Err(self.missing()),
        }
    }

    /// The same; none if none has been made yet.
    pub async fn open_reader(&self) -> Result<Option<Arc<dyn Store>>, Complaint> {
        if let Some(settings) = &self.database {
            return match PostgresStore::connect(settings.clone().existing_only()).await {
                Ok(store) => Ok(Some(Arc::new(store))),
                Err(PostgresError::Missing { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
        match RedbReader::open(self.store_path()) {
            Ok(store) => Ok(Some(Arc::new(store))),
            Err(OpenError::Missing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The store's file, to be read beside whoever writes it.
    pub fn file_reader(&self) -> Result<RedbReader, Complaint> {
        self.rows_are_in_a_file()?;
        Ok(RedbReader::open(self.store_path())?)
    }

    /// Where a store is put back: nowhere where there is one.
    pub fn restore_path(&self) -> Result<PathBuf, Complaint> {
        self.rows_are_in_a_file()?;
        self.make_root()?;
        for there in [self.store_path(), self.fleet_state_path()] {
            if there.exists() {
                return Err(Complaint(format!(
                    "{} is there already, and nothing is overwritten; name a directory without a store with --data",
                    there.display()
                )));
            }
        }
        Ok(self.store_path())
    }

    fn rows_are_in_a_file(&self) -> Result<(), Complaint> {
        match &self.database {
            None => Ok(()),
            Some(settings) => Err(Complaint(format!(
                "the rows are in the database at {}; `pg_dump` and `pg_restore` look after that",
                settings.hosts()
            ))),
        }
    }

    fn missing(&self) -> Complaint {
        match &self.database {
            Some(settings) => Complaint(format!(
                "the database at {} has no rows yet; a first deploy makes its tables",
                settings.hosts()
            )),
            None => OpenError::Missing { path: self.store_path() }.into(),
        }
    }

    /// The store, to be written; made if it isn't there and `make` says so.
    pub async fn writer(&self, make: Make, wait: Wait) -> Result<Arc<dyn Store>, Complaint> {
        if make == Make::IfMissing {
            self.make_root()?;
        }
        let mut told = false;
        loop {
            match self.open_writer(make).await? {
                Writable::Missing(why) => return Err(why),
                Writable::InUse(busy) if wait == Wait::Yes => {
                    if !told {
                        crate::output::aside(&format!("waiting: {busy}"));
                        told = true;
                    }
                    smol::Timer::after(Duration::from_millis(200)).await;
                }
                Writable::InUse(busy) if wait == Wait::No => {
                    return Err(Complaint(format!(
                        "{busy}; or give --wait. A `serve` that has just started takes commands within a second: try again"
                    )));
                }
                Writable::InUse(busy) => return Err(Complaint(busy)),
                Writable::Ours(store) => {
                    crate::legacy::take_over(&self.earlier(), &*store, &self.master()?).await?;
                    return Ok(store);
                }
            }
        }
    }

    async fn open_writer(&self, make: Make) -> Result<Writable, Complaint> {
        if let Some(settings) = &self.database {
            let settings = settings.clone().only_writer();
            let settings = if make == Make::Never { settings.existing_only() } else { settings };
            return match PostgresStore::connect(settings).await {
                Ok(store) => Ok(Writable::Ours(Arc::new(store))),
                Err(PostgresError::Missing { .. }) if make == Make::Never => {
                    Ok(Writable::Missing(self.missing()))
                }
                Err(busy @ PostgresError::InUse { .. }) => Ok(Writable::InUse(busy.to_string())),
                Err(error) => Err(error.into()),
            };
        }
        if make == Make::Never && !self.store_path().exists() {
            return Ok(Writable::Missing(self.missing()));
        }
        match RedbStore::open(self.store_path()) {
            Ok(store) => Ok(Writable::Ours(Arc::new(store))),
            Err(busy @ OpenError::InUse { .. }) => Ok(Writable::InUse(busy.to_string())),
            Err(error) => Err(error.into()),
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
}

/// A store that was to be written.
enum Writable {
    Ours(Arc<dyn Store>),
    /// Another process writes it; says which.
    InUse(String),
    Missing(Complaint),
}

/// Reads a database's URL. Its password may stand in the environment, where
/// other users of the machine don't see it.
fn database(url: &str) -> Result<PostgresSettings, Complaint> {
    let settings: PostgresSettings = url.parse()?;
    match std::env::var("PGPASSWORD") {
        Ok(password) if !settings.has_password() => Ok(settings.password(&password)),
        _ => Ok(settings),
    }
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
