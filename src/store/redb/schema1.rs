//! Schema 1 as it was, to be read once more: its tables, and the types that
//! its values were derived from. Nothing here ever changes.

use redb::TableDefinition;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::decide::KeyEntry;
use crate::lifecycle::{
    DeckyName, Failure, FailureKind, HostId, LifecycleId, MasterName, Operation, Owner, Phase, Record,
    RequestKey, Revision, Timestamp,
};

pub(super) const SCHEMA: u64 = 1;

pub(super) const ROWS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("rows");
pub(super) const OPEN: TableDefinition<'_, (&str, u128), ()> = TableDefinition::new("open");
pub(super) const DEADLINES: TableDefinition<'_, (i64, u128), ()> = TableDefinition::new("deadlines");
pub(super) const BY_DECKY: TableDefinition<'_, (&str, u128), ()> = TableDefinition::new("by_decky");
pub(super) const FEED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("feed");
pub(super) const KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");

const FORM: u8 = 1;

#[derive(Deserialize)]
struct RecordV1 {
    id: LifecycleId,
    decky: DeckyName,
    host: Option<HostId>,
    operation: OperationV1,
    phase: PhaseV1,
    owner: OwnerV1,
    created_at: Timestamp,
    updated_at: Timestamp,
    cancel_requested_at: Option<Timestamp>,
    claimed_completion: Option<Timestamp>,
    key: Option<RequestKey>,
    revision: Revision,
}

#[derive(Deserialize)]
struct OwnerV1 {
    master: MasterName,
    epoch: u64,
}

#[derive(Deserialize)]
enum OperationV1 {
    Deploy,
    Mutate,
    Teardown,
}

#[derive(Deserialize)]
enum PhaseV1 {
    Pending { deadline: Timestamp },
    Running { since: Timestamp, deadline: Timestamp },
    Succeeded { since: Timestamp, at: Timestamp },
    Failed { since: Option<Timestamp>, at: Timestamp, failure: FailureV1 },
}

#[derive(Deserialize)]
struct FailureV1 {
    kind: FailureKindV1,
    message: String,
}

#[derive(Deserialize)]
enum FailureKindV1 {
    Engine,
    Dispatch,
    Rejected,
    Deadline,
    Superseded,
    Cancelled,
    MasterRestarted,
    WorkerLost,
    Panic,
    Reported,
    Abandoned,
    Unreachable,
}

#[derive(Deserialize)]
enum StatusV1 {
    Pending,
    Running,
    Succeeded,
    Failed,
}

#[derive(Deserialize)]
struct EntryV1 {
    _revision: Revision,
    id: LifecycleId,
    _decky: DeckyName,
    _host: Option<HostId>,
    _operation: OperationV1,
    status: StatusV1,
    _failure: Option<FailureV1>,
    _at: Timestamp,
    cancel_requested: bool,
}

/// What a feed entry of schema 1 says that its row does not.
pub(super) struct Event {
    pub(super) id: LifecycleId,
    pub(super) status: crate::lifecycle::Status,
    pub(super) cancel_requested: bool,
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match bytes.split_first()? {
        (&FORM, rest) => match postcard::take_from_bytes(rest).ok()? {
            (value, []) => Some(value),
            _ => None,
        },
        _ => None,
    }
}

/// The row under this id; none if it can't be read.
pub(super) fn row(id: u128, bytes: &[u8]) -> Option<Record> {
    let row: RecordV1 = decode(bytes)?;
    if row.id.as_u128() != id {
        return None;
    }
    let phase = match row.phase {
        PhaseV1::Pending { deadline } => Phase::Pending { deadline },
        PhaseV1::Running { since, deadline } => Phase::Running { since, deadline },
        PhaseV1::Succeeded { since, at } => Phase::Succeeded { since, at },
        PhaseV1::Failed { since, at, failure } => {
            Phase::Failed { since, at, failure: Failure::new(kind(&failure.kind), &failure.message) }
        }
    };
    Some(Record {
        id: row.id,
        decky: row.decky,
        host: row.host,
        operation: match row.operation {
            OperationV1::Deploy => Operation::Deploy,
            OperationV1::Mutate => Operation::Mutate,
            OperationV1::Teardown => Operation::Teardown,
        },
        phase,
        owner: Owner { master: row.owner.master, epoch: row.owner.epoch },
        created_at: row.created_at,
        updated_at: row.updated_at,
        cancel_requested_at: row.cancel_requested_at,
        claimed_completion: row.claimed_completion,
        key: row.key,
        revision: row.revision,
    })
}

const fn kind(kind: &FailureKindV1) -> FailureKind {
    match kind {
        FailureKindV1::Engine => FailureKind::Engine,
        FailureKindV1::Dispatch => FailureKind::Dispatch,
        FailureKindV1::Rejected => FailureKind::Rejected,
        FailureKindV1::Deadline => FailureKind::Deadline,
        FailureKindV1::Superseded => FailureKind::Superseded,
        FailureKindV1::Cancelled => FailureKind::Cancelled,
        FailureKindV1::MasterRestarted => FailureKind::MasterRestarted,
        FailureKindV1::WorkerLost => FailureKind::WorkerLost,
        FailureKindV1::Panic => FailureKind::Panic,
        FailureKindV1::Reported => FailureKind::Reported,
        FailureKindV1::Abandoned => FailureKind::Abandoned,
        FailureKindV1::Unreachable => FailureKind::Unreachable,
    }
}

/// What a feed entry says; none if it can't be read.
pub(super) fn event(bytes: &[u8]) -> Option<Event> {
    use crate::lifecycle::Status;
    let entry: EntryV1 = decode(bytes)?;
    let status = match entry.status {
        StatusV1::Pending => Status::Pending,
        StatusV1::Running => Status::Running,
        StatusV1::Succeeded => Status::Succeeded,
        StatusV1::Failed => Status::Failed,
    };
    Some(Event { id: entry.id, status, cancel_requested: entry.cancel_requested })
}

#[derive(Deserialize)]
struct KeyEntryV1 {
    hash: [u8; 32],
    ids: Vec<LifecycleId>,
}

/// What was kept under a key; none if it can't be read.
pub(super) fn key(bytes: &[u8]) -> Option<KeyEntry> {
    let entry: KeyEntryV1 = decode(bytes)?;
    Some(KeyEntry { hash: entry.hash, ids: entry.ids })
}
