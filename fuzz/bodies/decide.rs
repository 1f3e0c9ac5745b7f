//! Decisions against a plain model: by a store that sees only what a decision
//! needs, and by one that sees all and decides on several batches at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use decnet_lifecycle::decide::{Decision, Seen, decide as decide_on};
use decnet_lifecycle::placement::{Aim, Placed};
use decnet_lifecycle::testkit::Invariants;
use decnet_lifecycle::{
    decide::{Annotate, Batch, Change, Insert, KeyClaim, Outcome, Refusal, Together},
    lifecycle::{EngineName, Leaves, MasterName, Revision},
    placement::{Clash, Home, Placement, Standing},
    store::{MemoryStore, PlacementQuery, Query, Store},
    *,
};
use futures_lite::future::block_on;

use super::bytes::Bytes;
use super::store::{at, record, step};
use super::toy::{Fault, Toy};

/// A store that keeps all that it knows in memory, as redb's writer does.
#[derive(Default)]
struct Knowing {
    seen: Seen,
    head: Revision,
    placements: BTreeMap<DeckyName, Placement>,
}

impl Knowing {
    fn commit(&mut self, batches: &[Batch]) -> Vec<Option<Vec<Outcome>>> {
        let mut seen = self.seen.clone();
        let checked = batches.iter().try_for_each(Batch::check);
        match checked.and_then(|()| decide_on(self.head, batches, &mut seen)) {
            Ok(decision) => {
                self.seen = seen;
                self.head = decision.head;
                self.write(decision)
            }
            // One bad batch: each for itself.
            Err(_) if batches.len() > 1 => {
                batches.iter().flat_map(|batch| self.commit(std::slice::from_ref(batch))).collect()
            }
            Err(_) => vec![None],
        }
    }

    fn write(&mut self, decision: Decision) -> Vec<Option<Vec<Outcome>>> {
        for (decky, write) in decision.placements {
            assert_eq!(self.placements.get(&decky), write.old.as_ref());
            match write.new {
                Some(placement) => drop(self.placements.insert(decky, placement)),
                None => drop(self.placements.remove(&decky)),
            }
        }
        assert!(self.placements.values().eq(self.seen.placements().iter()));
        decision.outcomes.into_iter().map(Some).collect()
    }
}

/// Three who are told the same say the same.
pub fn decide(data: &[u8]) {
    let mut bytes = Bytes(data);
    let (real, model, mut knowing) = (MemoryStore::new(), Toy::new(Fault::None), Knowing::default());
    let mut invariants = Invariants::new().allowing_overlap().allowing_any_batch();
    let mut number = 0;
    while !bytes.is_empty() && number < 120 {
        let mut batches = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..1 + bytes.below(3) {
            number += 1;
            let batch = batch(&mut bytes, &model, number);
            expected.push(told(&batch, block_on(model.commit(batch.clone())).ok()));
            let outcomes = told(&batch, block_on(real.commit(batch.clone())).ok());
            assert_eq!(outcomes, *expected.last().unwrap(), "{batch:?}");
            batches.push(batch);
        }
        let at_once = knowing.commit(&batches);
        let at_once: Vec<_> = batches.iter().zip(at_once).map(|(batch, said)| told(batch, said)).collect();
        assert_eq!(at_once, expected, "{batches:?}");
        let all = |store: &dyn Store| block_on(store.placements(&PlacementQuery::All)).unwrap();
        let placements = all(&model);
        assert_eq!(all(&real), placements, "{batches:?}");
        assert!(knowing.placements.values().eq(placements.iter()), "{batches:?}");
        let query = match bytes.below(4) {
            0 => PlacementQuery::Of((0..bytes.below(4)).map(|_| decky(&mut bytes)).collect()),
            _ => PlacementQuery::At(home(&mut bytes)),
        };
        let found = |store: &dyn Store| block_on(store.placements(&query)).unwrap();
        assert_eq!(found(&real), found(&model), "{query:?}");
        let rows = |store: &dyn Store| block_on(store.query(&Query::new().limit(1_000))).unwrap();
        assert_eq!(rows(&real), rows(&model));
        block_on(invariants.check(&real)).unwrap();
    }
}

/// What a batch was answered, as far as it is the same whoever decides: a
/// refused whole is refused, and of a clash it is told what kind it is.
fn told(batch: &Batch, outcomes: Option<Vec<Outcome>>) -> Option<Vec<String>> {
    let outcomes = outcomes?;
    let is_refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused(_));
    let by_key = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Refused(Refusal::KeyTaken(_))));
    if batch.together == Together::AllOrNone && outcomes.iter().any(is_refused) && !by_key {
        assert!(outcomes.iter().all(is_refused), "{outcomes:?}");
        return Some(vec![format!("{} refused", outcomes.len())]);
    }
    let kind = |clash: &Clash| match clash {
        Clash::Address { .. } => "address",
        Clash::Network { .. } => "network",
        Clash::Elsewhere { .. } => "elsewhere",
        _ => "engine",
    };
    let one = |outcome: Outcome| match &outcome {
        Outcome::Refused(Refusal::Clash(clashes)) => {
            format!("{:?}", clashes.iter().map(kind).collect::<BTreeSet<_>>())
        }
        _ => format!("{outcome:?}"),
    };
    Some(outcomes.into_iter().map(one).collect())
}

fn decky(bytes: &mut Bytes<'_>) -> DeckyName {
    DeckyName::parse(&format!("decky-{}", bytes.below(5))).unwrap()
}

fn home(bytes: &mut Bytes<'_>) -> Home {
    match bytes.below(4) {
        0 => Home::Master(MasterName::parse("m").unwrap()),
        1 => Home::Host(HostId::parse("w2").unwrap()),
        _ => Home::Host(HostId::parse("w1").unwrap()),
    }
}

/// A decky up somewhere: few homes, networks and addresses, so that they clash.
fn placed(bytes: &mut Bytes<'_>, decky: &DeckyName) -> Arc<Placed> {
    let home = home(bytes);
    let traits = bytes.byte();
    let number = decky.as_str().bytes().last().unwrap_or(b'0') - b'0';
    let last = if traits & 7 == 0 { bytes.byte() % 6 } else { number };
    let config = serde_json::json!({
        "name": decky, "ip": IpAddr::from([192, 0, 2, 10 + last]), "distro": "debian",
        "services": if traits & 8 == 0 { ["ssh"] } else { ["ftp"] },
        "base_image": "debian:12", "hostname": "srv", "host_uuid": home.host(),
    });
    let fleet = serde_json::json!({
        "mode": if home.host().is_some() { "swarm" } else { "unihost" },
        "interface": "eth0", "subnet": "192.0.2.0/24",
        "gateway": if traits & 0x70 == 0 { "192.0.2.254" } else { "192.0.2.1" },
        "deckies": [config],
    });
    let fleet = FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap();
    let engine = EngineName::parse(if traits & 0x80 == 0 { "compose" } else { "process" }).unwrap();
    let master = MasterName::parse("m").unwrap();
    Arc::new(Placed::new(&fleet, &fleet.deckies[0], &master, Some(&engine)))
}

fn insert(bytes: &mut Bytes<'_>, number: u64) -> Change {
    let decky = decky(bytes);
    let overlap = [Overlap::Reject, Overlap::Reject, Overlap::Supersede, Overlap::Allow][bytes.below(4)];
    let aim = match bytes.below(8) {
        0 => None,
        1 | 2 => Some(Aim::Gone),
        _ => Some(Aim::Up(placed(bytes, &decky))),
    };
    let operation = if aim == Some(Aim::Gone) { Operation::Teardown } else { Operation::Deploy };
    let insert = Insert::new(Record { decky, operation, ..record(number, 0) }, overlap);
    Change::Insert(Box::new(match aim {
        Some(aim) => insert.aim(aim),
        None => insert,
    }))
}

fn batch(bytes: &mut Bytes<'_>, model: &Toy, number: u64) -> Batch {
    let rows = block_on(model.query(&Query::new().limit(40))).unwrap().records;
    let many = 1 + bytes.below(4) as u64;
    let changes: Vec<Change> = (0..many)
        .map(|place| {
            let some = rows.get(bytes.below(rows.len().max(1))).cloned();
            match (bytes.below(12), some) {
                (0..5, Some(row)) => {
                    let mut step = step(bytes, row, number);
                    step.leaves = [Leaves::AsTried, Leaves::AsBefore, Leaves::Unknown][bytes.below(3)];
                    Change::Step(Box::new(step))
                }
                (5, Some(row)) => Change::Annotate(Annotate { id: row.id, cancel_requested_at: at(number) }),
                (6, some) => {
                    let decky = decky(bytes);
                    let standing = match some.filter(|_| many == 1) {
                        Some(row) if bytes.flag() => {
                            let perhaps = vec![placed(bytes, &decky), placed(bytes, &decky)];
                            Standing::Unsure { perhaps, row: row.id }
                        }
                        row => {
                            let placed = placed(bytes, &decky);
                            Standing::Up { placed, row: row.map(|row| row.id).filter(|_| bytes.flag()) }
                        }
                    };
                    let placement = Placement::from_parts(decky, standing, BTreeMap::new(), Revision::ZERO);
                    Change::Place(Box::new(placement))
                }
                (7, _) => Change::Forget(decky(bytes)),
                _ => insert(bytes, 8 * number + place),
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
