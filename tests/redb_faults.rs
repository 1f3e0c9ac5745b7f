//! A disk that fails at its n-th call, for every n: no panic, no half batch,
//! nothing acknowledged is lost.

use std::io;
use std::sync::{Arc, Mutex};

use decnet_lifecycle::*;
use futures_lite::future::block_on;

/// A disk in memory that fails from its n-th writing call on, as a device
/// that has gone does; what was synced before stays.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    calls: u64,
    fail_at: Option<(u64, io::ErrorKind)>,
}

impl Disk {
    fn writing<T>(&self, work: impl FnOnce(&mut State) -> T) -> io::Result<T> {
        let mut state = self.0.lock().unwrap();
        state.calls += 1;
        match state.fail_at {
            Some((at, kind)) if state.calls >= at => Err(io::Error::new(kind, "injected")),
            _ => Ok(work(&mut state)),
        }
    }

    /// The disk as it comes back after a power cut.
    fn after_power_cut(&self) -> Self {
        let synced = self.0.lock().unwrap().synced.clone();
        Self(Arc::new(Mutex::new(State { bytes: synced.clone(), synced, ..State::default() })))
    }

    fn calls(&self) -> u64 {
        self.0.lock().unwrap().calls
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        out.copy_from_slice(&state.bytes[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writing(|state| state.bytes.resize(usize::try_from(len).unwrap(), 0))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.writing(|state| state.synced = state.bytes.clone())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.writing(|state| state.bytes[start..start + data.len()].copy_from_slice(data))
    }
}

fn insert(number: u64) -> Change {
    let at = Timestamp::from_micros(1_767_225_600_000_000);
    let record = Record {
        id: LifecycleId::from_u128(u128::from(number) + (1 << 90)),
        decky: DeckyName::parse(&format!("decky-{number}")).unwrap(),
        host: None,
        operation: Operation::Deploy,
        phase: Phase::Pending { deadline: at },
        owner: Owner { master: MasterName::parse("m").unwrap(), epoch: 1 },
        created_at: at,
        updated_at: at,
        cancel_requested_at: None,
        claimed_completion: None,
        key: None,
        revision: Revision::ZERO,
    };
    Change::Insert(Box::new(Insert { record, overlap: Overlap::Reject }))
}

/// Commits pairs of rows until the disk fails; gives how many pairs were
/// acknowledged, and whether one was left in doubt.
fn workload(store: &RedbStore) -> (u64, bool) {
    for pair in 0..12 {
        let batch = Batch::all_or_none(vec![insert(2 * pair), insert(2 * pair + 1)]);
        match block_on(store.commit(batch)) {
            Ok(outcomes) => {
                assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied { .. })))
            }
            Err(StoreError::Unknown { .. }) => return (pair, true),
            Err(StoreError::NotCommitted { .. } | StoreError::Closed { .. }) => return (pair, false),
            Err(other) => panic!("{other}"),
        }
    }
    (12, false)
}

#[test]
fn every_nth_io_error_is_typed_and_loses_nothing_acknowledged() {
    let begin = Disk::default();
    let store = RedbStore::with_backend(begin.clone()).unwrap();
    let opened = begin.calls();
    assert_eq!(workload(&store), (12, false));
    let calls = begin.calls();
    drop(store);
    let (mut doubts, mut landed) = (0, 0);
    for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
        for n in opened + 1..=calls {
            let disk = Disk::default();
            let store = RedbStore::with_backend(disk.clone()).unwrap();
            disk.0.lock().unwrap().fail_at = Some((n, kind));
            let (acknowledged, doubt) = workload(&store);
            assert!(acknowledged < 12, "call {n} failed unnoticed");
            // A store over a backend can't be opened anew: it closes for good.
            let again = block_on(store.commit(Batch::per_row(vec![insert(900)])));
            assert!(matches!(again, Err(StoreError::Closed { .. })), "{again:?}");
            drop(store);
            let store = RedbStore::with_backend(disk.after_power_cut()).unwrap();
            let rows = block_on(store.query(&Query::new())).unwrap().records.len() as u64;
            let whole = [acknowledged, acknowledged + u64::from(doubt)].map(|pairs| 2 * pairs);
            assert!(
                whole.contains(&rows),
                "call {n}: {rows} rows, {acknowledged} pairs acknowledged, doubt: {doubt}"
            );
            doubts += u64::from(doubt);
            landed += u64::from(rows > 2 * acknowledged);
            let next = block_on(store.commit(Batch::per_row(vec![insert(901)]))).unwrap();
            let Some(Outcome::Applied { record, .. }) = next.first() else { panic!("{next:?}") };
            assert_eq!(record.revision, Revision::new(rows + 1));
        }
    }
    // Both kinds of doubt must have occurred, or nothing was tested.
    assert!(landed > 0 && doubts > landed, "{doubts} in doubt, {landed} of them had landed");
}
