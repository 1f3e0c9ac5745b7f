//! One master, three workers, and what must be true of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use decnet_lifecycle::store::Store as _;
use decnet_lifecycle::testkit::Invariants;
use decnet_lifecycle::{
    lifecycle::Revision,
    store::{Feed, Query, RedbReader},
    *,
};
use futures_lite::future::block_on;
use serde_json::{Value, json};

use crate::processes::{Data, Process, ask_tls, free_ports, request, try_ask};
use crate::proxy::Proxy;

const HOSTS: [&str; 3] = ["w1", "w2", "w3"];
/// The rows of a round have ended by then, whatever happened: a row that its
/// worker does not know fails after three seconds.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Swarm {
    data: Arc<Data>,
    fleet: String,
    api: SocketAddr,
    beats: SocketAddr,
    agents: BTreeMap<&'static str, SocketAddr>,
    master: Option<Process>,
    workers: BTreeMap<&'static str, Option<Process>>,
    proxies: BTreeMap<&'static str, Proxy>,
    /// Rows that a 202 has named.
    acknowledged: BTreeSet<LifecycleId>,
    follower: Arc<Follower>,
    kills: usize,
}

/// Follows the feed over HTTP, through every death of the master.
#[derive(Default)]
struct Follower {
    seen: Mutex<Vec<u64>>,
    is_over: AtomicBool,
}

impl Swarm {
    pub fn start(seed: u64) -> Self {
        let data = Data::new();
        data.ok(&["pki", "init"]);
        let ports = free_ports(5);
        let address = |n: usize| SocketAddr::from(([127, 0, 0, 1], ports[n]));
        let agents: BTreeMap<_, _> = HOSTS.into_iter().zip((0..).map(address)).collect();
        for (host, agent) in &agents {
            data.ok(&["pki", "issue", host, "--san", "127.0.0.1"]);
            data.ok(&["hosts", "add", host, "--address", &agent.to_string()]);
        }
        let data = Arc::new(data);
        let (api, beats) = (address(3), address(4));
        let proxies = (seed..).zip(HOSTS).map(|(seed, host)| (host, Proxy::start(&data, host, beats, seed)));
        let mut swarm = Self {
            fleet: fleet(),
            api,
            beats,
            agents,
            master: None,
            workers: HOSTS.into_iter().map(|host| (host, None)).collect(),
            proxies: proxies.collect(),
            acknowledged: BTreeSet::new(),
            follower: Arc::default(),
            kills: 0,
            data,
        };
        swarm.start_all();
        let (follower, bearer) = (Arc::clone(&swarm.follower), format!("Bearer {}", swarm.data.token()));
        std::thread::spawn(move || follower.follow(api, &bearer));
        swarm
    }

    /// Ends all processes and removes their files, by which the decoys end: the
    /// proxies' threads hold the directory to the last.
    pub fn end(&mut self) {
        self.master.iter_mut().chain(self.workers.values_mut().flatten()).for_each(Process::kill);
        std::fs::remove_dir_all(self.data.path("")).unwrap();
    }

    /// Starts what doesn't run.
    pub fn start_all(&mut self) {
        self.start_master();
        for (host, worker) in &mut self.workers {
            if worker.is_none() {
                let beats = self.proxies[host].address.to_string();
                let args = ["worker", host, "--master", &beats, "--beat-every", "1s", "--engine", "process"];
                *worker = Some(Process::start(&self.data, &args));
            }
        }
    }

    fn start_master(&mut self) {
        if self.master.is_none() {
            let (api, beats) = (self.api.to_string(), self.beats.to_string());
            let args = [
                "serve",
                "--listen",
                &api,
                "--swarm",
                &beats,
                "--engine",
                "process",
                "--unknown",
                "3s",
                "--sweep-every",
                "1s",
                "--run",
                "30s",
            ];
            self.master = Some(Process::start(&self.data, &args));
        }
    }

    pub fn let_wild(&self, wild: bool) {
        self.proxies.values().for_each(|proxy| proxy.is_wild.store(wild, Ordering::SeqCst));
    }

    /// Kills one process, and starts it again at once, or with the next.
    pub fn kill_one(&mut self, dice: &mut fastrand::Rng) {
        self.kills += 1;
        match dice.usize(..=HOSTS.len()) {
            3 => self.master.iter_mut().for_each(Process::kill),
            n => self.workers.get_mut(HOSTS[n]).unwrap().iter_mut().for_each(Process::kill),
        }
        self.forget_the_dead();
        if dice.bool() {
            self.start_all();
        }
    }

    fn forget_the_dead(&mut self) {
        self.master.take_if(|master| !master.is_alive());
        for worker in self.workers.values_mut() {
            worker.take_if(|worker| !worker.is_alive());
        }
    }

    /// Asks for a deploy, a mutate or a teardown, of whatever is.
    pub fn ask(&mut self, dice: &mut fastrand::Rng) {
        // Some workers may still be dead.
        self.start_master();
        let decky = format!("decky-{:02}", dice.u8(1..=9));
        let answer = match dice.u8(..10) {
            0..6 => self.api("POST", "/deckies/deploy?supersede=true", &self.fleet.clone()),
            6..9 => {
                let services = dice.choice([&["ssh"][..], &["ssh", "redis"], &["http", "ftp"]]).unwrap();
                let body = json!({"services": services}).to_string();
                self.api("POST", &format!("/deckies/{decky}/mutate?supersede=true"), &body)
            }
            _ => self.api("POST", &format!("/deckies/{decky}/teardown?supersede=true"), ""),
        };
        // What was not acknowledged may or may not be there.
        let Some(answer) = answer else { return };
        let ids = answer["lifecycle_ids"].as_array().into_iter().flatten();
        self.acknowledged.extend(ids.map(|id| id.as_str().unwrap().parse::<LifecycleId>().unwrap()));
    }

    fn api(&self, method: &str, path: &str, body: &str) -> Option<Value> {
        let bearer = format!("Bearer {}", self.data.token());
        let asked = request(method, path, &[("authorization", &bearer)], body);
        serde_json::from_str(&try_ask(self.api, &asked)?.body).ok()
    }

    pub fn wait_until_all_have_ended(&self, seed: u64) {
        let begun = Instant::now();
        let store = RedbReader::open(self.data.path("lifecycle.redb")).unwrap();
        loop {
            let open = block_on(store.query(&Query::new().open().limit(100))).unwrap().records;
            if open.is_empty() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "seed {seed}: still open: {open:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Each row says what happened: compared with the workers' own rows, and
    /// with what runs.
    pub fn check_truth(&self, seed: u64) -> String {
        let rows = all_rows(&self.data, "lifecycle.redb");
        for id in &self.acknowledged {
            assert!(rows.iter().any(|row| row.id == *id), "seed {seed}: {id} was acknowledged and is gone");
        }
        let theirs: BTreeMap<&str, BTreeMap<LifecycleId, Record>> = HOSTS
            .iter()
            .map(|host| {
                let rows = all_rows(&self.data, &format!("workers/{host}/lifecycle.redb"));
                (*host, rows.into_iter().map(|row| (row.id, row)).collect())
            })
            .collect();
        let mut newest: BTreeMap<DeckyName, &Record> = BTreeMap::new();
        for row in &rows {
            let Some(host) = &row.host else { continue };
            let said = theirs[host.as_str()].get(&row.id).map(Record::status);
            match (row.status(), row.failure().map(Failure::kind)) {
                (Status::Succeeded, _) => assert_eq!(said, Some(Status::Succeeded), "seed {seed}: {row:#?}"),
                (Status::Failed, Some(FailureKind::Reported)) => {
                    assert_eq!(said, Some(Status::Failed), "seed {seed}: {row:#?}");
                }
                // A worker names each row that it has until it is settled.
                (Status::Failed, Some(FailureKind::WorkerLost)) => {
                    assert_eq!(said, None, "seed {seed}: {row:#?}");
                }
                (Status::Failed, _) => {
                    let never_got =
                        row.failure().is_some_and(|why| why.to_string().contains("has not got the call"));
                    assert!(!never_got || said.is_none(), "seed {seed}: {row:#?}");
                }
                _ => panic!("seed {seed}: open: {row:#?}"),
            }
            if newest.get(&row.decky).is_none_or(|known| known.created_at < row.created_at) {
                newest.insert(row.decky.clone(), row);
            }
        }
        let runtime: BTreeMap<&str, Value> = HOSTS.iter().map(|host| (*host, self.runtime(host))).collect();
        for row in newest.values().filter(|row| row.status() == Status::Succeeded) {
            let host = row.host.as_ref().unwrap().as_str();
            let runs = runtime[host]["runtime"][row.decky.as_str()]["running"] == json!(true);
            let should = row.operation != Operation::Teardown;
            let here: Vec<&Record> = rows.iter().filter(|other| other.decky == row.decky).collect();
            let there: Vec<_> = theirs[host].values().filter(|other| other.decky == row.decky).collect();
            let runs_there = &runtime[host]["runtime"][row.decky.as_str()];
            assert_eq!(
                runs,
                should,
                "seed {seed}: {runs_there} of {row:#?}\nhere, newest first: {:#?}\nthere: {:#?}",
                here.iter().take(4).collect::<Vec<_>>(),
                there.iter().rev().take(6).collect::<Vec<_>>()
            );
        }
        let count = |status| rows.iter().filter(|row| row.status() == status).count();
        format!("{} succeeded, {} failed so far", count(Status::Succeeded), count(Status::Failed))
    }

    /// What a worker says that runs there.
    fn runtime(&self, host: &str) -> Value {
        let ca = self.data.path("pki/ca.crt");
        let asked = request("GET", "/status", &[], "");
        ask_tls(self.agents[host], &ca, Some(&self.data.bundle("master")), &asked).unwrap().json()
    }

    /// The feed as its follower saw it has no gaps, and the store is sound.
    pub fn check_all(&mut self) -> String {
        let store = RedbReader::open(self.data.path("lifecycle.redb")).unwrap();
        block_on(Invariants::new().check(&store)).unwrap();
        let Feed::Entries { entries, head } = block_on(store.changes(Revision::ZERO, usize::MAX)).unwrap()
        else {
            panic!("nothing is pruned here");
        };
        let all: Vec<u64> = (1..=head.get()).collect();
        assert_eq!(entries.iter().map(|entry| entry.revision.get()).collect::<Vec<_>>(), all);
        let begun = Instant::now();
        while self.follower.seen.lock().unwrap().len() < all.len() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.follower.is_over.store(true, Ordering::SeqCst);
        assert_eq!(*self.follower.seen.lock().unwrap(), all, "the feed as it was followed");
        let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
        for row in all_rows(&self.data, "lifecycle.redb") {
            *ends.entry(row.failure().map_or("Succeeded", |why| why.kind().as_str())).or_default() += 1;
        }
        format!("{} changes in the feed, {} kills; rows by how they ended: {ends:?}", all.len(), self.kills)
    }
}

impl Follower {
    fn follow(&self, api: SocketAddr, bearer: &str) {
        while !self.is_over.load(Ordering::SeqCst) {
            let last = self.seen.lock().unwrap().last().copied().unwrap_or(0).to_string();
            let headers = [("authorization", bearer), ("last-event-id", &last)];
            let asked = request("GET", "/lifecycle/feed", &headers, "");
            let connected = TcpStream::connect(api).and_then(|mut stream| {
                stream.write_all(asked.as_bytes())?;
                Ok(stream)
            });
            let Ok(stream) = connected else {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            };
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if let Some(id) = line.strip_prefix("id: ") {
                    self.seen.lock().unwrap().push(id.parse().unwrap());
                }
            }
        }
    }
}

fn all_rows(data: &Data, file: &str) -> Vec<Record> {
    let store = RedbReader::open(data.path(file)).unwrap();
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = block_on(store.query(&Query::new().limit(Query::MAX_LIMIT).after(after))).unwrap();
        rows.extend(page.records);
        after = page.next;
        if after.is_none() {
            return rows;
        }
    }
}

/// The original's own fleet of nine, its hosts by our names.
fn fleet() -> String {
    let mut fleet: Value = serde_json::from_str(include_str!("../data/fleet-swarm-9.json")).unwrap();
    let mut known: Vec<String> = Vec::new();
    for decky in fleet["deckies"].as_array_mut().unwrap() {
        let Some(uuid) = decky["host_uuid"].as_str().map(str::to_owned) else { continue };
        let place = known.iter().position(|one| *one == uuid).unwrap_or_else(|| {
            known.push(uuid);
            known.len() - 1
        });
        decky["host_uuid"] = HOSTS[place].into();
    }
    assert_eq!(known.len(), HOSTS.len());
    fleet.to_string()
}
