//! Rows and feed entries as columns.

use serde::Deserialize as _;
use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};
use uuid::Uuid;

use crate::lifecycle::{
    DeckyName, Failure, FailureKind, HostId, LifecycleId, MasterName, NameError, Operation, Owner, Phase,
    Record, RequestKey, Revision, Status, Timestamp,
};
use crate::store::{Entry, StoreError};

use super::connect::Param;

/// The columns of a row, in the order that they are read in.
pub(super) const COLUMNS: &str = "id, decky, host, operation, status, since, ended, deadline, failure_kind, \
                                  failure, master, epoch, created, updated, cancel_requested, claimed, \
                                  request_key, revision";

/// The columns of an entry of the feed, likewise.
pub(super) const ENTRY: &str = "f.revision, f.id, f.decky, f.host, f.operation, f.status, f.failure_kind, \
                                f.failure, f.at, f.cancel_requested";

/// A column that isn't what we write.
pub(super) struct Damaged(&'static str);

impl Damaged {
    pub(super) const DETAIL: Self = Self("detail");
}

/// Reads a row's columns one after the other.
pub(super) struct Columns<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(super) const fn of(row: &'r Row, first: usize) -> Self {
        Self { row, next: first }
    }

    pub(super) fn next<T: FromSql<'r>>(&mut self, what: &'static str) -> Result<T, Damaged> {
        let place = self.next;
        self.next += 1;
        self.row.try_get(place).map_err(|_| Damaged(what))
    }

    pub(super) fn name<T>(
        &mut self,
        what: &'static str,
        parse: impl Fn(&str) -> Result<T, NameError>,
    ) -> Result<T, Damaged> {
        parse(self.next(what)?).map_err(|_| Damaged(what))
    }

    fn optional<T>(
        &mut self,
        what: &'static str,
        parse: impl Fn(&str) -> Result<T, NameError>,
    ) -> Result<Option<T>, Damaged> {
        self.next::<Option<&str>>(what)?.map(parse).transpose().map_err(|_| Damaged(what))
    }

    fn time(&mut self, what: &'static str) -> Result<Option<Timestamp>, Damaged> {
        Ok(self.next::<Option<i64>>(what)?.map(Timestamp::from_micros))
    }

    fn at(&mut self, what: &'static str) -> Result<Timestamp, Damaged> {
        self.next(what).map(Timestamp::from_micros)
    }

    pub(super) fn id(&mut self) -> Result<LifecycleId, Damaged> {
        Ok(id_of(self.next("id")?))
    }

    pub(super) fn revision(&mut self) -> Result<Revision, Damaged> {
        let number: i64 = self.next("revision")?;
        u64::try_from(number).map(Revision::new).map_err(|_| Damaged("revision"))
    }

    fn operation(&mut self) -> Result<Operation, Damaged> {
        let word: &str = self.next("operation")?;
        let all = [Operation::Deploy, Operation::Mutate, Operation::Teardown];
        all.into_iter().find(|known| known.as_str() == word).ok_or(Damaged("operation"))
    }

    fn status(&mut self) -> Result<Status, Damaged> {
        let word: &str = self.next("status")?;
        let all = [Status::Pending, Status::Running, Status::Succeeded, Status::Failed];
        all.into_iter().find(|known| known.as_str() == word).ok_or(Damaged("status"))
    }

    fn failure(&mut self) -> Result<Option<Failure>, Damaged> {
        let kind: Option<&str> = self.next("failure_kind")?;
        let message: Option<&str> = self.next("failure")?;
        match (kind, message) {
            (None, None) => Ok(None),
            (Some(word), Some(message)) => {
                let kind =
                    FailureKind::deserialize(IntoDeserializer::<ValueError>::into_deserializer(word)).ok();
                Ok(Some(Failure::new(kind.ok_or(Damaged("failure_kind"))?, message)))
            }
            _ => Err(Damaged("failure")),
        }
    }
}

pub(super) const fn id_of(id: Uuid) -> LifecycleId {
    LifecycleId::from_u128(id.as_u128())
}

pub(super) const fn uuid(id: LifecycleId) -> Uuid {
    Uuid::from_u128(id.as_u128())
}

/// As our tables count: a bound that no revision reaches.
pub(super) fn signed(revision: Revision) -> i64 {
    i64::try_from(revision.get()).unwrap_or(i64::MAX)
}

pub(super) fn corrupt(table: &str, key: &str, damaged: &Damaged) -> StoreError {
    StoreError::Corrupt { what: format!("table {table}, key {key}: its {} is none of ours", damaged.0) }
}

/// Reads a row of [`COLUMNS`].
pub(super) fn record(row: &Row) -> Result<Record, StoreError> {
    read_record(row).map_err(|damaged| corrupt("lifecycles", &shown_id(row, 0), &damaged))
}

/// The id of a row that may be damaged, for texts.
fn shown_id(row: &Row, place: usize) -> String {
    row.try_get::<_, Uuid>(place).map_or_else(|_| "?".to_owned(), |id| id.to_string())
}

fn read_record(row: &Row) -> Result<Record, Damaged> {
    let mut columns = Columns::of(row, 0);
    let id = columns.id()?;
    let decky = columns.name("decky", DeckyName::parse)?;
    let host = columns.optional("host", HostId::parse)?;
    let operation = columns.operation()?;
    let status = columns.status()?;
    let (since, ended, deadline) =
        (columns.time("since")?, columns.time("ended")?, columns.time("deadline")?);
    let failure = columns.failure()?;
    let phase = match (status, since, ended, deadline, failure) {
        (Status::Pending, None, None, Some(deadline), None) => Phase::Pending { deadline },
        (Status::Running, Some(since), None, Some(deadline), None) => Phase::Running { since, deadline },
        (Status::Succeeded, Some(since), Some(at), None, None) => Phase::Succeeded { since, at },
        (Status::Failed, since, Some(at), None, Some(failure)) => Phase::Failed { since, at, failure },
        _ => return Err(Damaged("status")),
    };
    let master = columns.name("master", MasterName::parse)?;
    let epoch: i64 = columns.next("epoch")?;
    Ok(Record {
        id,
        decky,
        host,
        operation,
        phase,
        owner: Owner { master, epoch: epoch.cast_unsigned() },
        created_at: columns.at("created")?,
        updated_at: columns.at("updated")?,
        cancel_requested_at: columns.time("cancel_requested")?,
        claimed_completion: columns.time("claimed")?,
        key: columns.optional("request_key", RequestKey::parse)?,
        revision: columns.revision()?,
    })
}

/// Reads an entry of the feed, from this column on.
pub(super) fn entry(row: &Row, first: usize) -> Result<Entry, Damaged> {
    let mut columns = Columns::of(row, first);
    let entry = Entry {
        revision: columns.revision()?,
        id: columns.id()?,
        decky: columns.name("decky", DeckyName::parse)?,
        host: columns.optional("host", HostId::parse)?,
        operation: columns.operation()?,
        status: columns.status()?,
        failure: columns.failure()?,
        at: columns.at("at")?,
        cancel_requested: columns.next("cancel_requested")?,
    };
    match (entry.status == Status::Failed) == entry.failure.is_some() {
        true => Ok(entry),
        false => Err(Damaged("failure")),
    }
}

/// Many rows, column by column.
#[derive(Default)]
pub(super) struct ManyRows<'r> {
    id: Vec<Uuid>,
    decky: Vec<&'r str>,
    host: Vec<Option<&'r str>>,
    operation: Vec<&'r str>,
    status: Vec<&'r str>,
    since: Vec<Option<i64>>,
    ended: Vec<Option<i64>>,
    deadline: Vec<Option<i64>>,
    failure_kind: Vec<Option<&'r str>>,
    failure: Vec<Option<&'r str>>,
    master: Vec<&'r str>,
    epoch: Vec<i64>,
    created: Vec<i64>,
    updated: Vec<i64>,
    cancel_requested: Vec<Option<i64>>,
    claimed: Vec<Option<i64>>,
    request_key: Vec<Option<&'r str>>,
    revision: Vec<i64>,
    cancelled: Vec<bool>,
}

impl<'r> FromIterator<&'r Record> for ManyRows<'r> {
    fn from_iter<I: IntoIterator<Item = &'r Record>>(rows: I) -> Self {
        let mut many = Self::default();
        for row in rows {
            many.id.push(uuid(row.id));
            many.decky.push(row.decky.as_str());
            many.host.push(row.host.as_ref().map(HostId::as_str));
            many.operation.push(row.operation.as_str());
            many.status.push(row.status().as_str());
            many.since.push(row.running_since().map(Timestamp::as_micros));
            many.ended.push(row.completed_at().map(Timestamp::as_micros));
            many.deadline.push(row.deadline().map(Timestamp::as_micros));
            many.failure_kind.push(row.failure().map(|failure| failure.kind().as_str()));
            many.failure.push(row.failure().map(Failure::message));
            many.master.push(row.owner.master.as_str());
            many.epoch.push(row.owner.epoch.cast_signed());
            many.created.push(row.created_at.as_micros());
            many.updated.push(row.updated_at.as_micros());
            many.cancel_requested.push(row.cancel_requested_at.map(Timestamp::as_micros));
            many.claimed.push(row.claimed_completion.map(Timestamp::as_micros));
            many.request_key.push(row.key.as_ref().map(RequestKey::as_str));
            many.revision.push(signed(row.revision));
            many.cancelled.push(row.cancel_requested_at.is_some());
        }
        many
    }
}

impl ManyRows<'_> {
    pub(super) const fn is_empty(&self) -> bool {
        self.id.is_empty()
    }

    /// All of [`COLUMNS`].
    pub(super) fn whole(&self) -> [Param<'_>; 18] {
        [
            (&self.id, Type::UUID_ARRAY),
            (&self.decky, Type::TEXT_ARRAY),
            (&self.host, Type::TEXT_ARRAY),
            (&self.operation, Type::TEXT_ARRAY),
            (&self.status, Type::TEXT_ARRAY),
            (&self.since, Type::INT8_ARRAY),
            (&self.ended, Type::INT8_ARRAY),
            (&self.deadline, Type::INT8_ARRAY),
            (&self.failure_kind, Type::TEXT_ARRAY),
            (&self.failure, Type::TEXT_ARRAY),
            (&self.master, Type::TEXT_ARRAY),
            (&self.epoch, Type::INT8_ARRAY),
            (&self.created, Type::INT8_ARRAY),
            (&self.updated, Type::INT8_ARRAY),
            (&self.cancel_requested, Type::INT8_ARRAY),
            (&self.claimed, Type::INT8_ARRAY),
            (&self.request_key, Type::TEXT_ARRAY),
            (&self.revision, Type::INT8_ARRAY),
        ]
    }

    /// What a step or a note may change, after the id.
    pub(super) fn changed(&self) -> [Param<'_>; 11] {
        [
            (&self.id, Type::UUID_ARRAY),
            (&self.status, Type::TEXT_ARRAY),
            (&self.since, Type::INT8_ARRAY),
            (&self.ended, Type::INT8_ARRAY),
            (&self.deadline, Type::INT8_ARRAY),
            (&self.failure_kind, Type::TEXT_ARRAY),
            (&self.failure, Type::TEXT_ARRAY),
            (&self.updated, Type::INT8_ARRAY),
            (&self.cancel_requested, Type::INT8_ARRAY),
            (&self.claimed, Type::INT8_ARRAY),
            (&self.revision, Type::INT8_ARRAY),
        ]
    }

    /// What the feed says of them.
    pub(super) fn entries(&self) -> [Param<'_>; 10] {
        [
            (&self.revision, Type::INT8_ARRAY),
            (&self.id, Type::UUID_ARRAY),
            (&self.decky, Type::TEXT_ARRAY),
            (&self.host, Type::TEXT_ARRAY),
            (&self.operation, Type::TEXT_ARRAY),
            (&self.status, Type::TEXT_ARRAY),
            (&self.failure_kind, Type::TEXT_ARRAY),
            (&self.failure, Type::TEXT_ARRAY),
            (&self.updated, Type::INT8_ARRAY),
            (&self.cancelled, Type::BOOL_ARRAY),
        ]
    }
}
