//! Two stores on one database and one in memory are given the same batches: all
//! that they answer and hold is the same, and revisions stay dense.

use std::time::Duration;

use decnet_lifecycle::placement::Aim;
use decnet_lifecycle::testkit::Invariants;
use decnet_lifecycle::{
    decide::{Annotate, Batch, Change, Insert, KeyClaim, Outcome, Step},
    lifecycle::{Leaves, MasterName, Phase, Revision},
    placement::Placement,
    store::{MemoryStore, PlacementQuery, Query, Retention, Store},
    *,
};
use fastrand::Rng;
use futures_lite::future::block_on;

use crate::server::{connect, server};
use crate::work::{at, feed, nothing_is_lost, placed, row, submit_all};

/// What may be asked next, and what is known of the rows so far.
struct Asker {
    dice: Rng,
    rows: Vec<Record>,
    made: u64,
}

impl Asker {
    fn decky(&mut self) -> u16 {
        self.dice.u16(1..5)
    }

    fn insert(&mut self) -> Change {
        self.made += 1;
        let decky = self.decky();
        let mut record = row(decky, self.made);
        let overlap = [Overlap::Reject, Overlap::Supersede, Overlap::Allow][self.dice.usize(0..3)];
        if let Some(known) = self.rows.last().filter(|_| self.dice.u8(0..20) == 0) {
            record.id = known.id;
        }
        let mut insert = Insert::new(record, overlap);
        match self.dice.u8(0..6) {
            0 => {}
            1 => {
                insert.record.operation = Operation::Teardown;
                insert = insert.aim(Aim::Gone);
            }
            // Sometimes on another's address, in another network or at home.
            kind => {
                let mut up = (*placed(decky)).clone();
                if kind == 2 {
                    up.config.ip = placed(self.decky()).config.ip;
                }
                if kind == 3 {
                    up.home = placement::Home::Master(MasterName::parse("m").unwrap());
                    up.network.interface = format!("eth{}", self.dice.u8(0..2));
                }
                insert = insert.aim(Aim::Up(up.into()));
            }
        }
        Change::Insert(Box::new(insert))
    }

    fn step(&mut self) -> Option<Change> {
        let record = self.dice.choice(&self.rows)?.clone();
        let updated_at = record.updated_at.plus(Duration::from_millis(3));
        let since = record.running_since().unwrap_or(updated_at);
        let failure = Failure::new(FailureKind::WorkerLost, "é\u{1f4a5} 'quoted' {x,\"y\"} \\ null");
        let phase = match self.dice.u8(0..4) {
            0 => Phase::Running { since, deadline: at(self.dice.u64(0..9_000)) },
            1 => Phase::Succeeded { since, at: updated_at },
            2 => Phase::Failed { since: record.running_since(), at: updated_at, failure },
            _ if record.running_since().is_none() => Phase::Running { since, deadline: at(1) },
            _ => Phase::Succeeded { since, at: updated_at },
        };
        let claimed = self.dice.bool().then_some(at(7));
        let next = Record { phase, updated_at, claimed_completion: claimed, ..record.clone() };
        let leaves = [Leaves::AsTried, Leaves::AsBefore, Leaves::Unknown][self.dice.usize(0..3)];
        Some(Change::Step(Box::new(Step { leaves, ..Step::new(record.revision, next) })))
    }

    fn change(&mut self) -> Change {
        match self.dice.u8(0..20) {
            0..8 => self.insert(),
            8..16 => self.step().unwrap_or_else(|| self.insert()),
            16..18 => match self.dice.choice(&self.rows).map(|row| row.id) {
                Some(id) => Change::Annotate(Annotate { id, cancel_requested_at: at(self.made) }),
                None => self.insert(),
            },
            18 => Change::Forget(DeckyName::parse(&format!("decky-{}", self.decky())).unwrap()),
            _ => {
                let decky = self.decky();
                Change::Place(Box::new(Placement::taken_over((*placed(decky)).clone())))
            }
        }
    }

    fn batch(&mut self) -> Batch {
        let count = self.dice.usize(1..6);
        if self.dice.u8(0..6) == 0 {
            let key = RequestKey::parse(&format!("key-{}", self.dice.u8(0..6))).unwrap();
            let claim = KeyClaim { key, hash: [self.dice.u8(0..2); 32] };
            return Batch::all_or_none((0..count).map(|_| self.insert()).collect()).with_key(Some(claim));
        }
        let changes = (0..count).map(|_| self.change()).collect();
        if self.dice.bool() { Batch::all_or_none(changes) } else { Batch::per_row(changes) }
    }

    fn learn(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            if let Outcome::Applied { record, superseded } = outcome {
                for row in superseded.iter().chain([&**record]) {
                    // Sometimes only what it was before stays known.
                    if self.dice.u8(0..8) > 0 {
                        self.rows.retain(|known| known.id != row.id);
                    }
                    self.rows.push(row.clone());
                }
            }
        }
    }
}

/// All that a store shows.
fn shown(store: &dyn Store) -> String {
    let queries = [
        Query::new(),
        Query::new().open(),
        Query::new().due_by(at(5_000)).limit(3),
        Query::new().status(Status::Failed).limit(4),
        Query::new().status(Status::Pending).host(HostId::parse("w1").unwrap()),
        Query::new().decky(DeckyName::parse("decky-2").unwrap()).operation(Operation::Deploy).limit(2),
    ];
    let mut all = String::new();
    for query in queries {
        let mut after = None;
        loop {
            let page = block_on(store.query(&query.clone().after(after))).unwrap();
            all += &format!("{page:?}\n");
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    let home = placed(1).home.clone();
    for query in [PlacementQuery::All, PlacementQuery::At(home)] {
        all += &format!("{:?}\n", block_on(store.placements(&query)).unwrap());
    }
    let rows = block_on(store.query(&Query::new().limit(Query::MAX_LIMIT))).unwrap().records;
    let ids: Vec<LifecycleId> = rows.iter().map(|row| row.id).collect();
    all += &format!("{:?}\n", block_on(store.set_aside(&ids)).unwrap());
    all + &format!("{:?}", block_on(store.changes(Revision::new(3), 50)).unwrap())
}

#[test]
fn it_does_what_the_store_in_memory_does() {
    let Some(server) = server() else { return };
    let rounds: u64 = std::env::var("DECNET_LIFECYCLE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    for seed in 0..rounds.min(20) {
        let settings = server.fresh().notify(seed % 2 == 0);
        let (stores, memory) = ([connect(&settings), connect(&settings)], MemoryStore::new());
        let mut asker = Asker { dice: Rng::with_seed(seed), rows: Vec::new(), made: 0 };
        let mut invariants = Invariants::new().allowing_overlap().allowing_any_batch();
        for number in 0..60 {
            let (batch, store) = (asker.batch(), &stores[number % 2]);
            let wanted = block_on(memory.commit(batch.clone()));
            let found = block_on(store.commit(batch.clone()));
            assert_eq!(format!("{found:?}"), format!("{wanted:?}"), "seed {seed}, batch {number}: {batch:?}");
            asker.learn(&found.unwrap_or_default());
            if number % 20 == 19 {
                assert_eq!(shown(store), shown(&memory), "seed {seed}, batch {number}");
                block_on(invariants.check(&stores[(number + 1) % 2])).unwrap();
                let policy = Retention::closed_before(at(asker.made)).limit(1_000);
                assert_eq!(block_on(store.prune(&policy)).unwrap(), block_on(memory.prune(&policy)).unwrap());
                assert_eq!(shown(store), shown(&memory), "seed {seed}, pruned");
            }
        }
    }
}

#[test]
fn many_batches_of_one_group_are_as_many_commits() {
    let Some(server) = server() else { return };
    let settings = server.fresh();
    let (store, memory) = (connect(&settings), MemoryStore::new());
    // All wait for the first, and so make a group; some undo what others do.
    let mut asker = Asker { dice: Rng::with_seed(7), rows: Vec::new(), made: 0 };
    for _ in 0..10 {
        let batches: Vec<Batch> = (0..40).map(|_| asker.batch()).collect();
        let found = futures_util::future::join_all(batches.iter().map(|batch| store.commit(batch.clone())));
        for (found, batch) in block_on(found).into_iter().zip(&batches) {
            let wanted = block_on(memory.commit(batch.clone()));
            assert_eq!(format!("{found:?}"), format!("{wanted:?}"), "{batch:?}");
            asker.learn(&found.unwrap_or_default());
        }
    }
    assert_eq!(shown(&store), shown(&memory));
}

#[test]
fn two_stores_on_one_database_see_each_other_s_commits() {
    let Some(server) = server() else { return };
    let settings = server.fresh();
    let stores = [connect(&settings), connect(&settings)];
    let told = submit_all(&[&stores[0], &stores[1]], 16, 5);
    for store in &stores {
        nothing_is_lost(store, &told);
    }
    let dense: Vec<u64> = feed(&stores[0]).keys().map(|revision| revision.get()).collect();
    assert_eq!(dense, (1..=16 * 5 * 3).collect::<Vec<u64>>());
}
