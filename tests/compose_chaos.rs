//! Real containers that are killed, paused, restarted and removed at random,
//! between and during operations: at the end each row and each line of `ps` is
//! held against a connection to each port.
//!
//! `DECNET_LIFECYCLE_OPERATIONS` says how many operations (10),
//! `DECNET_LIFECYCLE_SEED` where the dice start. A seed gives the same dice, not
//! the same schedule. Without a Docker daemon it says so and passes, as
//! `compose_docker` does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use decnet_lifecycle::clock::{Clock as _, SystemClock};
use decnet_lifecycle::engine::Engine as _;
use decnet_lifecycle::placement::{Placement, Standing};
use decnet_lifecycle::runner::{Backoff, DeckyStatus, Health};
use decnet_lifecycle::store::{PlacementQuery, Query};
use decnet_lifecycle::*;
use futures_lite::FutureExt as _;
use futures_lite::future::{block_on, zip};

mod containers;

use containers::{Site, docker_says, is_ready};

const PORTS: [(&str, u16); 4] = [("ssh", 22), ("http", 80), ("redis", 6379), ("ftp", 21)];
/// How often it is looked whether what is told and what answers agree: what was
/// done to containers is still on its way for a moment.
const LOOKS: u32 = 60;

#[test]
fn whatever_is_done_to_containers_what_is_told_of_them_is_so() {
    if !is_ready() {
        return;
    }
    let set = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let operations = set("DECNET_LIFECYCLE_OPERATIONS").unwrap_or(10);
    let seed = set("DECNET_LIFECYCLE_SEED").unwrap_or_else(|| fastrand::u64(..1 << 48));
    println!("{operations} operations from seed {seed}");
    let mut chaos = Chaos::new(seed);
    for number in 0..operations {
        chaos.operation(number);
    }
    chaos.mends();
    println!("{}", chaos.told());
}

struct Chaos {
    site: Site,
    runner: Runner,
    dice: fastrand::Rng,
    /// What was done, for whoever has to find out why.
    story: Vec<String>,
    rows: BTreeMap<(Operation, Status), usize>,
    blows: usize,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let site = Site::new("wild", 20);
        let runner = site.runner();
        let dice = fastrand::Rng::with_seed(seed);
        Self { site, runner, dice, story: Vec::new(), rows: BTreeMap::new(), blows: 0 }
    }

    fn fleet(&self) -> FleetConfig {
        self.site.fleet(&[&["http", "redis"], &["http"], &["ssh", "ftp"]])
    }

    /// One operation, with something done to containers before or meanwhile.
    fn operation(&mut self, number: u64) {
        for _ in 0..self.dice.usize(..3) {
            let blow = self.blow();
            self.strike(&blow);
        }
        let meanwhile: Vec<(Duration, Vec<String>)> = match self.dice.bool() {
            true => (0..self.dice.usize(1..3))
                .map(|_| (Duration::from_millis(self.dice.u64(..4_000)), self.blow()))
                .collect(),
            false => Vec::new(),
        };
        let (what, accepted) = self.ask();
        let line = format!("{number}: {what}, meanwhile {meanwhile:?}");
        println!("{line}");
        self.story.push(line);
        let ids: Vec<LifecycleId> = accepted.iter().flat_map(Accepted::all_ids).collect();
        let working = async {
            for one in accepted {
                one.run().await;
            }
        };
        let striking = async {
            for (wait, blow) in &meanwhile {
                SystemClock::new().sleep(*wait).await;
                let blow = blow.clone();
                smol::unblock(move || drop(docker_says(&words(&blow)))).await;
            }
        };
        block_on(zip(working, striking));
        self.blows += meanwhile.len();
        let rows = block_on(self.runner.get(&ids)).unwrap();
        for row in &rows {
            assert!(!row.is_open(), "a row is open: {row:?}\n{}", self.told());
            *self.rows.entry((row.operation, row.status())).or_default() += 1;
        }
        // What nobody struck at meanwhile is just as its row says.
        if meanwhile.is_empty() {
            for row in rows.iter().filter(|row| row.status() == Status::Succeeded) {
                self.is_as_it_says(row);
            }
        }
        self.agrees();
    }

    /// What is asked for, and whoever has accepted it.
    fn ask(&mut self) -> (String, Vec<Accepted>) {
        let decky = self.site.decky(self.dice.u8(1..4));
        let one = |accepted: Result<Accepted, AcceptError>| accepted.into_iter().collect();
        match self.dice.u8(..10) {
            0..4 => {
                let request = DeployRequest::new(self.fleet());
                ("deploy".into(), one(block_on(self.runner.accept_deploy(request))))
            }
            4..6 => {
                let mut services: Vec<ServiceName> =
                    PORTS.iter().map(|(name, _)| ServiceName::parse(name).unwrap()).collect();
                self.dice.shuffle(&mut services);
                services.truncate(self.dice.usize(1..4));
                let what = format!("mutate {decky} {services:?}");
                (what, one(block_on(self.runner.accept_mutate(MutateRequest::new(decky, services)))))
            }
            6..8 => {
                let what = format!("teardown {decky}");
                (what, one(block_on(self.runner.accept_teardown(TeardownRequest::new([decky])))))
            }
            8 => ("restore".into(), block_on(self.runner.restore()).unwrap().accepted),
            _ => {
                let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(1));
                ("heal".into(), block_on(self.runner.heal(backoff)).unwrap())
            }
        }
    }

    /// Something that a machine, a daemon or a person does to containers.
    fn blow(&mut self) -> Vec<String> {
        let decky = self.site.decky(self.dice.u8(1..4));
        let service = self.dice.choice(PORTS).unwrap().0;
        let container = if self.dice.bool() { decky.to_string() } else { format!("{decky}-{service}") };
        let network = self.site.settings.network.as_str().to_owned();
        let words = match self.dice.u8(..12) {
            0 | 1 => format!("kill {container}"),
            2 => format!("exec {container} kill 1"),
            3 => format!("pause {container}"),
            4 => format!("unpause {container}"),
            5 | 6 => format!("restart -t 0 {container}"),
            7 => format!("stop -t 0 {container}"),
            8 | 9 => format!("rm -f {container}"),
            10 => format!("network disconnect -f {network} {decky}"),
            _ => format!("network rm {network}"),
        };
        words.split(' ').map(str::to_owned).collect()
    }

    fn strike(&mut self, blow: &[String]) {
        self.blows += 1;
        let hit = docker_says(&words(blow)).is_ok();
        self.story.push(format!("   {} ({})", blow.join(" "), if hit { "hit" } else { "missed" }));
    }

    fn placements(&self) -> Vec<Placement> {
        block_on(self.runner.placements(&PlacementQuery::All)).unwrap()
    }

    /// The services of a decky that answer.
    fn answering(&self, decky: &DeckyName) -> BTreeSet<String> {
        let ip = self.fleet().decky(decky).unwrap().ip;
        self.site.answering(ip, &PORTS).into_iter().map(str::to_owned).collect()
    }

    fn is_as_it_says(&self, row: &Record) {
        let answering = self.answering(&row.decky);
        let placed = self.placements().into_iter().find(|placement| placement.decky == row.decky);
        let wanted: BTreeSet<String> = match placed.map(|placement| placement.standing) {
            Some(Standing::Up { placed, .. }) => {
                placed.config.services.iter().map(ToString::to_string).collect()
            }
            _ => BTreeSet::new(),
        };
        assert_eq!(answering, wanted, "{} of {} succeeded\n{}", row.operation, row.decky, self.told());
    }

    /// What `ps` says, and what answers, of each decky: at some moment the same.
    fn agrees(&self) {
        let mut differs = String::new();
        for _ in 0..LOOKS {
            let statuses = block_on(self.runner.deckies()).unwrap();
            let different: Vec<String> = statuses.iter().filter_map(|status| self.differs(status)).collect();
            // What `ps` doesn't list is not there.
            let listed: BTreeSet<&DeckyName> = statuses.iter().map(|status| &status.decky).collect();
            let fleet = self.fleet();
            let hidden =
                fleet.names().filter(|decky| !listed.contains(decky) && !self.answering(decky).is_empty());
            differs = different
                .into_iter()
                .chain(hidden.map(|decky| format!("{decky} answers")))
                .collect::<Vec<_>>()
                .join("; ");
            if differs.is_empty() {
                return;
            }
            block_on(SystemClock::new().sleep(Duration::from_millis(500)));
        }
        panic!("what is told is not so: {differs}\n{}", self.told());
    }

    fn differs(&self, status: &DeckyStatus) -> Option<String> {
        let runtime = status.runtime.as_ref()?;
        let running = runtime.services.iter().filter(|(_, state)| *state == "running");
        let told: BTreeSet<String> = running.map(|(name, _)| name.clone()).collect();
        let answers = self.answering(&status.decky);
        (told != answers).then(|| format!("{}: {status}, of which {answers:?} answers", status.decky))
    }

    /// At the end all that is placed can be brought back.
    fn mends(&mut self) {
        let accepted = block_on(self.runner.accept_deploy(DeployRequest::new(self.fleet()))).unwrap();
        let ids: Vec<LifecycleId> = accepted.all_ids().collect();
        block_on(accepted.run());
        for row in block_on(self.runner.get(&ids)).unwrap() {
            assert_eq!(row.status(), Status::Succeeded, "{row:?}\n{}", self.told());
            self.is_as_it_says(&row);
        }
        self.agrees();
        for status in block_on(self.runner.deckies()).unwrap() {
            assert_eq!(status.health(), Health::Up, "{status}\n{}", self.told());
        }
        assert!(block_on(self.runner.list(&Query::new().open())).unwrap().records.is_empty());
        let down = block_on(self.runner.accept_teardown(TeardownRequest::all())).unwrap();
        block_on(down.run().or(async {
            SystemClock::new().sleep(Duration::from_secs(600)).await;
            panic!("the teardown hangs");
        }));
        assert!(block_on(self.site.engine().found()).unwrap().is_empty(), "{}", self.told());
    }

    fn told(&self) -> String {
        let rows: Vec<String> = self
            .rows
            .iter()
            .map(|((operation, status), count)| format!("{count} {operation} {status}"))
            .collect();
        format!("{}\n{} blows; rows: {}", self.story.join("\n"), self.blows, rows.join(", "))
    }
}

fn words(blow: &[String]) -> Vec<&str> {
    blow.iter().map(String::as_str).collect()
}
