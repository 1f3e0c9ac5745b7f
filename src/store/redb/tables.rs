//! The tables, and how a value in them is told to be what was written.
//!
//! A value is a byte for its form, a checksum, and the form itself. The
//! checksum covers the table and the key as well, so that neither a flipped bit
//! nor a value under another's key reads as a truth.

use redb::{ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::lifecycle::{DeckyName, LifecycleId, Revision};
use crate::store::StoreError;

/// The schema that this version writes.
pub(super) const SCHEMA: u64 = 2;

/// A table of ours; in a file that a program shares with us, nothing else
/// begins so.
macro_rules! name {
    ($name:literal) => {
        TableDefinition::new(concat!("decnet-lifecycle/", $name))
    };
}

pub(super) const ROWS: TableDefinition<'_, u128, &[u8]> = name!("rows");
pub(super) const OPEN: TableDefinition<'_, (&str, u128), ()> = name!("open");
pub(super) const DEADLINES: TableDefinition<'_, (i64, u128), ()> = name!("deadlines");
pub(super) const BY_DECKY: TableDefinition<'_, (&str, u128), ()> = name!("by-decky");
pub(super) const FEED: TableDefinition<'_, u64, &[u8]> = name!("feed");
pub(super) const KEYS: TableDefinition<'_, &str, &[u8]> = name!("keys");
pub(super) const PLACEMENTS: TableDefinition<'_, &str, &[u8]> = name!("placements");
/// Deckies by the key of the home that they are, may be, or are to be at.
pub(super) const BY_HOME: TableDefinition<'_, (&str, &str), ()> = name!("by-home");
/// What ended rows took out of placements; files of before have no such table
/// until the first of it is kept.
pub(super) const SET_ASIDE: TableDefinition<'_, u128, &[u8]> = name!("set-aside");
/// Numbers; the one table that schema 1 has under the same name.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("decnet-lifecycle");

pub(super) const META_SCHEMA: &str = "schema";
pub(super) const META_HEAD: &str = "head";
/// How often placements were written; not there before the first time.
pub(super) const META_PLACINGS: &str = "placings";
pub(super) const META_OLDEST: &str = "oldest";

/// The form of the values of schema 2.
const FORM: u8 = 2;
/// Before a value's form proper: its number, and the checksum.
const HEADER: usize = 5;

/// Which table a value is in, as its checksum knows it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Row = 1,
    Feed = 2,
    Key = 3,
    Placement = 4,
    SetAside = 5,
}

impl Kind {
    const fn table(self) -> &'static str {
        match self {
            Self::Row => "rows",
            Self::Feed => "feed",
            Self::Key => "keys",
            Self::Placement => "placements",
            Self::SetAside => "set-aside",
        }
    }
}

fn checksum(kind: Kind, key: &[u8], form: &[u8]) -> [u8; 4] {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&[FORM, kind as u8]);
    hash.update(&(key.len() as u32).to_le_bytes());
    hash.update(key);
    hash.update(form);
    hash.finalize().to_le_bytes()
}

/// A value as it is kept under a key.
pub(super) fn seal(kind: Kind, key: &[u8], value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(&[FORM, 0, 0, 0, 0]);
    let mut bytes = postcard::to_extend(value, bytes)
        .map_err(|error| StoreError::not_committed("encoding a value", error))?;
    let sum = checksum(kind, key, bytes.get(HEADER..).unwrap_or_default());
    if let Some(place) = bytes.get_mut(1..HEADER) {
        place.copy_from_slice(&sum);
    }
    Ok(bytes)
}

/// Seals a form that is bytes already; for fuzzing, which finds no checksums.
#[cfg(feature = "testkit")]
pub(super) fn seal_form(kind: Kind, key: &[u8], form: &[u8]) -> Vec<u8> {
    let mut bytes = vec![FORM];
    bytes.extend_from_slice(&checksum(kind, key, form));
    bytes.extend_from_slice(form);
    bytes
}

/// The form of a sealed value; for fuzzing.
#[cfg(feature = "testkit")]
pub(super) fn form_of(sealed: &[u8]) -> &[u8] {
    sealed.get(HEADER..).unwrap_or_default()
}

/// The value that was kept under a key.
pub(super) fn unseal<T: DeserializeOwned>(
    kind: Kind,
    key: &[u8],
    shown: &dyn std::fmt::Display,
    bytes: &[u8],
) -> Result<T, StoreError> {
    let corrupt =
        |why: &str| StoreError::Corrupt { what: format!("table {}, key {shown}: {why}", kind.table()) };
    let (Some(FORM), Some(sum), Some(form)) =
        (bytes.first().copied(), bytes.get(1..HEADER), bytes.get(HEADER..))
    else {
        return Err(corrupt("its form is not known"));
    };
    if *sum != checksum(kind, key, form) {
        return Err(corrupt("its checksum is wrong"));
    }
    match postcard::take_from_bytes(form) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(corrupt("bytes are left over")),
        Err(error) => Err(corrupt(&error.to_string())),
    }
}

pub(super) fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::not_committed("reading the store", error)
}

/// The ids under a decky in one of the indexes by decky.
pub(super) fn ids_of(
    index: &impl ReadableTable<(&'static str, u128), ()>,
    decky: &DeckyName,
) -> Result<Vec<LifecycleId>, StoreError> {
    let name = decky.as_str();
    let range = index.range((name, 0)..=(name, u128::MAX)).map_err(unreadable)?;
    range
        .map(|entry| entry.map(|(key, _)| LifecycleId::from_u128(key.value().1)).map_err(unreadable))
        .collect()
}

/// The newest revision there is.
pub(super) fn head(meta: &impl ReadableTable<&'static str, u64>) -> Result<Revision, StoreError> {
    number(meta, META_HEAD).map(Revision::new)
}

pub(super) fn number(meta: &impl ReadableTable<&'static str, u64>, key: &str) -> Result<u64, StoreError> {
    Ok(meta.get(key).map_err(unreadable)?.map_or(0, |found| found.value()))
}
