//! A master against a small model: random requests, scripts, deltas, cancels,
//! clock steps, sweeps, restarts, store faults and dropped futures. Before each
//! step the model says what may change; after it every invariant is checked,
//! and what is placed is what the rows' steps come to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::placement::{Aim, Placed};
use decnet_lifecycle::testkit::{
    AgentScript, EngineScript, FakeAgents, FakeEngine, FaultyStore, Invariants, StoreFault, VirtualClock,
    Witness,
};
use decnet_lifecycle::{
    agent::{AgentError, Agents, Host, StaticHosts},
    beat::{Delta, Reported, Verdict},
    bus::NullBus,
    clock::Clock,
    engine::Engine,
    lifecycle::{Phase, Revision},
    placement::{Clash, Placement, Standing},
    store::{Feed, MemoryStore, PlacementQuery, Query, Retention, Store},
    *,
};
use futures_lite::future::{block_on, poll_once};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

/// `f` is what `a` is called in one of the fleets.
const DECKIES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// Where they run: two on the master, two on `w1`, one on `w2`.
const HOSTS: [Option<&str>; 5] = [None, None, Some("w1"), Some("w1"), Some("w2")];
const OPERATIONS: [Operation; 3] = [Operation::Deploy, Operation::Mutate, Operation::Teardown];

/// One step; numbers choose among what there is, whatever that is.
#[derive(Debug, Clone)]
enum Do {
    Ask(Ask),
    Poll { run: usize, polls: usize },
    Drop { run: usize },
    Beat { host: usize, deltas: Vec<Said> },
    Cancel { row: usize },
    Advance { seconds: u64 },
    Step { seconds: i64 },
    Sweep,
    Restart,
    Prune { seconds: u64 },
    Engine { decky: usize, script: usize },
    Agent { host: usize, script: usize },
    Fault { fault: usize },
}

#[derive(Debug, Clone)]
struct Ask {
    operation: usize,
    deckies: u8,
    supersede: bool,
    fleet: usize,
    relocate: bool,
    prune: bool,
}

#[derive(Debug, Clone)]
struct Said {
    row: usize,
    named: bool,
    forged: bool,
    report: usize,
}

struct Steps;

impl ReferenceStateMachine for Steps {
    type State = usize;
    type Transition = Do;

    fn init_state() -> BoxedStrategy<usize> {
        Just(0).boxed()
    }

    fn transitions(_: &usize) -> BoxedStrategy<Do> {
        let said = (any::<usize>(), any::<bool>(), prop::bool::weighted(0.2), 0..3_usize)
            .prop_map(|(row, named, forged, report)| Said { row, named, forged, report });
        let fleets = prop_oneof![3 => Just(0), 2 => 1..4_usize];
        prop_oneof![
            6 => (0..3_usize, 1..64_u8, any::<bool>(), fleets, any::<bool>(), prop::bool::weighted(0.2))
                .prop_map(|(operation, deckies, supersede, fleet, relocate, prune)| {
                    Do::Ask(Ask { operation, deckies, supersede, fleet, relocate, prune })
                }),
            8 => (any::<usize>(), 1..20_usize).prop_map(|(run, polls)| Do::Poll { run, polls }),
            1 => any::<usize>().prop_map(|run| Do::Drop { run }),
            5 => (0..2_usize, prop::collection::vec(said, 0..4)).prop_map(|(host, deltas)| Do::Beat { host, deltas }),
            2 => any::<usize>().prop_map(|row| Do::Cancel { row }),
            3 => prop_oneof![1..10_u64, 60..400_u64, 1_700..2_100_u64].prop_map(|seconds| Do::Advance { seconds }),
            1 => (-7_200..7_200_i64).prop_map(|seconds| Do::Step { seconds }),
            3 => Just(Do::Sweep),
            1 => Just(Do::Restart),
            1 => (0..10_000_u64).prop_map(|seconds| Do::Prune { seconds }),
            2 => (0..6_usize, 0..8_usize).prop_map(|(decky, script)| Do::Engine { decky, script }),
            1 => (0..2_usize, 0..5_usize).prop_map(|(host, script)| Do::Agent { host, script }),
            1 => (1..4_usize).prop_map(|fault| Do::Fault { fault }),
        ]
        .boxed()
    }

    fn apply(steps: usize, _: &Do) -> usize {
        steps + 1
    }
}

/// The model: every row as it was after the last step.
type Rows = BTreeMap<LifecycleId, Record>;

/// What a decky is somewhere, or is to be.
#[derive(Debug, Clone, PartialEq)]
struct Thing {
    host: Option<HostId>,
    ip: IpAddr,
    gateway: IpAddr,
    services: Vec<ServiceName>,
}

impl Thing {
    fn of(placed: &Placed) -> Self {
        Self {
            host: placed.home.host().cloned(),
            ip: placed.config.ip,
            gateway: placed.network.gateway,
            services: placed.config.services.clone(),
        }
    }

    fn in_fleet(fleet: &FleetConfig, decky: &DeckyName) -> Self {
        let config = fleet.decky(decky).unwrap();
        Self {
            host: config.host_uuid.clone(),
            ip: config.ip,
            gateway: fleet.gateway,
            services: config.services.clone(),
        }
    }
}

/// What the model knows of a decky: what it is, or may be; what each open row
/// is to make of it, and whether that was begun.
#[derive(Debug, Clone, Default, PartialEq)]
struct Known {
    there: Vec<Thing>,
    unsure: bool,
    tried: BTreeMap<LifecycleId, (Option<Thing>, bool)>,
}

impl Known {
    fn of(placement: &Placement) -> Self {
        let there = placement.standing_possibilities().iter().map(|placed| Thing::of(placed)).collect();
        let tried = placement.tried.iter().map(|(id, tried)| {
            let aim = match &tried.aim {
                Aim::Up(placed) => Some(Thing::of(placed)),
                Aim::Gone => None,
            };
            (*id, (aim, tried.begun))
        });
        let unsure = matches!(placement.standing, Standing::Unsure { .. });
        Self { there, unsure, tried: tried.collect() }
    }

    fn all(&self) -> impl Iterator<Item = &Thing> {
        self.there.iter().chain(self.tried.values().filter_map(|(aim, _)| aim.as_ref()))
    }

    /// Where it most probably is.
    fn now(&self) -> Option<&Thing> {
        self.there.last().or_else(|| self.all().last())
    }

    fn end(&mut self, id: LifecycleId, failure: Option<FailureKind>) {
        use FailureKind::{Clash, Engine, Rejected, Store, Unreachable};
        let Some((aim, begun)) = self.tried.remove(&id) else { return };
        match failure {
            None => (self.there, self.unsure) = (aim.into_iter().collect(), false),
            Some(Engine | Rejected | Unreachable | Store | Clash) => {}
            Some(_) if !begun => {}
            Some(_) => {
                if let Some(thing) = aim {
                    self.there.retain(|there| *there != thing);
                    self.there.push(thing);
                }
                self.unsure = !self.there.is_empty();
            }
        }
    }
}

/// What stands in a deploy's way: addresses, deckies that are elsewhere, a
/// network.
type Refused = (BTreeSet<DeckyName>, BTreeSet<DeckyName>, bool);

/// The rows of an accepted request, and the future that drives them.
type Run = (BTreeSet<LifecycleId>, Pin<Box<dyn Future<Output = ()>>>);

struct Master {
    runner: Runner,
    memory: Arc<dyn Store>,
    store: Arc<FaultyStore>,
    engine: Arc<FakeEngine>,
    agents: Arc<FakeAgents>,
    clock: Arc<VirtualClock>,
    witness: Arc<Witness>,
    invariants: Invariants,
    scripts: BTreeMap<DeckyName, EngineScript>,
    runs: Vec<Run>,
    dropped: BTreeSet<LifecycleId>,
    /// Whether the wall clock has stepped; then only invariants speak of time.
    stepped: bool,
    rows: Rows,
    placed: BTreeMap<DeckyName, Known>,
    /// What each row is to make of its decky; nothing for a teardown.
    aims: BTreeMap<LifecycleId, Option<Thing>>,
    /// How far the feed was read.
    head: Revision,
}

impl Master {
    fn new() -> Self {
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let store = Arc::new(FaultyStore::new(Arc::clone(&memory)));
        let witness = Witness::new(Arc::clone(&memory));
        let (engine, agents) = (Arc::new(FakeEngine::new()), Arc::new(FakeAgents::new()));
        let clock = Arc::new(VirtualClock::new());
        let (runner, _) = build(&store, &witness, &engine, &agents, &clock);
        store.wait(1);
        Self {
            runner,
            memory,
            store,
            engine,
            agents,
            clock,
            invariants: Invariants::new().with_witness(Arc::clone(&witness)),
            witness,
            scripts: BTreeMap::new(),
            runs: Vec::new(),
            dropped: BTreeSet::new(),
            stepped: false,
            rows: Rows::new(),
            placed: BTreeMap::new(),
            aims: BTreeMap::new(),
            head: Revision::ZERO,
        }
    }

    fn now_rows(&self) -> Rows {
        let page = block_on(self.memory.query(&Query::new().limit(Query::MAX_LIMIT))).unwrap();
        page.records.into_iter().map(|row| (row.id, row)).collect()
    }

    fn nth_row(&self, number: usize) -> Option<Record> {
        self.rows.values().nth(number.checked_rem(self.rows.len())?).cloned()
    }

    /// What became different, and must be one of these rows.
    fn changed(&mut self, allowed: impl Fn(&Record) -> bool) -> Vec<Record> {
        let after = self.now_rows();
        let changed: Vec<Record> =
            after.values().filter(|row| self.rows.get(&row.id) != Some(row)).cloned().collect();
        for row in &changed {
            assert!(allowed(row), "{row:?} changed, it was {:?}", self.rows.get(&row.id));
        }
        changed
    }

    /// Follows what the rows' steps make of the placements, and compares.
    fn follow(&mut self) {
        let Feed::Entries { entries, head } = block_on(self.memory.changes(self.head, usize::MAX)).unwrap()
        else {
            panic!("the feed was compacted before it was read")
        };
        self.head = head;
        for entry in entries {
            let known = self.placed.entry(entry.decky.clone()).or_default();
            match entry.status {
                Status::Pending => {
                    let aim = self.aims[&entry.id].clone();
                    known.tried.entry(entry.id).or_insert((aim, false));
                }
                Status::Running => known.tried.get_mut(&entry.id).unwrap().1 = true,
                Status::Succeeded => known.end(entry.id, None),
                Status::Failed => known.end(entry.id, entry.failure.map(|failure| failure.kind())),
            }
        }
        self.placed.retain(|_, known| *known != Known::default());
        let placements = block_on(self.memory.placements(&PlacementQuery::All)).unwrap();
        let really: BTreeMap<DeckyName, Known> =
            placements.iter().map(|placement| (placement.decky.clone(), Known::of(placement))).collect();
        assert_eq!(really, self.placed);
    }

    fn refusal(&self, asked: &BTreeMap<DeckyName, Thing>, gone: &BTreeMap<DeckyName, Thing>) -> Refused {
        let stays = |decky: &DeckyName| !gone.contains_key(decky) && !asked.contains_key(decky);
        let mut refused = Refused::default();
        for (decky, thing) in asked {
            for (_, known) in self.placed.iter().filter(|(other, _)| stays(other)) {
                if known.all().any(|there| there.ip == thing.ip) {
                    refused.0.insert(decky.clone());
                }
                let in_another = |there: &Thing| there.host == thing.host && there.gateway != thing.gateway;
                refused.2 |= known.all().any(in_another);
            }
            let own = self.placed.get(decky).filter(|_| !gone.contains_key(decky));
            if own.is_some_and(|known| known.all().any(|there| there.host != thing.host)) {
                refused.1.insert(decky.clone());
            }
        }
        refused
    }

    fn ask(&mut self, ask: &Ask, faulty: bool) {
        let mut deckies: BTreeSet<DeckyName> = (0..6)
            .filter(|place| ask.deckies & (1 << place) != 0)
            .map(|place| name(DECKIES[place]))
            .collect();
        let overlap = if ask.supersede { Overlap::Supersede } else { Overlap::Reject };
        // What is to come up, and what is to go, and where that is.
        let mut up: BTreeMap<DeckyName, Thing> = BTreeMap::new();
        let mut gone: BTreeMap<DeckyName, Thing> = BTreeMap::new();
        let mut unknown = false;
        let accepted = match OPERATIONS[ask.operation] {
            Operation::Deploy => {
                let fleet = fleet(ask.fleet);
                deckies.retain(|decky| fleet.decky(decky).is_some());
                if deckies.is_empty() {
                    return;
                }
                up.extend(deckies.iter().map(|decky| (decky.clone(), Thing::in_fleet(&fleet, decky))));
                for (decky, known) in &self.placed {
                    if let Some(thing) = up.get(decky) {
                        let is_away = |there: &&Thing| there.host != thing.host;
                        let away = known.there.iter().rfind(is_away);
                        let away = away.or_else(|| known.all().filter(is_away).last());
                        gone.extend(
                            away.filter(|_| ask.relocate).map(|there| (decky.clone(), there.clone())),
                        );
                    } else if ask.prune && fleet.decky(decky).is_none() {
                        gone.extend(known.now().map(|there| (decky.clone(), there.clone())));
                    }
                }
                let request = DeployRequest::new(fleet).only(deckies.clone()).overlap(overlap);
                let request = request.relocate(ask.relocate).prune(ask.prune);
                block_on(self.runner.accept_deploy(request))
            }
            Operation::Teardown => {
                let found = block_on(self.engine.found()).unwrap();
                for decky in &deckies {
                    let newest = self.rows.values().rfind(|row| row.decky == *decky);
                    match self.placed.get(decky).and_then(Known::now) {
                        Some(there) => drop(gone.insert(decky.clone(), there.clone())),
                        None => {
                            let failed = newest.is_some_and(|row| row.status() == Status::Failed);
                            unknown |= !failed && !found.contains_key(decky);
                        }
                    }
                }
                block_on(self.runner.accept_teardown(TeardownRequest::new(deckies.clone()).overlap(overlap)))
            }
            _ => {
                deckies = deckies.into_iter().take(1).collect();
                let decky = deckies.first().unwrap().clone();
                let services = vec![ServiceName::parse("ftp").unwrap()];
                match self.placed.get(&decky).and_then(Known::now) {
                    Some(there) => {
                        let thing = Thing { services: services.clone(), ..there.clone() };
                        up.insert(decky.clone(), thing);
                    }
                    None => unknown = true,
                }
                block_on(self.runner.accept_mutate(MutateRequest::new(decky, services).overlap(overlap)))
            }
        };
        let refused = self.refusal(&up, &gone);
        let touched = |decky: &DeckyName| deckies.contains(decky) || gone.contains_key(decky);
        let busy: Vec<LifecycleId> =
            self.rows.values().filter(|row| row.is_open() && touched(&row.decky)).map(|row| row.id).collect();
        let rows = self.now_rows();
        for row in rows.values().filter(|row| !self.rows.contains_key(&row.id)) {
            let aim = (row.operation != Operation::Teardown).then(|| up[&row.decky].clone());
            self.aims.insert(row.id, aim);
        }
        match accepted {
            Ok(accepted) => {
                assert!(ask.supersede || busy.is_empty(), "{busy:?} are open");
                assert!(!unknown && refused == Refused::default(), "{refused:?}");
                assert_eq!(accepted.ids().keys().collect::<Vec<_>>(), deckies.iter().collect::<Vec<_>>());
                if OPERATIONS[ask.operation] == Operation::Deploy {
                    assert_eq!(accepted.first().keys().collect::<Vec<_>>(), gone.keys().collect::<Vec<_>>());
                }
                let ids: BTreeSet<LifecycleId> = accepted.all_ids().collect();
                for id in &ids {
                    let row = &rows[id];
                    assert_eq!(row.status(), Status::Pending);
                    let there = if row.operation == Operation::Teardown { &gone } else { &up };
                    assert!(there.get(&row.decky).is_none_or(|there| there.host == row.host), "{row:?}");
                }
                for id in &busy {
                    assert_eq!(rows[id].failure().map(Failure::kind), Some(FailureKind::Superseded));
                }
                self.changed(|row| ids.contains(&row.id) || busy.contains(&row.id));
                self.runs.push((ids, Box::pin(accepted.run())));
            }
            Err(AcceptError::Clash(clashes)) => {
                let mut told = Refused::default();
                for clash in clashes {
                    match clash {
                        Clash::Address { decky, .. } => drop(told.0.insert(decky)),
                        Clash::Elsewhere { decky, .. } => drop(told.1.insert(decky)),
                        Clash::Network { .. } => told.2 = true,
                        other => panic!("{other}"),
                    }
                }
                assert_eq!(told, refused);
                assert!(self.changed(|_| false).is_empty());
            }
            Err(AcceptError::UnknownDecky { .. }) => {
                assert!(unknown);
                assert!(self.changed(|_| false).is_empty());
            }
            Err(AcceptError::Busy(named)) => {
                assert!(!ask.supersede && refused == Refused::default());
                let mut named: Vec<LifecycleId> = named.into_iter().flat_map(|(_, ids)| ids).collect();
                named.sort_unstable();
                assert_eq!(named, busy);
                assert!(self.changed(|_| false).is_empty());
            }
            Err(error) => {
                assert!(faulty, "{error}");
                // What landed all the same is left to the sweep.
                self.dropped.extend(rows.keys().filter(|id| !self.rows.contains_key(id)));
            }
        }
    }

    fn poll(&mut self, run: usize, polls: usize) {
        let Some(place) = run.checked_rem(self.runs.len()) else { return };
        let (ids, run) = &mut self.runs[place];
        let ids = ids.clone();
        let mut ended = false;
        for _ in 0..polls {
            ended = block_on(poll_once(&mut *run)).is_some();
            if ended {
                break;
            }
        }
        for row in self.changed(|row| ids.contains(&row.id)) {
            let script = self.scripts.get(&row.decky).cloned().unwrap_or_default();
            let good = matches!(script, EngineScript::Succeed | EngineScript::Delay(_));
            let by_engine = row.host.is_none() && row.status() == Status::Succeeded;
            assert!(!by_engine || good, "{row:?} succeeded by {script:?}");
        }
        if ended {
            drop(self.runs.remove(place));
            let open: Vec<Record> =
                self.now_rows().into_values().filter(|row| ids.contains(&row.id) && row.is_open()).collect();
            let handed_over = |row: &Record| row.status() == Status::Running && row.host.is_some();
            assert!(open.iter().all(handed_over), "a run has ended and left {open:?}");
        }
    }

    fn beat(&mut self, host: usize, said: &[Said], faulty: bool) {
        let from = HostId::parse(["w1", "w2"][host]).unwrap();
        let mut deltas = Vec::new();
        let mut expected = Vec::new();
        let mut rows = self.rows.clone();
        for said in said {
            let Some(row) = self.nth_row(said.row) else { continue };
            let decky = if said.forged { name("e") } else { row.decky.clone() };
            let report =
                [Reported::Running, Reported::Succeeded, Reported::Failed("no".into())][said.report].clone();
            let delta = Delta {
                lifecycle_id: said.named.then_some(row.id),
                decky: decky.clone(),
                operation: row.operation,
                report: report.clone(),
                completed_at: None,
            };
            expected.push(if said.named { verdict(&mut rows, &row.id, &from, &delta) } else { vec![] });
            deltas.push(delta);
        }
        self.witness.heard(&from, &deltas);
        let verdicts = match block_on(self.runner.apply_deltas(&from, &deltas)) {
            Ok(verdicts) => verdicts,
            Err(error) => return assert!(faulty, "{error}"),
        };
        // Without an id a delta may end a row of its own; then the model of
        // those after it is off, and the frame below has to do.
        let unnamed = said.iter().any(|said| !said.named);
        for (verdict, expected) in verdicts.iter().zip(&expected) {
            assert!(
                unnamed || faulty || expected.contains(verdict),
                "{verdict:?}, not {expected:?}: {deltas:?}"
            );
        }
        let own = |row: &Record| row.host.as_ref() == Some(&from);
        let about = |row: &Record| {
            deltas.iter().any(|delta| {
                delta.lifecycle_id.is_none_or(|id| id == row.id)
                    && (&delta.decky, delta.operation) == (&row.decky, row.operation)
            })
        };
        let before = self.rows.clone();
        self.changed(|row| own(row) && about(row) && before[&row.id].status() == Status::Running);
    }

    fn cancel(&mut self, number: usize, faulty: bool) {
        let Some(row) = self.nth_row(number) else { return };
        let answer = match block_on(self.runner.cancel(row.id)) {
            Ok(answer) => answer,
            Err(error) => return assert!(faulty, "{error}"),
        };
        let changed = self.changed(|changed| changed.id == row.id);
        let expected = match row.status() {
            Status::Pending => Cancelled::Ended,
            Status::Running => Cancelled::Requested,
            Status::Succeeded | Status::Failed => Cancelled::AlreadyClosed,
        };
        assert!(answer == expected || faulty, "{answer:?} of {row:?}");
        if answer == Cancelled::AlreadyClosed {
            assert!(changed.is_empty());
        } else {
            assert!(self.now_rows()[&row.id].cancel_requested_at.is_some());
        }
    }

    fn sweep(&mut self, faulty: bool) {
        let swept = match block_on(self.runner.sweep()) {
            Ok(swept) => swept,
            Err(error) => return assert!(faulty, "{error}"),
        };
        let now = self.clock.now();
        let (stepped, dropped) = (self.stepped, self.dropped.clone());
        let before = self.rows.clone();
        let changed = self.changed(|row| {
            let before = &before[&row.id];
            match row.failure().map(Failure::kind) {
                Some(FailureKind::Deadline) => stepped || before.deadline().is_some_and(|due| due <= now),
                Some(FailureKind::Abandoned) => dropped.contains(&row.id),
                Some(FailureKind::WorkerLost) => row.host.is_some() && before.status() == Status::Running,
                _ => false,
            }
        });
        assert!(swept.failed == changed.len() || faulty, "{swept:?}, but {changed:?}");
        assert!(swept.left == 0 || faulty, "{swept:?}");
        if !stepped && !faulty {
            block_on(self.invariants.check_swept(&*self.memory, now)).unwrap();
            let rows = self.now_rows();
            let stranded = |id: &LifecycleId| {
                rows.get(id).is_some_and(|row| {
                    row.status() == Status::Pending || (row.is_open() && row.host.is_none())
                })
            };
            assert!(!dropped.iter().any(stranded), "a dropped row outlived the sweep");
        }
    }

    fn restart(&mut self) {
        self.store.heal();
        self.store.wait(1);
        self.runs.clear();
        self.dropped.clear();
        let (runner, recovered) = build(&self.store, &self.witness, &self.engine, &self.agents, &self.clock);
        self.runner = runner;
        let (mut mine, mut again) = (BTreeSet::new(), BTreeSet::new());
        for row in self.rows.values() {
            match row.status() {
                Status::Pending if row.cancel_requested_at.is_none() => again.insert(row.id),
                Status::Pending => mine.insert(row.id),
                Status::Running if row.host.is_none() => mine.insert(row.id),
                _ => false,
            };
        }
        let restarted = |row: &Record| row.failure().map(Failure::kind) == Some(FailureKind::MasterRestarted);
        let changed = self.changed(|row| mine.contains(&row.id) && restarted(row));
        assert_eq!((changed.len(), recovered.failed), (mine.len(), mine.len()));
        // What was accepted and not begun is taken up again.
        for accepted in recovered.accepted {
            let ids: BTreeSet<LifecycleId> = accepted.all_ids().collect();
            assert!(ids.iter().all(|id| again.remove(id)), "{ids:?}");
            self.runs.push((ids, Box::pin(accepted.run())));
        }
        assert!(again.is_empty(), "{again:?} were forgotten");
    }

    fn prune(&mut self, seconds: u64, faulty: bool) {
        let before = self.clock.now().minus(Duration::from_secs(seconds));
        let Ok(pruned) = block_on(self.runner.prune(&Retention::closed_before(before))) else {
            return assert!(faulty);
        };
        assert!(self.changed(|_| false).is_empty());
        let after = self.now_rows();
        let gone: Vec<&Record> = self.rows.values().filter(|row| !after.contains_key(&row.id)).collect();
        // What a placement names stays as long as that.
        let placements = block_on(self.memory.placements(&PlacementQuery::All)).unwrap();
        let named: BTreeSet<LifecycleId> = placements.iter().flat_map(Placement::rows).collect();
        let old = |row: &Record| row.completed_at().is_some_and(|at| at < before) && !named.contains(&row.id);
        assert!(gone.iter().all(|row| old(row)), "{gone:?}");
        assert_eq!((gone.len(), after.values().filter(|row| old(row)).count()), (pruned.rows, 0));
    }
}

/// What a delta that names a row comes to; takes the row along.
fn verdict(rows: &mut Rows, id: &LifecycleId, from: &HostId, delta: &Delta) -> Vec<Verdict> {
    let Some(row) = rows.get_mut(id) else { return vec![Verdict::Unknown] };
    if row.host.as_ref() != Some(from) {
        return vec![Verdict::WrongHost];
    }
    if row.decky != delta.decky || row.operation != delta.operation {
        return vec![Verdict::Malformed];
    }
    match row.status() {
        Status::Succeeded | Status::Failed => vec![Verdict::AlreadyClosed],
        Status::Pending => vec![Verdict::Stale],
        Status::Running => {
            if delta.report != Reported::Running {
                row.phase = Phase::Succeeded { since: row.updated_at, at: row.updated_at };
            }
            vec![Verdict::Applied]
        }
    }
}

fn build(
    store: &Arc<FaultyStore>,
    witness: &Arc<Witness>,
    engine: &Arc<FakeEngine>,
    agents: &Arc<FakeAgents>,
    clock: &Arc<VirtualClock>,
) -> (Runner, Recovered) {
    let hosts = ["w1", "w2"].map(|id| Host {
        id: HostId::parse(id).unwrap(),
        address: String::new(),
        pin: decnet_lifecycle::agent::Pin::CaOnly,
    });
    let runner = Runner::builder(
        Arc::clone(store) as Arc<dyn Store>,
        witness.engine(Arc::clone(engine) as Arc<dyn Engine>),
    )
    .bus(witness.bus(Arc::new(NullBus)))
    .swarm(witness.agents(Arc::clone(agents) as Arc<dyn Agents>), Arc::new(StaticHosts::new(hosts)))
    .clock(Arc::clone(clock) as Arc<dyn Clock>)
    .build()
    .unwrap();
    block_on(runner.recover()).unwrap()
}

impl StateMachineTest for Master {
    type SystemUnderTest = Self;
    type Reference = Steps;

    fn init_test(_: &usize) -> Self {
        Self::new()
    }

    fn apply(mut master: Self, _: &usize, step: Do) -> Self {
        let faulty = master.store.is_faulty();
        match step {
            Do::Ask(ask) => master.ask(&ask, faulty),
            Do::Poll { run, polls } => master.poll(run, polls),
            Do::Drop { run } => {
                if let Some(place) = run.checked_rem(master.runs.len()) {
                    let (ids, run) = master.runs.remove(place);
                    drop(run);
                    master.dropped.extend(ids);
                    assert!(master.changed(|_| false).is_empty());
                }
            }
            Do::Beat { host, deltas } => master.beat(host, &deltas, faulty),
            Do::Cancel { row } => master.cancel(row, faulty),
            Do::Advance { seconds } => master.clock.advance(Duration::from_secs(seconds)),
            Do::Step { seconds } => {
                let by = Duration::from_secs(seconds.unsigned_abs());
                if seconds > 0 {
                    master.clock.step_forward(by)
                } else {
                    master.clock.step_back(by)
                }
                master.stepped = true;
            }
            Do::Sweep => master.sweep(faulty),
            Do::Restart => master.restart(),
            // A run that stands between its commit and its engine call may find
            // its row superseded and pruned; the witness can't tell that from
            // a row that never was.
            Do::Prune { seconds } if master.runs.is_empty() => master.prune(seconds, faulty),
            Do::Prune { .. } => {}
            Do::Engine { decky, script } => {
                let failure = Failure::new(FailureKind::Engine, "no such image");
                let script = match script {
                    0 => EngineScript::Succeed,
                    1 => EngineScript::Fail(failure),
                    2 => EngineScript::FailAll(failure),
                    3 => EngineScript::Delay(Duration::from_secs(50)),
                    4 => EngineScript::Hang,
                    5 => EngineScript::HangStubbornly,
                    6 => EngineScript::Panic,
                    _ => EngineScript::Forget,
                };
                master.engine.script(&name(DECKIES[decky]), script.clone());
                // A call under way may still play the script from before.
                if master.runs.is_empty() {
                    master.scripts.insert(name(DECKIES[decky]), script);
                } else {
                    master.scripts.insert(name(DECKIES[decky]), EngineScript::Succeed);
                }
            }
            Do::Agent { host, script } => {
                let reason = || "no".to_owned();
                let script = match script {
                    0 => AgentScript::Fail(AgentError::Unreachable { reason: reason() }),
                    1 => AgentScript::Fail(AgentError::Refused { reason: reason() }),
                    2 => AgentScript::Fail(AgentError::Unconfirmed { reason: reason() }),
                    3 => AgentScript::Hang,
                    _ => AgentScript::Panic,
                };
                master.agents.script(&HostId::parse(["w1", "w2"][host]).unwrap(), [script]);
            }
            Do::Fault { fault } => {
                let faults = [StoreFault::NotCommitted, StoreFault::UnknownLanded, StoreFault::UnknownLost];
                master.store.fail_commits([faults[fault - 1]]);
            }
        }
        block_on(master.invariants.check(&*master.memory)).unwrap();
        master.follow();
        master.rows = master.now_rows();
        master
    }
}

/// As many as `PROPTEST_CASES` says, else enough to meet every step often.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400)
}

prop_state_machine! {
    #![proptest_config(Config {
        cases: cases(),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("proptest-regressions/model.txt"))),
        ..Config::default()
    })]

    #[test]
    fn a_master_does_what_the_model_says(sequential 1..60 => Master);
}

fn name(text: &str) -> DeckyName {
    DeckyName::parse(text).unwrap()
}

/// A fleet; one in which `a` is called `f`, one in which `c` is on `w2`, and
/// one with another gateway.
fn fleet(which: usize) -> FleetConfig {
    let deckies: Vec<serde_json::Value> = DECKIES
        .iter()
        .zip(HOSTS)
        .enumerate()
        .map(|(place, (name, host))| {
            let name = if which == 1 && place == 0 { "f" } else { name };
            let host = if which == 2 && place == 2 { Some("w2") } else { host };
            serde_json::json!({
                "name": name, "ip": format!("192.0.2.{}", 10 + place), "services": ["ssh"], "distro": "debian",
                "base_image": "debian:12", "hostname": "srv", "host_uuid": host,
            })
        })
        .collect();
    let fleet = serde_json::json!({
        "mode": "swarm", "interface": "eth0", "subnet": "192.0.2.0/24",
        "gateway": if which == 3 { "192.0.2.254" } else { "192.0.2.1" }, "deckies": deckies,
    });
    FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap()
}
