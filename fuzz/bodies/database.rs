//! Foreign bytes as a database file: an error or a store, never a panic.

use std::sync::OnceLock;

use decnet_lifecycle::testkit::sim::SimDisk;
use decnet_lifecycle::{
    Timestamp,
    decide::Batch,
    lifecycle::Revision,
    store::{Query, RedbStore, Retention, Store as _},
};
use futures_lite::future::block_on;

use super::bytes::Bytes;
use super::store::row;

/// A store with some rows in it, as it lies on the disk.
fn sound() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let disk = SimDisk::new();
        let store = RedbStore::with_backend(disk.handle()).unwrap();
        for number in 0..20 {
            let _ = block_on(store.commit(Batch::per_row(vec![row(number, number)]))).unwrap();
        }
        drop(store);
        disk.bytes()
    })
}

/// The first byte says whether the rest is the file, or what is wrong in a
/// sound one: places and bytes, and where it ends.
pub fn database(data: &[u8]) {
    // redb panics on some damaged pages; the library catches that.
    super::quiet_panics();
    let mut bytes = Bytes(data);
    let image = match bytes.byte() {
        0 => bytes.0.to_vec(),
        kind => {
            let mut image = sound().to_vec();
            if kind == 1 {
                image.truncate(bytes.number() as usize % (image.len() + 1));
            }
            while !bytes.is_empty() && !image.is_empty() {
                // Half of them near the front, where the headers are.
                let span = if bytes.flag() { image.len() } else { image.len().min(4_096) };
                let place = bytes.number() as usize % span;
                image[place] = bytes.byte();
            }
            image
        }
    };
    let Ok(store) = RedbStore::with_backend(SimDisk::holding(image).handle()) else { return };
    let _ = block_on(store.query(&Query::new()));
    let _ = block_on(store.query(&Query::new().open()));
    let _ = block_on(store.query(&Query::new().due_by(Timestamp::from_micros(i64::MAX))));
    let _ = block_on(store.changes(Revision::ZERO, 100));
    let _ = block_on(store.commit(Batch::per_row(vec![row(100, 3)])));
    let _ = block_on(store.prune(&Retention::closed_before(Timestamp::from_micros(i64::MAX))));
    let _ = block_on(store.close());
}
