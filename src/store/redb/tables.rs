//! The tables, and how what is in them is written.

use redb::{ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::lifecycle::{DeckyName, LifecycleId, Record, RequestKey, Revision};
use crate::store::StoreError;
use crate::store::plan::{KeyEntry, View};

/// The schema that this version writes.
pub(super) const SCHEMA: u64 = 1;

pub(super) const ROWS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("rows");
pub(super) const OPEN: TableDefinition<'_, (&str, u128), ()> = TableDefinition::new("open");
pub(super) const DEADLINES: TableDefinition<'_, (i64, u128), ()> = TableDefinition::new("deadlines");
pub(super) const BY_DECKY: TableDefinition<'_, (&str, u128), ()> = TableDefinition::new("by_decky");
pub(super) const FEED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("feed");
pub(super) const KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("decnet-lifecycle");

pub(super) const META_SCHEMA: &str = "schema";
pub(super) const META_HEAD: &str = "head";
pub(super) const META_OLDEST: &str = "oldest";

/// Stands before each value, so that a later form can be told apart.
const FORM: u8 = 1;

pub(crate) fn encode(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    // Most rows fit without growing.
    let mut bytes = Vec::with_capacity(256);
    bytes.push(FORM);
    postcard::to_extend(value, bytes).map_err(|error| StoreError::not_committed("encoding a row", error))
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8], table: &str, key: &str) -> Result<T, StoreError> {
    let corrupt = |why: &str| StoreError::Corrupt { what: format!("table {table}, key {key}: {why}") };
    match bytes.split_first() {
        Some((&FORM, rest)) => match postcard::take_from_bytes(rest) {
            Ok((value, [])) => Ok(value),
            Ok(_) => Err(corrupt("bytes are left over")),
            Err(error) => Err(corrupt(&error.to_string())),
        },
        Some((form, _)) => Err(corrupt(&format!("form {form} is not known"))),
        None => Err(corrupt("it is empty")),
    }
}

pub(crate) fn decode_row(id: u128, bytes: &[u8]) -> Result<Record, StoreError> {
    let id = LifecycleId::from_u128(id);
    let record: Record = decode(bytes, "rows", &id.to_string())?;
    if record.id == id {
        return Ok(record);
    }
    Err(StoreError::Corrupt { what: format!("table rows, key {id}: it holds row {}", record.id) })
}

pub(super) fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::not_committed("reading the store", error)
}

/// What the plan reads, from any transaction.
pub(super) struct Tables<'t, R, O, K> {
    pub(super) rows: &'t R,
    pub(super) open: &'t O,
    pub(super) keys: &'t K,
}

impl<R, O, K> View for Tables<'_, R, O, K>
where
    R: ReadableTable<u128, &'static [u8]>,
    O: ReadableTable<(&'static str, u128), ()>,
    K: ReadableTable<&'static str, &'static [u8]>,
{
    fn row(&self, id: LifecycleId) -> Result<Option<Record>, StoreError> {
        let found = self.rows.get(id.as_u128()).map_err(unreadable)?;
        found.map(|bytes| decode_row(id.as_u128(), bytes.value())).transpose()
    }

    fn open_of(&self, decky: &DeckyName) -> Result<Vec<LifecycleId>, StoreError> {
        ids_of(self.open, decky)
    }

    fn key(&self, key: &RequestKey) -> Result<Option<KeyEntry>, StoreError> {
        let found = self.keys.get(key.as_str()).map_err(unreadable)?;
        found.map(|bytes| decode(bytes.value(), "keys", key.as_str())).transpose()
    }
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
