//! Submitters that bring deckies up and take them down, and remember what they
//! were told is durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::placement::{Aim, Placed};
use decnet_lifecycle::testkit::Invariants;
use decnet_lifecycle::{
    decide::{Batch, Change, Insert, Outcome, Step},
    lifecycle::{MasterName, Owner, Phase, Revision},
    store::{Entry, Feed, Store},
    *,
};
use futures_lite::future::block_on;

pub fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_767_225_600_000_000).plus(Duration::from_secs(seconds))
}

/// A pending row; no two have the same submitter and number.
pub fn row(submitter: u16, number: u64) -> Record {
    let mut tail = [0; 10];
    tail[8..].copy_from_slice(&submitter.to_be_bytes());
    Record {
        id: LifecycleId::from_parts(at(number), tail),
        decky: DeckyName::parse(&format!("decky-{submitter}")).unwrap(),
        host: Some(HostId::parse("w1").unwrap()),
        operation: Operation::Deploy,
        phase: Phase::Pending { deadline: at(number + 3_600) },
        owner: Owner { master: MasterName::parse("m").unwrap(), epoch: u64::MAX - 7 },
        created_at: at(number),
        updated_at: at(number),
        cancel_requested_at: None,
        claimed_completion: None,
        key: None,
        revision: Revision::ZERO,
    }
}

pub fn placed(submitter: u16) -> Arc<Placed> {
    let [high, low] = submitter.to_be_bytes();
    let fleet = serde_json::json!({
        "mode": "swarm", "interface": "eth0", "subnet": "10.0.0.0/16", "gateway": "10.0.255.1",
        "deckies": [{
            "name": format!("decky-{submitter}"), "ip": format!("10.0.{}.{low}", high + 1), "services": ["ssh"],
            "distro": "debian", "base_image": "debian:12", "hostname": "srv\u{0}\u{fffd}",
            "service_config": {"ssh": {"banner": "\u{0}", "n": 1e-300, "deep": [{"a": null}]}},
            "host_uuid": "w1",
        }],
    });
    let fleet = FleetConfig::from_json(fleet.to_string().replace("\\u0000", "x").as_bytes()).unwrap();
    let mut config = fleet.deckies[0].clone();
    config.hostname = "srv\u{0}".to_owned();
    Arc::new(Placed::new(&fleet, &config, &MasterName::parse("m").unwrap(), None))
}

pub fn insert(submitter: u16, number: u64) -> Change {
    let insert = Insert::new(row(submitter, number), Overlap::Reject).aim(Aim::Up(placed(submitter)));
    Change::Insert(Box::new(insert))
}

pub fn step(record: &Record, phase: Phase) -> Change {
    let updated_at = record.updated_at.plus(Duration::from_millis(1));
    Change::Step(Box::new(Step::new(record.revision, Record { phase, updated_at, ..record.clone() })))
}

/// One of the three changes that take a row to its end, without a placement.
#[allow(dead_code)] // The benchmark's.
pub fn bare(submitter: u16, number: u64, step_number: u8, record: Option<&Record>) -> Change {
    let since = at(number);
    match (step_number, record) {
        (1, Some(record)) => step(record, Phase::Running { since, deadline: at(number + 3_600) }),
        (2, Some(record)) => step(record, Phase::Succeeded { since, at: at(number + 1) }),
        _ => Change::Insert(Box::new(Insert::new(row(submitter, number), Overlap::Reject))),
    }
}

/// Commits one change; the row as the store says that it is durable.
pub async fn applied(store: &dyn Store, change: Change) -> Result<Record, StoreError> {
    match store.commit(Batch::per_row(vec![change])).await?.pop() {
        Some(Outcome::Applied { record, .. }) => Ok(*record),
        other => panic!("{other:?}"),
    }
}

/// Takes rows from the first to the last step, and gives what it was told of
/// each.
pub async fn submit(store: &dyn Store, submitter: u16, rows: u64) -> Result<Vec<Entry>, StoreError> {
    let mut told = Vec::new();
    for number in 0..rows {
        let mut record = applied(store, insert(submitter, number)).await?;
        told.push(Entry::of(&record));
        let since = record.updated_at;
        let lost = Failure::new(FailureKind::WorkerLost, "no beat");
        let end = match number % 2 {
            0 => Phase::Succeeded { since, at: at(number + 1) },
            _ => Phase::Failed { since: Some(since), at: at(number + 1), failure: lost },
        };
        for phase in [Phase::Running { since, deadline: at(number + 3_600) }, end] {
            record = applied(store, step(&record, phase)).await?;
            told.push(Entry::of(&record));
        }
    }
    Ok(told)
}

/// Many submitters at once, on some stores in turn.
pub fn submit_all(stores: &[&dyn Store], submitters: u16, rows: u64) -> Vec<Entry> {
    let work = (0..submitters).map(|number| {
        let store = stores[usize::from(number) % stores.len()];
        submit(store, number, rows)
    });
    let told = block_on(futures_util::future::join_all(work));
    told.into_iter().flat_map(|told| told.unwrap()).collect()
}

pub fn feed(store: &dyn Store) -> BTreeMap<Revision, Entry> {
    let (mut all, mut after) = (BTreeMap::new(), Revision::ZERO);
    loop {
        match block_on(store.changes(after, 1_000)).unwrap() {
            Feed::Entries { entries, .. } if entries.is_empty() => return all,
            Feed::Entries { entries, .. } => {
                after = entries.last().unwrap().revision;
                all.extend(entries.into_iter().map(|entry| (entry.revision, entry)));
            }
            Feed::Compacted { oldest } => panic!("compacted to {oldest}"),
        }
    }
}

/// All that was told is in the feed, nothing else is, and all invariants hold.
pub fn nothing_is_lost(store: &dyn Store, told: &[Entry]) {
    let feed = feed(store);
    for entry in told {
        assert_eq!(feed.get(&entry.revision), Some(entry));
    }
    assert_eq!(feed.len(), told.len(), "the feed has changes that nobody was told of");
    block_on(Invariants::new().check(store)).unwrap();
}
