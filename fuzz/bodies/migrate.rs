//! Damaged files of schema 1: each opens or says why not, and what can still
//! be read is there.

use std::sync::OnceLock;

use decnet_lifecycle::testkit::sim::SimDisk;
use decnet_lifecycle::{
    decide::Batch,
    lifecycle::Revision,
    store::{Query, RedbStore, Store as _},
};
use futures_lite::future::block_on;
use redb::{Database, ReadableTable as _, TableDefinition};

use super::bytes::Bytes;
use super::store::row;

const GOLDEN: &[u8] = include_bytes!("../../tests/golden/schema-1.redb");
const TABLES: [&str; 2] = ["rows", "feed"];
const ROWS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("rows");
const FEED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("feed");

/// The golden file's values, by table and key.
fn values() -> &'static [(usize, u128, Vec<u8>)] {
    static VALUES: OnceLock<Vec<(usize, u128, Vec<u8>)>> = OnceLock::new();
    VALUES.get_or_init(|| {
        let db = open(GOLDEN.to_vec()).unwrap().1;
        let txn = db.begin_write().unwrap();
        let mut all = Vec::new();
        let rows = txn.open_table(ROWS).unwrap();
        all.extend(
            rows.iter()
                .unwrap()
                .map(|entry| entry.unwrap())
                .map(|(id, bytes)| (0, id.value(), bytes.value().to_vec())),
        );
        drop(rows);
        let feed = txn.open_table(FEED).unwrap();
        all.extend(
            feed.iter()
                .unwrap()
                .map(|entry| entry.unwrap())
                .map(|(id, bytes)| (1, id.value().into(), bytes.value().to_vec())),
        );
        drop(feed);
        all
    })
}

fn open(image: Vec<u8>) -> Result<(SimDisk, Database), redb::DatabaseError> {
    let disk = SimDisk::holding(image);
    let db = redb::Builder::new().create_with_backend(disk.handle())?;
    Ok((disk, db))
}

/// The first byte says whether values are damaged, or the file itself.
pub fn migrate(data: &[u8]) {
    super::quiet_panics();
    let mut bytes = Bytes(data);
    if bytes.flag() { damaged_values(&mut bytes) } else { damaged_file(&mut bytes) }
}

/// Values of rows and of the feed are overwritten: all other rows are there.
fn damaged_values(bytes: &mut Bytes<'_>) {
    let (disk, db) = open(GOLDEN.to_vec()).unwrap();
    let txn = db.begin_write().unwrap();
    let mut hurt = Vec::new();
    {
        let mut rows = txn.open_table(ROWS).unwrap();
        let mut feed = txn.open_table(FEED).unwrap();
        for _ in 0..1 + bytes.below(3) {
            let (table, key, value) = &values()[bytes.below(values().len())];
            let mut value = value.clone();
            value.truncate(usize::from(bytes.byte()).max(1));
            for _ in 0..bytes.below(8) {
                let place = bytes.below(value.len());
                value[place] = bytes.byte();
            }
            match TABLES[*table] {
                "rows" => {
                    rows.insert(key, value.as_slice()).unwrap();
                    hurt.push(*key);
                }
                _ => drop(feed.insert(u64::try_from(*key).unwrap(), value.as_slice()).unwrap()),
            }
        }
    }
    txn.commit().unwrap();
    drop(db);
    let store = RedbStore::with_backend(SimDisk::holding(disk.bytes()).handle()).unwrap();
    let page = block_on(store.query(&Query::new())).unwrap();
    assert!(page.damaged.is_empty(), "{page:?}");
    for (_, id, _) in values().iter().filter(|(table, id, _)| *table == 0 && !hurt.contains(id)) {
        assert!(page.records.iter().any(|row| row.id.as_u128() == *id), "row {id:x} is gone: {page:?}");
    }
    let from = match block_on(store.changes(Revision::ZERO, 100)).unwrap() {
        decnet_lifecycle::store::Feed::Compacted { oldest } => Revision::new(oldest.get() - 1),
        decnet_lifecycle::store::Feed::Entries { .. } => Revision::ZERO,
    };
    block_on(store.changes(from, 100)).unwrap();
    let _ = block_on(store.commit(Batch::per_row(vec![row(100, 99)]))).unwrap();
}

/// Any bytes are overwritten.
fn damaged_file(bytes: &mut Bytes<'_>) {
    let mut image = GOLDEN.to_vec();
    while !bytes.is_empty() {
        let place = bytes.number() as usize % image.len();
        image[place] = bytes.byte();
    }
    let Ok(store) = RedbStore::with_backend(SimDisk::holding(image).handle()) else { return };
    let _ = block_on(store.query(&Query::new()));
    let _ = block_on(store.changes(Revision::ZERO, 100));
    let _ = block_on(store.commit(Batch::per_row(vec![row(100, 3)])));
    let _ = block_on(store.close());
}
