//! Copies of a store: made beside whoever writes it, looked through, and put
//! back.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{
    Database, DatabaseError, Durability, Key, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, TableDefinition, TableError, Value, WriteTransaction,
};

use crate::lifecycle::Revision;
use crate::store::StoreError;

use super::examine;
use super::migrate::{self, DAMAGED};
use super::open::{self, OpenError, builder, check_file, check_schema};
use super::tables::{
    BY_DECKY, BY_HOME, DEADLINES, FEED, KEYS, META, OPEN, PLACEMENTS, ROWS, SCHEMA, SET_ASIDE, head,
    unreadable,
};

/// What a copy of a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// The newest change that is in it, and with it all before.
    pub revision: Revision,
    /// Its rows.
    pub rows: u64,
    /// Its placements.
    pub placements: u64,
}

/// Why a store was not copied. Nothing is left of the copy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// Something is there, and nothing is overwritten.
    #[error("{} is there already, and nothing is overwritten; name another place, or move it away", path.display())]
    Exists {
        /// Where the copy was to be.
        path: PathBuf,
    },
    /// What is to be put back is not whole.
    #[error("{} is no whole backup ({what}); take another one", path.display())]
    Torn {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The copy was made, and is not what it should be.
    #[error("the copy of the store can't be trusted ({what}); look at the store, then try again")]
    Unsound {
        /// What is wrong with it.
        what: String,
    },
    /// What is to be copied is no store, or the system would not.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Copies what one moment's snapshot holds into a new file, and looks through
/// that: it is whole before it has its name.
pub(super) fn backup(db: &impl ReadableDatabase, to: &Path) -> Result<Backup, BackupError> {
    let place = NewFile::at(to)?;
    let copied = catch_unwind(AssertUnwindSafe(|| copy_all(db, place.temp.path())));
    copied
        .unwrap_or_else(|_| Err(broken("redb panicked while the store was copied")))
        .map_err(|error| BackupError::Store(StoreError::not_committed("copying the store", error)))?;
    let found = look_through(place.temp.path()).map_err(|what| BackupError::Unsound { what })?;
    place.persist()?;
    Ok(found)
}

/// Puts a copy where there is no store yet.
pub(super) fn restore(from: &Path, to: &Path) -> Result<Backup, BackupError> {
    check_file(from)?;
    let place = NewFile::at(to)?;
    let io = |doing, path: &Path| {
        let path = path.to_owned();
        move |error| BackupError::Open(OpenError::Io { doing, path, error })
    };
    let mut source = File::open(from).map_err(io("opening", from))?;
    io::copy(&mut source, &mut place.temp.as_file()).map_err(io("copying", from))?;
    let torn = |what| BackupError::Torn { path: from.to_owned(), what };
    let found = look_through(place.temp.path()).map_err(torn)?;
    place.persist()?;
    Ok(found)
}

/// A file that has no name yet, beside where it will be.
struct NewFile {
    temp: tempfile::NamedTempFile,
    path: PathBuf,
}

impl NewFile {
    fn at(path: &Path) -> Result<Self, BackupError> {
        if path.symlink_metadata().is_ok() {
            return Err(BackupError::Exists { path: path.to_owned() });
        }
        let made = tempfile::Builder::new().prefix(".new-store-").tempfile_in(open::dir_of(path));
        let temp = made.map_err(|error| OpenError::Io { doing: "creating", path: path.to_owned(), error })?;
        Ok(Self { temp, path: path.to_owned() })
    }

    fn persist(self) -> Result<(), BackupError> {
        let Self { temp, path } = self;
        let io = |doing| {
            let path = path.clone();
            move |error| BackupError::Open(OpenError::Io { doing, path, error })
        };
        temp.as_file().sync_all().map_err(io("syncing"))?;
        match temp.persist_noclobber(&path) {
            Err(lost) if lost.error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(BackupError::Exists { path });
            }
            persisted => drop(persisted.map_err(|error| error.error).map_err(io("naming"))?),
        }
        let dir = File::open(open::dir_of(&path)).and_then(|dir| dir.sync_all());
        dir.map_err(io("syncing the directory of"))
    }
}

fn copy_all(db: &impl ReadableDatabase, to: &Path) -> Result<(), redb::Error> {
    let from = db.begin_read()?;
    let copy = builder().create(to)?;
    let mut txn = copy.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    table(&from, &txn, ROWS)?;
    table(&from, &txn, OPEN)?;
    table(&from, &txn, DEADLINES)?;
    table(&from, &txn, BY_DECKY)?;
    table(&from, &txn, FEED)?;
    table(&from, &txn, KEYS)?;
    table(&from, &txn, PLACEMENTS)?;
    table(&from, &txn, BY_HOME)?;
    table(&from, &txn, SET_ASIDE)?;
    table(&from, &txn, DAMAGED)?;
    table(&from, &txn, META)?;
    txn.commit()?;
    copy.close()?;
    Ok(())
}

/// Copies a table; one that isn't there has nothing in it.
fn table<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    to: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<(), redb::Error> {
    let from = match from.open_table(table) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        opened => opened?,
    };
    let mut to = to.open_table(table)?;
    for entry in from.iter()? {
        let (key, value) = entry?;
        to.insert(key.value(), value.value())?;
    }
    match to.len()? == from.len()? {
        true => Ok(()),
        false => Err(broken("a table holds more or less than it says")),
    }
}

fn broken(what: &str) -> redb::Error {
    redb::Error::Corrupted(what.to_owned())
}

/// Checks every page and every value of a file that nobody writes, and that was
/// closed; else says what is wrong.
fn look_through(path: &Path) -> Result<Backup, String> {
    let looked = catch_unwind(AssertUnwindSafe(|| {
        match builder().open_read_only(path) {
            Ok(db) => check_schema(path, &db).map_err(|error| error.to_string())?,
            Err(DatabaseError::RepairAborted) => return Err("it was not closed".to_owned()),
            Err(error) => return Err(error.to_string()),
        };
        let db = builder().set_check_integrity_on_open(true).open(path).map_err(|error| error.to_string())?;
        if check_schema(path, &db).map_err(|error| error.to_string())? != SCHEMA {
            migrate::from_schema_1(&db).map_err(|error| error.to_string())?;
        }
        match examine::examine(&db).map_err(|error| error.to_string())? {
            0 => {}
            damaged => return Err(format!("{damaged} of its values are damaged")),
        }
        let found = count(&db).map_err(|error| error.to_string())?;
        db.close().map_err(|error| error.to_string())?;
        Ok(found)
    }));
    looked.unwrap_or_else(|_| Err("redb panicked while it was looked through".to_owned()))
}

fn count(db: &Database) -> Result<Backup, StoreError> {
    let txn = db.begin_read().map_err(unreadable)?;
    let rows = txn.open_table(ROWS).map_err(unreadable)?.len().map_err(unreadable)?;
    let placements = txn.open_table(PLACEMENTS).map_err(unreadable)?.len().map_err(unreadable)?;
    let revision = head(&txn.open_table(META).map_err(unreadable)?)?;
    Ok(Backup { revision, rows, placements })
}
