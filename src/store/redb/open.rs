//! Opens the file, or makes it so that a crash leaves a whole one or none.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{
    Builder, ConcurrencyMode, Database, DatabaseError, ReadOnlyDatabase, ReadableDatabase, StorageError,
    TableError,
};

use super::tables::{
    BY_DECKY, BY_HOME, DEADLINES, FEED, KEYS, META, META_HEAD, META_OLDEST, META_SCHEMA, OPEN, PLACEMENTS,
    ROWS, SCHEMA, SET_ASIDE,
};
use super::{examine, migrate, schema1};

/// What every redb file starts with.
const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";

/// How much of the file is kept in memory: 64 MiB.
const CACHE: usize = 64 << 20;

/// Why a store's file can't be opened. The file was left as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such file.
    #[error("there is no store at {}; the first that opens one for writing makes it", path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// Another process writes it.
    #[error("the store {} is in use{}; wait for it, or stop that process", path.display(), holder.map(|pid| format!(" by process {pid}")).unwrap_or_default())]
    InUse {
        /// Which file.
        path: PathBuf,
        /// The writer, where it is known.
        holder: Option<u32>,
    },
    /// The file is something else.
    #[error("{} is not a lifecycle store ({what}); it was left as it is: move it away, or name another place", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
    /// A newer version made it.
    #[error("the store {} has schema {found}, this version knows up to {known}; use the newer version that made it", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its schema.
        found: u64,
        /// The newest schema known here.
        known: u64,
    },
    /// It is damaged.
    #[error("the store {} is damaged ({what}); restore it from a backup, or move it away to start anew", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The system would not.
    #[error("{doing} {}: {error}; check the path and its permissions", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
}

pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE).set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

/// Opens the file for writing; makes it if there is none.
pub(super) fn open_or_create(path: &Path) -> Result<Database, OpenError> {
    match check_file(path) {
        Err(OpenError::Missing { .. }) => create(path)?,
        checked => checked?,
    }
    open_existing(path)
}

/// Opens a file that must be there, for writing.
pub(super) fn open_existing(path: &Path) -> Result<Database, OpenError> {
    caught(path, || open_for_writing(path))
}

/// A database that panicked may panic once more when it is let go, wherever that
/// is.
fn caught<T>(path: &Path, open: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| {
        let what = "redb panicked while it was opened".to_owned();
        Err(OpenError::Damaged { path: path.to_owned(), what })
    })
}

fn open_for_writing(path: &Path) -> Result<Database, OpenError> {
    check_file(path)?;
    // A look for reading first: what isn't ours is refused untouched.
    match guarded(path, || builder().open_read_only(path)) {
        Ok(db) => drop(check_schema(path, &db)?),
        // It was not closed cleanly: opening for writing repairs it.
        Err(Refused::Redb(DatabaseError::RepairAborted)) => {}
        Err(refused) => return Err(refused.explain(path)),
    }
    let db = match guarded(path, || builder().set_check_integrity_on_open(true).open(path)) {
        Err(Refused::Panicked | Refused::Redb(DatabaseError::Storage(StorageError::Corrupted(_)))) => {
            open_damaged(path)?
        }
        opened => opened.map_err(|refused| refused.explain(path))?,
    };
    up_to_date(path, &db)?;
    if let Err(error) = name_holder(path) {
        log::debug!(target: "decnet_lifecycle::store", error:% = error; "could not say who holds the store");
    }
    Ok(db)
}

/// Opens a file that something else than redb has changed, if what is damaged
/// are values, each of which is in its own way only.
fn open_damaged(path: &Path) -> Result<Database, OpenError> {
    let damaged = |what: String| OpenError::Damaged { path: path.to_owned(), what };
    let db = guarded(path, || builder().open(path)).map_err(|refused| refused.explain(path))?;
    if check_schema(path, &db)? == SCHEMA {
        match catch_unwind(AssertUnwindSafe(|| examine::examine(&db))) {
            Ok(Ok(values)) => {
                log::error!(target: "decnet_lifecycle::store", values = values; "the store is damaged; what can't be read is left out, restore it from a backup");
            }
            Ok(Err(error)) => return Err(damaged(error.to_string())),
            Err(_) => return Err(damaged("redb panicked while it was looked through".to_owned())),
        }
    }
    Ok(db)
}

/// Opens a file that must be there, for reading beside its writer.
pub(super) fn open_reader(path: &Path) -> Result<ReadOnlyDatabase, OpenError> {
    caught(path, || open_for_reading(path))
}

fn open_for_reading(path: &Path) -> Result<ReadOnlyDatabase, OpenError> {
    check_file(path)?;
    let db = match guarded(path, || builder().open_read_only(path)) {
        Err(Refused::Redb(DatabaseError::RepairAborted)) => {
            drop(open_existing(path)?);
            guarded(path, || builder().open_read_only(path))
        }
        opened => opened,
    };
    let db = db.map_err(|refused| refused.explain(path))?;
    if check_schema(path, &db)? == SCHEMA {
        return Ok(db);
    }
    // Whoever opens it for writing takes it over; it is as well done now.
    drop(db);
    drop(open_existing(path)?);
    guarded(path, || builder().open_read_only(path)).map_err(|refused| refused.explain(path))
}

/// Takes a file of an earlier version over.
fn up_to_date(path: &Path, db: &Database) -> Result<(), OpenError> {
    if check_schema(path, db)? == SCHEMA {
        return Ok(());
    }
    let taken = catch_unwind(AssertUnwindSafe(|| migrate::from_schema_1(db)));
    let damaged = |what: String| OpenError::Damaged { path: path.to_owned(), what };
    match taken {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            Err(OpenError::Io { doing: "taking over", path: path.to_owned(), error: io::Error::other(error) })
        }
        Err(_) => Err(damaged("redb panicked while it was taken over".to_owned())),
    }
}

/// What stands for the path of a store over a backend.
#[cfg(feature = "testkit")]
pub(super) const BACKEND: &str = "(backend)";

/// Opens what a backend holds; makes a store if it is empty.
#[cfg(feature = "testkit")]
pub(super) fn open_backend(backend: impl redb::StorageBackend) -> Result<Database, OpenError> {
    let path = Path::new(BACKEND);
    caught(path, || open_over(path, backend))
}

#[cfg(feature = "testkit")]
fn open_over(path: &Path, backend: impl redb::StorageBackend) -> Result<Database, OpenError> {
    let io = |error| OpenError::Io { doing: "opening", path: path.to_owned(), error };
    let fresh = backend.len().map_err(io)? == 0;
    let open = move || Builder::new().set_cache_size(8 << 20).create_with_backend(backend);
    let db = guarded(path, open).map_err(|refused| refused.explain(path))?;
    if fresh {
        initialise(&db).map_err(|error| io(io::Error::other(error)))?;
    }
    up_to_date(path, &db)?;
    Ok(db)
}

/// What stands for the path of a store in a program's own database.
pub(super) const SHARED: &str = "(the program's database)";

/// Makes the tables in a database that has others, or takes them over.
pub(super) fn prepare(db: &Database) -> Result<(), OpenError> {
    let path = Path::new(SHARED);
    let failed = |error: redb::Error| OpenError::Io {
        doing: "preparing",
        path: path.to_owned(),
        error: io::Error::other(error),
    };
    let is_there = catch_unwind(AssertUnwindSafe(|| -> Result<bool, redb::Error> {
        let txn = db.begin_read()?;
        match txn.open_table(META) {
            Ok(_) => Ok(true),
            Err(TableError::TableDoesNotExist(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }));
    let damaged =
        |_| OpenError::Damaged { path: path.to_owned(), what: "redb panicked while reading it".to_owned() };
    if !is_there.map_err(damaged)?.map_err(failed)? {
        initialise(db).map_err(failed)?;
    }
    up_to_date(path, db)
}

/// Makes the file under another name, closes it, and gives it its own name
/// only then: a crash midway leaves no file that never opens again.
fn create(path: &Path) -> Result<(), OpenError> {
    let io = |doing| move |error| OpenError::Io { doing, path: path.to_owned(), error };
    let dir = dir_of(path);
    let temp = tempfile::Builder::new().prefix(".new-store-").tempfile_in(dir).map_err(io("creating"))?;
    let failed = |error: redb::Error| OpenError::Io {
        doing: "creating",
        path: path.to_owned(),
        error: io::Error::other(error),
    };
    let db = builder().create(temp.path()).map_err(|error| failed(error.into()))?;
    initialise(&db).map_err(failed)?;
    db.close().map_err(|error| failed(error.into()))?;
    temp.as_file().sync_all().map_err(io("syncing"))?;
    match temp.persist_noclobber(path) {
        // Another process was first: its file is as good.
        Err(lost) if lost.error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        persisted => drop(persisted.map_err(|error| error.error).map_err(io("naming"))?),
    }
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("syncing the directory of"))
}

/// The directory that a file is in.
pub(super) fn dir_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Writes the schema and makes every table.
pub(super) fn initialise(db: &Database) -> Result<(), redb::Error> {
    let txn = db.begin_write()?;
    {
        txn.open_table(ROWS)?;
        txn.open_table(OPEN)?;
        txn.open_table(DEADLINES)?;
        txn.open_table(BY_DECKY)?;
        txn.open_table(FEED)?;
        txn.open_table(KEYS)?;
        txn.open_table(PLACEMENTS)?;
        txn.open_table(BY_HOME)?;
        txn.open_table(SET_ASIDE)?;
        let mut meta = txn.open_table(META)?;
        meta.insert(META_SCHEMA, SCHEMA)?;
        meta.insert(META_HEAD, 0)?;
        meta.insert(META_OLDEST, 1)?;
    }
    txn.commit()?;
    Ok(())
}

/// Looks at the file's kind and first bytes, before redb does.
pub(super) fn check_file(path: &Path) -> Result<(), OpenError> {
    let io = |doing| move |error| OpenError::Io { doing, path: path.to_owned(), error };
    let foreign = |what: &str| OpenError::Foreign { path: path.to_owned(), what: what.to_owned() };
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::Missing { path: path.to_owned() });
        }
        Err(error) => return Err(io("looking at")(error)),
    };
    if !meta.is_file() {
        return Err(foreign("it is not a regular file"));
    }
    if meta.len() == 0 {
        return Err(foreign("it is empty"));
    }
    let mut start = Vec::new();
    let file = File::open(path).map_err(io("opening"))?;
    file.take(MAGIC.len() as u64).read_to_end(&mut start).map_err(io("reading"))?;
    if start == MAGIC { Ok(()) } else { Err(foreign("its first bytes are not those of a redb file")) }
}

/// The schema of a file of ours: this version's, or one that it can take over.
pub(super) fn check_schema(path: &Path, db: &impl ReadableDatabase) -> Result<u64, OpenError> {
    let damaged = |what: String| OpenError::Damaged { path: path.to_owned(), what };
    // A disk that fails for a moment damages nothing.
    let failed = |error: redb::Error| match error {
        redb::Error::Io(source) if source.kind() != io::ErrorKind::InvalidData => {
            OpenError::Io { doing: "reading", path: path.to_owned(), error: source }
        }
        error @ redb::Error::PreviousIo => {
            OpenError::Io { doing: "reading", path: path.to_owned(), error: io::Error::other(error) }
        }
        error => damaged(error.to_string()),
    };
    let found = catch_unwind(AssertUnwindSafe(|| {
        let txn = db.begin_read().map_err(|error| failed(error.into()))?;
        let meta = match txn.open_table(META) {
            Ok(meta) => meta,
            Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        let schema = meta.get(META_SCHEMA).map_err(|error| failed(error.into()))?;
        Ok(schema.map(|found| found.value()))
    }));
    match found.unwrap_or_else(|_| Err(damaged("redb panicked while reading it".to_owned())))? {
        Some(found @ (SCHEMA | schema1::SCHEMA)) => Ok(found),
        Some(found) => Err(OpenError::Newer { path: path.to_owned(), found, known: SCHEMA }),
        None => {
            let what = "it is a redb file of another program".to_owned();
            Err(OpenError::Foreign { path: path.to_owned(), what })
        }
    }
}

enum Refused {
    Redb(DatabaseError),
    Panicked,
}

/// Opens, and takes a panic over hostile bytes for what it is.
fn guarded<T>(path: &Path, open: impl FnOnce() -> Result<T, DatabaseError>) -> Result<T, Refused> {
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(opened) => opened.map_err(Refused::Redb),
        Err(_) => {
            log::error!(target: "decnet_lifecycle::store", path:% = path.display(); "redb panicked while opening");
            Err(Refused::Panicked)
        }
    }
}

impl Refused {
    fn explain(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            Self::Panicked => OpenError::Damaged { path, what: "redb panicked while opening it".to_owned() },
            Self::Redb(DatabaseError::DatabaseAlreadyOpen) => {
                let holder = fs::read_to_string(holder_path(&path)).ok();
                let holder = holder.and_then(|text| text.trim().parse().ok());
                OpenError::InUse { path, holder }
            }
            Self::Redb(DatabaseError::Storage(StorageError::Io(error)))
                if error.kind() != io::ErrorKind::InvalidData =>
            {
                OpenError::Io { doing: "opening", path, error }
            }
            Self::Redb(error) => OpenError::Damaged { path, what: error.to_string() },
        }
    }
}

/// Says who holds the store, for the message that others get.
fn name_holder(path: &Path) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.create(true).write(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(holder_path(path))?.write_all(std::process::id().to_string().as_bytes())
}

/// Where the writer's process id stands.
fn holder_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".holder");
    PathBuf::from(name)
}
