//! Stores against a plain model of one.

use decnet_lifecycle::store::Store as _;
use decnet_lifecycle::testkit::Invariants;
use decnet_lifecycle::{
    decide::{Annotate, Batch, Change, Insert, KeyClaim, Step},
    lifecycle::{MasterName, Owner, Phase, Revision},
    store::{MemoryStore, Query, Retention},
    *,
};
use futures_lite::future::block_on;

use super::bytes::Bytes;
use super::toy::{Fault, Toy};

pub fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_767_225_600_000_000).plus(std::time::Duration::from_secs(seconds))
}

/// A pending row; its number gives its id and its time.
pub fn record(number: u64, decky: u64) -> Record {
    Record {
        id: LifecycleId::from_parts(at(number), [7; 10]),
        decky: DeckyName::parse(&format!("decky-{decky}")).unwrap(),
        host: number.is_multiple_of(3).then(|| HostId::parse("w1").unwrap()),
        operation: if number.is_multiple_of(2) { Operation::Deploy } else { Operation::Mutate },
        phase: Phase::Pending { deadline: at(number + 60) },
        owner: Owner { master: MasterName::parse("m").unwrap(), epoch: 1 },
        created_at: at(number),
        updated_at: at(number),
        cancel_requested_at: None,
        claimed_completion: None,
        key: None,
        revision: Revision::ZERO,
    }
}

/// The insert of a row.
pub fn row(number: u64, decky: u64) -> Change {
    Change::Insert(Box::new(Insert::new(record(number, decky), Overlap::Allow)))
}

/// Does the same to a store and to the model, and sees the same.
pub fn store(data: &[u8]) {
    let mut bytes = Bytes(data);
    let (real, model) = (MemoryStore::new(), Toy::new(Fault::None));
    let mut invariants = Invariants::new().allowing_overlap();
    let mut number = 0;
    while !bytes.is_empty() && number < 200 {
        number += 1;
        if bytes.below(16) == 0 {
            let policy = Retention::closed_before(at(u64::from(bytes.byte()))).limit(1 + bytes.below(8));
            assert_eq!(block_on(real.prune(&policy)).unwrap(), block_on(model.prune(&policy)).unwrap());
        } else {
            let batch = batch(&mut bytes, &model, number);
            let (outcome, expected) =
                (block_on(real.commit(batch.clone())), block_on(model.commit(batch.clone())));
            match (&outcome, &expected) {
                (Err(_), Err(_)) => {}
                _ => assert_eq!(format!("{outcome:?}"), format!("{expected:?}"), "{batch:?}"),
            }
        }
        let query = query(&mut bytes);
        let (page, expected) =
            (block_on(real.query(&query)).unwrap(), block_on(model.query(&query)).unwrap());
        assert_eq!(page, expected, "{query:?}");
        let next = query.after(page.next).limit(2);
        assert_eq!(block_on(real.query(&next)).unwrap(), block_on(model.query(&next)).unwrap(), "{next:?}");
        let after = Revision::new(u64::from(bytes.byte()));
        let limit = bytes.below(9);
        let (feed, expected) = (block_on(real.changes(after, limit)), block_on(model.changes(after, limit)));
        assert_eq!(feed.unwrap(), expected.unwrap());
        block_on(invariants.check(&real)).unwrap();
    }
}

fn batch(bytes: &mut Bytes<'_>, model: &Toy, number: u64) -> Batch {
    let rows = block_on(model.query(&Query::new().limit(1_000))).unwrap().records;
    let changes = (0..1 + bytes.below(4))
        .map(|place| {
            let some = rows.get(bytes.below(rows.len())).cloned();
            match (bytes.below(4), some) {
                (2, Some(row)) => Change::Step(Box::new(step(bytes, row, number))),
                (3, Some(row)) => Change::Annotate(Annotate { id: row.id, cancel_requested_at: at(number) }),
                _ => {
                    let again = bytes.below(8) == 0;
                    let number = if again { number / 2 } else { 8 * number + place as u64 };
                    let overlap = [Overlap::Reject, Overlap::Supersede, Overlap::Allow][bytes.below(3)];
                    let record = record(number, bytes.below(5) as u64);
                    Change::Insert(Box::new(Insert::new(record, overlap)))
                }
            }
        })
        .collect();
    let batch = if bytes.flag() { Batch::all_or_none(changes) } else { Batch::per_row(changes) };
    let inserts_only = batch.changes.iter().all(|change| matches!(change, Change::Insert(_)));
    let key = (inserts_only && bytes.below(3) == 0).then(|| KeyClaim {
        key: RequestKey::parse(&format!("k{}", bytes.below(4))).unwrap(),
        hash: [bytes.byte() & 1; 32],
    });
    batch.with_key(key)
}

/// Any next record: legal ones mostly.
pub fn step(bytes: &mut Bytes<'_>, row: Record, number: u64) -> Step {
    let now = at(8 * number);
    let since = row.running_since();
    let phase = match bytes.below(6) {
        0 | 1 => Phase::Running { since: now, deadline: at(8 * number + 1 + bytes.below(200) as u64) },
        2 => Phase::Succeeded { since: since.unwrap_or(now), at: now },
        3 | 4 => {
            let failure = Failure::new(FailureKind::Engine, "no such image");
            Phase::Failed { since, at: now, failure }
        }
        _ => Phase::Pending { deadline: now },
    };
    let expected = if bytes.below(8) == 0 { Revision::new(1) } else { row.revision };
    let updated_at = if bytes.below(16) == 0 { at(0) } else { now.max(row.updated_at) };
    Step::new(expected, Record { phase, updated_at, ..row })
}

fn query(bytes: &mut Bytes<'_>) -> Query {
    let mut query = Query::new().limit(1 + bytes.below(6));
    let parts = bytes.byte();
    if parts & 1 != 0 {
        query = query.decky(DeckyName::parse(&format!("decky-{}", bytes.below(5))).unwrap());
    }
    if parts & 2 != 0 {
        query = query.open();
    }
    if parts & 12 == 12 {
        query = query.due_by(at(u64::from(bytes.byte()) * 8));
    }
    if parts & 16 != 0 {
        query = query.host(HostId::parse("w1").unwrap());
    }
    if parts & 32 != 0 {
        query = query
            .status([Status::Pending, Status::Running, Status::Succeeded, Status::Failed][bytes.below(4)]);
    }
    if parts & 64 != 0 {
        query = query.operation(Operation::Mutate);
    }
    query
}
