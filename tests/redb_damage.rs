//! Bits flip in a file that a store is to open: whatever it then answers is
//! the truth, an error that says so, or names what it left out.
//!
//! `DECNET_LIFECYCLE_FLIPS` says how many times (400), `DECNET_LIFECYCLE_SEED`
//! from which seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use decnet_lifecycle::placement::{Aim, Placed};
use decnet_lifecycle::{
    decide::{Batch, Change, Insert, KeyClaim, Outcome, Refusal, Step},
    lifecycle::{MasterName, Owner, Phase, Revision},
    placement::{Home, Placement},
    store::{Entry, Feed, PlacementQuery, Query, RedbStore, Store},
    *,
};
use futures_lite::future::block_on;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_767_225_600_000_000).plus(std::time::Duration::from_secs(seconds))
}

fn row(number: u64) -> Record {
    Record {
        id: LifecycleId::from_parts(at(number), [7; 10]),
        decky: DeckyName::parse(&format!("decky-{}", number % 90)).unwrap(),
        host: number.is_multiple_of(3).then(|| HostId::parse("w1").unwrap()),
        operation: Operation::Deploy,
        phase: Phase::Pending { deadline: at(number + 3_600) },
        owner: Owner { master: MasterName::parse("m").unwrap(), epoch: 1 },
        created_at: at(number),
        updated_at: at(number),
        cancel_requested_at: None,
        claimed_completion: None,
        key: None,
        revision: Revision::ZERO,
    }
}

fn placed(row: &Record, number: u64) -> Arc<Placed> {
    let host = row.host.as_ref();
    let fleet = serde_json::json!({
        "mode": if host.is_some() { "swarm" } else { "unihost" }, "interface": "eth0",
        "subnet": "192.0.0.0/16", "gateway": "192.0.0.1",
        "deckies": [{
            "name": row.decky, "ip": format!("192.0.2.{}", 10 + number % 90), "services": ["ssh"],
            "distro": "debian", "base_image": "debian:12", "hostname": "srv", "host_uuid": host,
        }],
    });
    let fleet = FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap();
    Arc::new(Placed::new(&fleet, &fleet.deckies[0], &MasterName::parse("m").unwrap(), None))
}

fn commit(store: &dyn Store, batch: Batch) -> Vec<Record> {
    let outcomes = block_on(store.commit(batch)).unwrap();
    outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Applied { record, .. } => *record,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// Fills a store with rows in all states, keys, a feed and placements; several
/// pages of each.
fn fill(store: &dyn Store) {
    for number in 0..240 {
        let record = row(number);
        let aim = Aim::Up(placed(&record, number));
        let insert = Change::Insert(Box::new(Insert::new(record, Overlap::Supersede).aim(aim)));
        let key = KeyClaim { key: RequestKey::parse(&format!("k{number}")).unwrap(), hash: [3; 32] };
        let first = commit(store, Batch::all_or_none(vec![insert]).with_key(Some(key))).remove(0);
        if number.is_multiple_of(7) {
            continue;
        }
        let since = at(number + 1);
        let step = |row: &Record, phase| {
            let next = Record { phase, updated_at: since, ..row.clone() };
            vec![Change::Step(Box::new(Step::new(row.revision, next)))]
        };
        let running = step(&first, Phase::Running { since, deadline: at(number + 99) });
        let running = commit(store, Batch::per_row(running)).remove(0);
        let failure = || Failure::new(FailureKind::WorkerLost, "no beat");
        match number % 5 {
            0 => {}
            1 => {
                let phase = Phase::Failed { since: Some(since), at: since, failure: failure() };
                commit(store, Batch::per_row(step(&running, phase)));
            }
            _ => {
                commit(store, Batch::per_row(step(&running, Phase::Succeeded { since, at: since })));
            }
        }
    }
}

/// All that there is to be known.
struct Truth {
    rows: BTreeMap<LifecycleId, Record>,
    feed: Vec<Entry>,
    placements: BTreeMap<DeckyName, Placement>,
}

impl Truth {
    fn of(store: &dyn Store) -> Self {
        let rows = block_on(store.query(&Query::new().limit(1_000))).unwrap();
        let Feed::Entries { entries, .. } = block_on(store.changes(Revision::ZERO, 10_000)).unwrap() else {
            panic!("compacted");
        };
        let placements = block_on(store.placements(&PlacementQuery::All)).unwrap();
        Self {
            rows: rows.records.into_iter().map(|row| (row.id, row)).collect(),
            feed: entries,
            placements: placements
                .into_iter()
                .map(|placement| (placement.decky.clone(), placement))
                .collect(),
        }
    }
}

/// What is wrong with a store's answers, and whether any was less than whole.
#[derive(Default)]
struct Judged {
    wrong: Vec<String>,
    errors: usize,
    left_out: usize,
}

impl Judged {
    fn query(&mut self, store: &dyn Store, truth: &Truth, query: &Query) {
        let mut wanted: Vec<&Record> = truth.rows.values().filter(|row| query.matches(row)).collect();
        match query.due_by {
            Some(_) => wanted.sort_by_key(|row| (row.deadline(), row.id)),
            None => wanted.reverse(),
        }
        match block_on(store.query(query)) {
            Err(_) => self.errors += 1,
            Ok(page) => {
                self.left_out += page.damaged.len();
                // All that is told is true, in order; what is left out is named,
                // as many times as rows are missing at least.
                let mut rest = wanted.iter();
                let in_order = page.records.iter().all(|row| rest.any(|wanted| *wanted == row));
                let missing = wanted.len() - page.records.len().min(wanted.len());
                if !in_order || missing > page.damaged.len() {
                    let (told, all) = (page.records.len(), wanted.len());
                    let left = page.damaged.len();
                    self.wrong.push(format!(
                        "{query:?}: {told} rows of {all}, {left} left out, in order: {in_order}"
                    ));
                }
            }
        }
    }

    fn read(&mut self, store: &dyn Store, truth: &Truth) {
        for (id, row) in &truth.rows {
            match block_on(store.read(&[*id])) {
                Err(_) => self.errors += 1,
                Ok(found) if found == [row.clone()] => {}
                Ok(found) => self.wrong.push(format!("row {id} read as {found:?}")),
            }
        }
    }

    fn feed(&mut self, store: &dyn Store, truth: &Truth) {
        for after in (0..truth.feed.len()).step_by(50) {
            let head = Revision::new(truth.feed.len() as u64);
            match block_on(store.changes(Revision::new(after as u64), 50)) {
                Err(_) => self.errors += 1,
                // A stretch may end before a change that can't be told, and
                // who asks for that is told so.
                Ok(Feed::Entries { entries, head: told }) if told == head => {
                    let wanted = &truth.feed[after..truth.feed.len().min(after + 50)];
                    self.left_out += wanted.len() - entries.len().min(wanted.len());
                    if entries.is_empty() || !wanted.starts_with(&entries) {
                        self.wrong.push(format!("the feed after {after} is {entries:?}"));
                    }
                }
                Ok(Feed::Compacted { oldest }) if oldest == Revision::new(after as u64 + 2) => {
                    self.left_out += 1;
                }
                Ok(other) => self.wrong.push(format!("the feed after {after} is {other:?}")),
            }
        }
    }

    fn placements(&mut self, store: &dyn Store, truth: &Truth) {
        let homes = ["master/m", "host/w1"].map(|key| PlacementQuery::At(Home::from_key(key).unwrap()));
        let each = truth.placements.keys().map(|decky| PlacementQuery::Of(vec![decky.clone()]));
        for query in [PlacementQuery::All].into_iter().chain(homes).chain(each) {
            let wanted: Vec<Placement> =
                truth.placements.values().filter(|placement| query.matches(placement)).cloned().collect();
            match block_on(store.placements(&query)) {
                Err(_) => self.errors += 1,
                Ok(found) if found == wanted => {}
                Ok(found) => {
                    self.wrong.push(format!("{query:?}: {} of {} placements", found.len(), wanted.len()));
                }
            }
        }
    }

    /// One open row a decky, and keys, hold: or it is said that nobody knows.
    fn writes(&mut self, store: &dyn Store, truth: &Truth) {
        for number in 500..508 {
            let mut record = row(number);
            record.decky = DeckyName::parse(&format!("decky-{}", number % 90)).unwrap();
            let open: BTreeSet<LifecycleId> = truth
                .rows
                .values()
                .filter(|row| row.is_open() && row.decky == record.decky)
                .map(|row| row.id)
                .collect();
            let insert = Change::Insert(Box::new(Insert::new(record.clone(), Overlap::Reject)));
            match block_on(store.commit(Batch::all_or_none(vec![insert]))) {
                Err(_) => self.errors += 1,
                Ok(outcomes) => {
                    let sound = match &outcomes[..] {
                        [Outcome::Applied { .. }] => open.is_empty(),
                        [Outcome::Refused(Refusal::Busy { open: named, .. })] => {
                            named.iter().copied().eq(open.iter().copied())
                        }
                        _ => false,
                    };
                    if !sound {
                        self.wrong
                            .push(format!("{}: open are {open:?}, a second gave {outcomes:?}", record.decky));
                    }
                }
            }
        }
        for number in 0..240 {
            let key = KeyClaim { key: RequestKey::parse(&format!("k{number}")).unwrap(), hash: [3; 32] };
            match block_on(store.commit(Batch::all_or_none(vec![]).with_key(Some(key)))) {
                Err(_) => self.errors += 1,
                Ok(outcomes) => {
                    let id = row(number).id;
                    if !matches!(&outcomes[..], [Outcome::Repeated(known)] if *known == id) {
                        self.wrong.push(format!("key k{number} gave {outcomes:?}"));
                    }
                }
            }
        }
    }

    fn all(&mut self, store: &dyn Store, truth: &Truth) {
        let mut queries = vec![
            Query::new().limit(1_000),
            Query::new().open().limit(1_000),
            Query::new().status(Status::Failed).limit(1_000),
            Query::new().due_by(at(100_000)).limit(1_000),
        ];
        for decky in truth.placements.keys() {
            queries.push(Query::new().decky(decky.clone()));
            queries.push(Query::new().decky(decky.clone()).open());
        }
        for query in &queries {
            self.query(store, truth, query);
        }
        self.read(store, truth);
        self.feed(store, truth);
        self.placements(store, truth);
        self.writes(store, truth);
    }
}

/// One bit flipped, or a block of zeros, within bytes that are not zero.
fn damage(image: &mut [u8], used: &[usize], random: &mut fastrand::Rng) -> String {
    let place = used[random.usize(..used.len())];
    if random.u8(..4) == 0 {
        let length = [16, 64, 512, 4_096][random.usize(..4)];
        let from = place - place % length;
        let to = image.len().min(from + length);
        image[from..to].fill(0);
        return format!("{from}..{to} zeroed");
    }
    let bit = random.u8(..8);
    image[place] ^= 1 << bit;
    format!("bit {bit} of byte {place} flipped")
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// What broke once: a database that panicked did so once more when it was let
/// go, and nobody caught that.
const BROKE: [u64; 1] = [8_559_131_720_588_547_855];

#[test]
fn whatever_flips_no_answer_is_wrong() {
    // redb panics on some damaged pages; the library catches that.
    std::panic::set_hook(Box::new(|panic| {
        if !panic.location().is_some_and(|at| at.file().contains("/redb-")) {
            eprintln!("{panic}");
        }
    }));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    let store = RedbStore::open(&path).unwrap();
    fill(&store);
    let truth = Truth::of(&store);
    drop(store);
    // Every page in use, so that what is damaged is something.
    let mut builder = redb::Builder::new();
    let mut db = builder.set_concurrency_mode(redb::ConcurrencyMode::SingleWriter).open(&path).unwrap();
    while db.compact().unwrap() {}
    db.close().unwrap();
    let image = std::fs::read(&path).unwrap();
    let mut sound = Judged::default();
    sound.all(&RedbStore::open(&path).unwrap(), &truth);
    assert!(sound.wrong.is_empty() && sound.errors + sound.left_out == 0, "{:?}", sound.wrong);
    let used: Vec<usize> = (0..image.len()).filter(|place| image[*place] != 0).collect();
    let (flips, seed) =
        (number("DECNET_LIFECYCLE_FLIPS", 400), number("DECNET_LIFECYCLE_SEED", fastrand::u64(..)));
    println!("{flips} flips from seed {seed}, in {} of {} bytes", used.len(), image.len());
    let (mut unopened, mut untouched, mut told) = (0, 0, 0);
    let mut wrong = Vec::new();
    for seed in BROKE.into_iter().chain((0..flips).map(|flip| seed.wrapping_add(flip))) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut image = image.clone();
        let what = damage(&mut image, &used, &mut random);
        std::fs::write(&path, image).unwrap();
        let store = match RedbStore::open(&path) {
            Ok(store) => store,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                unopened += 1;
                continue;
            }
        };
        let mut judged = Judged::default();
        judged.all(&store, &truth);
        match judged.errors + judged.left_out {
            0 => untouched += 1,
            _ => told += 1,
        }
        if let Some(first) = judged.wrong.first() {
            wrong.push(format!("seed {seed}: {what}: {first} and {} more", judged.wrong.len() - 1));
        }
    }
    println!(
        "{unopened} did not open, {told} told of damage, {untouched} were as before, {} wrong",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{} of {flips}:\n{}", wrong.len(), wrong.join("\n"));
    // Many flips must matter, or nothing was tested; others hit what a page has
    // not in use.
    assert!(told + unopened > flips / 4, "{told} told, {unopened} unopened");
}
