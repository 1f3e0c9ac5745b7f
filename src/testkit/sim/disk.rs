//! A disk in memory that can lose power, fail and lie.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the disk is asked to write and may not have written yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskCall {
    /// Bytes at an offset.
    Write {
        /// Where.
        offset: u64,
        /// What.
        data: Vec<u8>,
    },
    /// Another length.
    SetLen(u64),
    /// All before it shall be durable.
    Sync,
}

/// What a disk does when it is told to sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Honesty {
    /// It syncs.
    #[default]
    Honest,
    /// It says that it has, and now and then hasn't.
    Lies,
}

/// A disk in memory that can lose power, fail and lie: a storage backend for
/// [`RedbStore::simulated`](crate::store::RedbStore::simulated) and
/// [`RedbStore::with_backend`](crate::store::RedbStore::with_backend).
///
/// Clones are the same disk.
///
/// ```
/// use decnet_lifecycle::testkit::sim::SimDisk;
/// use decnet_lifecycle::store::RedbStore;
///
/// let disk = SimDisk::new();
/// drop(RedbStore::with_backend(disk.handle())?);
/// let after = disk.power_cut(&mut |unsynced| unsynced.clear());
/// RedbStore::with_backend(after.handle())?;
/// # Ok::<(), decnet_lifecycle::store::OpenError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<DiskCall>,
    calls: u64,
    fail: Option<Failing>,
    honesty: Honesty,
    random: fastrand::Rng,
    record: Option<Vec<DiskCall>>,
    /// A disk that lost power answers nobody.
    dead: bool,
}

#[derive(Debug, Clone, Copy)]
struct Failing {
    from: u64,
    calls: u64,
    kind: io::ErrorKind,
}

/// Sectors are written whole or not at all.
const SECTOR: usize = 512;

impl SimDisk {
    /// An empty disk that never fails.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk that holds these bytes, durably.
    #[must_use]
    pub fn holding(bytes: Vec<u8>) -> Self {
        let disk = Self::default();
        let mut state = disk.state();
        state.durable.clone_from(&bytes);
        state.bytes = bytes;
        drop(state);
        disk
    }

    /// What a database writes through.
    #[must_use]
    pub fn handle(&self) -> DiskHandle {
        DiskHandle { disk: self.clone() }
    }

    /// From its `n`-th writing call on (the first is 1), so many calls fail.
    pub fn fail(&self, n: u64, calls: u64, kind: io::ErrorKind) {
        self.state().fail = Some(Failing { from: n, calls, kind });
    }

    /// Whether it does what it says; the seed decides when it doesn't.
    pub fn set_honesty(&self, honesty: Honesty, seed: u64) {
        let mut state = self.state();
        state.honesty = honesty;
        state.random = fastrand::Rng::with_seed(seed);
    }

    /// Keeps every writing call from now on, for [`SimDisk::recorded`].
    pub fn record(&self) {
        self.state().record = Some(Vec::new());
    }

    /// The writing calls since [`SimDisk::record`].
    #[must_use]
    pub fn recorded(&self) -> Vec<DiskCall> {
        self.state().record.clone().unwrap_or_default()
    }

    /// How many writing calls there were since [`SimDisk::record`].
    #[must_use]
    pub fn recorded_calls(&self) -> usize {
        self.state().record.as_ref().map_or(0, Vec::len)
    }

    /// What a reader sees, durable or not.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    /// What a power cut leaves for sure.
    #[must_use]
    pub fn durable(&self) -> Vec<u8> {
        self.state().durable.clone()
    }

    /// How many writing calls there were.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// The disk as it comes back after a power cut: `keep` says which of the
    /// calls that were not synced made it. Handles of this one answer nobody
    /// from now on.
    #[must_use]
    pub fn power_cut(&self, keep: &mut dyn FnMut(&mut Vec<DiskCall>)) -> Self {
        let mut state = self.state();
        state.dead = true;
        let mut bytes = std::mem::take(&mut state.durable);
        let mut unsynced = std::mem::take(&mut state.unsynced);
        drop(state);
        keep(&mut unsynced);
        unsynced.iter().for_each(|call| apply(&mut bytes, call));
        Self::holding(bytes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self, call: DiskCall) -> io::Result<()> {
        let mut state = self.state();
        if state.dead {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the power is cut"));
        }
        state.calls += 1;
        let calls = state.calls;
        if let Some(failing) = state.fail
            && (failing.from..failing.from.saturating_add(failing.calls)).contains(&calls)
        {
            return Err(io::Error::new(failing.kind, "injected"));
        }
        if let Some(record) = &mut state.record {
            record.push(call.clone());
        }
        if call == DiskCall::Sync {
            if state.honesty == Honesty::Honest || state.random.u8(..) < 200 {
                let State { durable, unsynced, .. } = &mut *state;
                unsynced.drain(..).for_each(|call| apply(durable, &call));
            }
            return Ok(());
        }
        apply(&mut state.bytes, &call);
        state.unsynced.push(call);
        Ok(())
    }
}

/// Loses some of the calls that were not synced, and parts of others, by
/// sectors, in any order: what a power cut may leave.
pub fn tear(unsynced: &mut Vec<DiskCall>, random: &mut fastrand::Rng) {
    let kept = random.u8(..=3);
    let mut torn = Vec::new();
    for call in unsynced.drain(..) {
        match call {
            DiskCall::Write { offset, data } => {
                for (place, sector) in data.chunks(SECTOR).enumerate() {
                    if random.u8(..3) < kept {
                        let at = offset.saturating_add((place * SECTOR) as u64);
                        torn.push(DiskCall::Write { offset: at, data: sector.to_vec() });
                    }
                }
            }
            other if random.u8(..3) < kept => torn.push(other),
            _ => {}
        }
    }
    *unsynced = torn;
}

/// Does a call to the bytes of a disk.
pub fn apply(bytes: &mut Vec<u8>, call: &DiskCall) {
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    match call {
        DiskCall::SetLen(len) => bytes.resize(size(*len), 0),
        DiskCall::Sync => {}
        DiskCall::Write { offset, data } => {
            let (start, end) = (size(*offset), size(*offset).saturating_add(data.len()));
            // A kept write behind a lost growth grows the file by itself.
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            if let Some(place) = bytes.get_mut(start..end) {
                place.copy_from_slice(data);
            }
        }
    }
}

/// A way to a [`SimDisk`] for one database.
#[derive(Debug)]
pub struct DiskHandle {
    disk: SimDisk,
}

impl redb::StorageBackend for DiskHandle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.disk.state();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        match state.bytes.get(start..start.saturating_add(out.len())) {
            Some(bytes) => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.writing(DiskCall::SetLen(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.writing(DiskCall::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.writing(DiskCall::Write { offset, data: data.to_vec() })
    }
}
