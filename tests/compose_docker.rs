//! The compose engine on a real daemon. Where there is none, or nothing to
//! make an image of, the tests say so and pass; with
//! `DECNET_LIFECYCLE_NEED_DOCKER` set, as in CI, they fail instead.
//! `DECNET_LIFECYCLE_COMPOSE` names the compose tool (`docker`,
//! `docker-compose` or a path); without it, the engine chooses.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use decnet_lifecycle::engine::compose::{ComposeEngine, Health};
use decnet_lifecycle::fleet::DeckyConfig;
use decnet_lifecycle::testkit::engines::{self, Machine};
use decnet_lifecycle::{
    clock::{Clock, SystemClock},
    engine::{CancelToken, Engine, LogLine, LogQuery, NoProgress, Progress, Task, Work},
    store::MemoryStore,
    *,
};
use futures_lite::future::{block_on, poll_once, zip};
use serde_json::{Value, json};

mod containers;

use containers::{IMAGE, Site, docker_says, is_ready};

fn services(names: &[&str]) -> Vec<ServiceName> {
    names.iter().map(|name| ServiceName::parse(name).unwrap()).collect()
}

/// Runs an accepted request, and gives each decky's word for its end.
fn ends(runner: &Runner, accepted: Accepted) -> BTreeMap<String, String> {
    let ids: Vec<LifecycleId> = accepted.ids().values().copied().collect();
    block_on(accepted.run());
    let rows = block_on(runner.get(&ids)).unwrap();
    let word = |row: &Record| row.failure().map_or(row.status().to_string(), Failure::to_string);
    rows.iter().map(|row| (row.decky.to_string(), word(row))).collect()
}

fn all_well(ends: &BTreeMap<String, String>) {
    assert!(ends.values().all(|end| end == "succeeded"), "{ends:#?}");
}

#[test]
fn six_deckies_come_up_answer_change_and_go() {
    if !is_ready() {
        return;
    }
    let site = Site::new("six", 1);
    let fleet = site.fleet(&[&["ssh", "http", "redis"][..]; 6]);
    let runner = site.runner();
    all_well(&ends(&runner, block_on(runner.accept_deploy(DeployRequest::new(fleet.clone()))).unwrap()));
    let reach = |number: u8, port: u16| {
        let address = SocketAddr::from(([172, 29, 1, 10 + number], port));
        TcpStream::connect_timeout(&address, Duration::from_secs(5)).map(drop)
    };
    for number in 1..=6 {
        for port in [22, 80, 6379] {
            reach(number, port).unwrap();
        }
    }
    let engine = site.engine();
    let containers = block_on(engine.running()).unwrap();
    assert_eq!(containers.len(), 24);
    let ssh = containers.iter().find(|container| container.name == "six-1-ssh").unwrap();
    assert_eq!(engine.ports(&fleet, ssh), ["172.29.1.11:22"]);

    // The same deploy again starts nothing anew.
    let before = site.started();
    all_well(&ends(&runner, block_on(runner.accept_deploy(DeployRequest::new(fleet.clone()))).unwrap()));
    assert_eq!(site.started(), before);

    // A mutate touches its decky's changed services only.
    let mutate = MutateRequest::new(site.decky(1), services(&["ssh", "ftp"]));
    all_well(&ends(&runner, block_on(runner.accept_mutate(mutate)).unwrap()));
    let after = site.started();
    assert!(after.contains_key("six-1-ftp") && !after.contains_key("six-1-http"));
    for (name, at) in after.iter().filter(|(name, _)| name.as_str() != "six-1-ftp") {
        assert_eq!(Some(at), before.get(name), "{name} was started again");
    }
    reach(1, 21).unwrap();
    assert!(reach(1, 80).is_err());

    // One goes, then all; the network goes with the last.
    let down = TeardownRequest::new([site.decky(2)]);
    all_well(&ends(&runner, block_on(runner.accept_teardown(down)).unwrap()));
    assert_eq!(block_on(engine.running()).unwrap().len(), 24 - 1 - 4);
    assert!(docker_says(&["network", "inspect", "dl-six-lan"]).is_ok());
    let down = TeardownRequest::all();
    all_well(&ends(&runner, block_on(runner.accept_teardown(down)).unwrap()));
    assert!(block_on(engine.running()).unwrap().is_empty());
    assert!(docker_says(&["network", "inspect", "dl-six-lan"]).is_err());
    assert!(!engine.compose_path().exists());
}

#[test]
fn each_decky_that_cannot_come_up_says_why_and_holds_no_other_back() {
    if !is_ready() {
        return;
    }
    let site = Site::new("why", 2);
    let fleet =
        site.fleet(&[&["http"], &["http", "gone"], &["http", "brief"], &["sick"], &["http"], &["ssh"]]);
    let runner = site.runner();
    // A foreign container sits on the address of the fifth.
    let lan = site.settings.network.as_str();
    docker_says(&["network", "create", "--subnet", "172.29.2.0/24", "--gateway", "172.29.2.1", lan]).unwrap();
    let foreign = [
        "run",
        "-d",
        "--name",
        "why-foreign",
        "--network",
        lan,
        "--ip",
        "172.29.2.15",
        IMAGE,
        "sleep",
        "1000",
    ];
    docker_says(&foreign).unwrap();
    let ends = ends(&runner, block_on(runner.accept_deploy(DeployRequest::new(fleet.clone()))).unwrap());
    assert_eq!((ends["why-1"].as_str(), ends["why-6"].as_str()), ("succeeded", "succeeded"), "{ends:#?}");
    assert!(ends["why-2"].contains("dl.invalid"), "{ends:#?}");
    assert!(ends["why-3"].contains("why-3-brief"), "{ends:#?}");
    assert!(
        ends["why-3"].contains("keeps ending: 5 times, last with code 3: gave up, password=[scrubbed]"),
        "{ends:#?}"
    );
    assert!(ends["why-4"].contains("why-4-sick is unhealthy"), "{ends:#?}");
    assert!(
        ends["why-5"].contains("its address 172.29.2.15 is held by the container why-foreign; stop that"),
        "{ends:#?}"
    );
    let left: Vec<String> = site.started().into_keys().collect();
    assert_eq!(left, ["why-1", "why-1-http", "why-6", "why-6-ssh"], "what failed is still there");
    // A network that is in use is never removed, nor is one of others'.
    let down = TeardownRequest::all();
    all_well(&self::ends(&runner, block_on(runner.accept_teardown(down)).unwrap()));
    assert!(docker_says(&["network", "inspect", lan]).is_ok());

    let mut other: Value = serde_json::from_str(&site.fleet(&[&["http"]]).to_json()).unwrap();
    other["subnet"] = json!("172.29.2.0/25");
    let other = FleetConfig::from_json(other.to_string().as_bytes()).unwrap();
    let ends = self::ends(&runner, block_on(runner.accept_deploy(DeployRequest::new(other))).unwrap());
    assert!(ends["why-1"].contains("the subnet 172.29.2.0/24, the fleet wants 172.29.2.0/25"), "{ends:#?}");
    let unknown = site.fleet(&[&["htttp"]]);
    let refused = block_on(runner.accept_deploy(DeployRequest::new(unknown))).unwrap_err().to_string();
    assert!(refused.contains("did you mean http?"), "{refused}");
}

#[test]
fn two_mutates_at_once_are_both_kept() {
    if !is_ready() {
        return;
    }
    let site = Site::new("two", 3);
    let fleet = site.fleet(&[&["http"], &["http"]]);
    let runner = site.runner();
    all_well(&ends(&runner, block_on(runner.accept_deploy(DeployRequest::new(fleet.clone()))).unwrap()));
    let mutate = |number, names: &[&str]| {
        block_on(runner.accept_mutate(MutateRequest::new(site.decky(number), services(names)))).unwrap()
    };
    let (first, second) = (mutate(1, &["ssh"]), mutate(2, &["redis", "http"]));
    let ids: Vec<LifecycleId> = first.ids().values().chain(second.ids().values()).copied().collect();
    block_on(zip(first.run(), second.run()));
    assert!(block_on(runner.get(&ids)).unwrap().iter().all(|row| row.status() == Status::Succeeded));
    let names: Vec<String> = site.started().into_keys().collect();
    assert_eq!(names, ["two-1", "two-1-ssh", "two-2", "two-2-http", "two-2-redis"]);
    // A mutate that fails leaves what was there.
    let before = site.started();
    let mutate = MutateRequest::new(site.decky(1), services(&["ssh", "brief"]));
    let ends = ends(&runner, block_on(runner.accept_mutate(mutate)).unwrap());
    assert!(ends["two-1"].contains("two-1-brief"), "{ends:#?}");
    assert_eq!(site.started(), before);
}

/// Starts a deploy, and comes back once containers are being made.
fn underway(site: &Site, fleet: &FleetConfig) -> Child {
    let mut child = site.deploy(fleet).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(
        lines.any(|line| line.contains("creating") || line.contains("started")),
        "the deploy made nothing"
    );
    // Somebody must go on reading, or the pipe fills up.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

fn rows(site: &Site) -> Vec<Value> {
    let output = site.command(&["ls", "--limit", "100"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_master_killed_during_up_is_followed_by_one_that_converges() {
    if !is_ready() {
        return;
    }
    let site = Site::new("kill", 4);
    let fleet = site.fleet(&[&["http", "ssh", "redis"][..]; 5]);
    let mut child = underway(&site, &fleet);
    child.kill().unwrap();
    child.wait().unwrap();
    let again = site.deploy(&fleet).output().unwrap();
    let told = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.success(), "{told}\n{}", String::from_utf8_lossy(&again.stdout));
    assert!(told.contains("5 row(s) that an earlier master left open have been failed"), "{told}");
    let rows = rows(&site);
    assert_eq!(rows.iter().filter(|row| row["status"] == "succeeded").count(), 5);
    let restarted =
        rows.iter().filter(|row| row["error"].as_str().is_some_and(|e| e.starts_with("MasterRestarted")));
    assert_eq!(restarted.count(), 5);
    assert_eq!(site.started().len(), 20);
    assert!(site.command(&["teardown", "--yes"]).output().unwrap().status.success());
    assert!(site.started().is_empty());
}

#[test]
fn a_cancel_during_up_ends_the_programs_and_what_they_made() {
    if !is_ready() {
        return;
    }
    let site = Site::new("stop", 5);
    let fleet = site.fleet(&[&["http", "ssh", "redis"][..]; 5]);
    let mut child = underway(&site, &fleet);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let code = child.wait().unwrap().code();
    let rows = rows(&site);
    assert_eq!(rows.len(), 5);
    let up: Vec<&str> = rows
        .iter()
        .filter(|row| row["status"] == "succeeded")
        .map(|row| row["decky"].as_str().unwrap())
        .collect();
    let cancelled =
        rows.iter().filter(|row| row["error"].as_str().is_some_and(|e| e.starts_with("Cancelled"))).count();
    assert_eq!((code, up.len() + cancelled), (Some(130), 5), "{rows:#?}");
    for name in site.started().into_keys() {
        assert!(up.iter().any(|decky| name.starts_with(decky)), "{name} is left of a cancelled deploy");
    }
    let seen = Command::new("pgrep").args(["-f", "dl-stop"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&seen.stdout).trim(), "", "a compose program goes on");
}

#[derive(Debug, Default)]
struct CancelOne(Mutex<Option<(DeckyName, CancelToken)>>);

impl Progress for CancelOne {
    fn note(&self, _: &DeckyName, text: &str) {
        if text.contains("creating")
            && let Some((_, token)) = &*self.0.lock().unwrap()
        {
            token.cancel();
        }
    }
}

#[test]
fn one_cancelled_decky_of_a_batch_leaves_the_others_to_come_up() {
    if !is_ready() {
        return;
    }
    let site = Site::new("one", 6);
    let fleet = Arc::new(site.fleet(&[&["http", "ssh"][..]; 3]));
    let progress = Arc::new(CancelOne::default());
    let deckies: BTreeMap<DeckyName, Task> = fleet
        .names()
        .map(|name| (name.clone(), Task { id: LifecycleId::from_u128(1), cancel: CancelToken::new() }))
        .collect();
    *progress.0.lock().unwrap() = Some((site.decky(2), deckies[&site.decky(2)].cancel.clone()));
    let work = Work { fleet, deckies, clock: Arc::new(SystemClock::new()), progress };
    let report = block_on(site.engine().deploy(&work)).unwrap();
    assert_eq!(report.outcome(&site.decky(2)).unwrap_err().kind(), FailureKind::Cancelled);
    assert!(report.outcome(&site.decky(1)).is_ok() && report.outcome(&site.decky(3)).is_ok());
    let names: Vec<String> = site.started().into_keys().collect();
    assert_eq!(names, ["one-1", "one-1-http", "one-1-ssh", "one-3", "one-3-http", "one-3-ssh"]);
}

#[test]
fn without_a_daemon_rows_fail_and_auto_takes_the_other_engine() {
    if !is_ready() {
        return;
    }
    let site = Site::new("down", 7);
    let fleet = site.fleet(&[&["http"]]);
    let nowhere = ("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let output = site.deploy(&fleet).envs([nowhere]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = rows(&site)[0]["error"].as_str().unwrap().to_owned();
    assert!(error.to_lowercase().contains("docker daemon"), "{error}");

    let output = site.command(&["doctor"]).envs([nowhere]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("systemctl start docker") && told.contains("\"what\":\"daemon\""), "{told}");

    let path = site.dir.path().join("fleet.json");
    let args = [
        "deploy",
        "--catalogue",
        site.dir.path().join("catalogue.json").to_str().unwrap(),
        path.to_str().unwrap(),
    ]
    .map(str::to_owned);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = site.command(&args).envs([nowhere]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && told.contains("engine: process; not compose:"), "{told}");
    // What one engine brought up is not the other's.
    let refused = site.deploy(&fleet).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("runs under the process engine"));
    assert!(site.command(&["teardown", "--yes"]).output().unwrap().status.success());
    // With a daemon, auto takes compose.
    let auto = site.deploy(&fleet);
    let args: Vec<_> = auto
        .get_args()
        .filter(|arg| *arg != "--engine" && *arg != "compose")
        .map(|arg| arg.to_owned())
        .collect();
    let output = Command::new(auto.get_program()).args(args).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && told.contains("engine: compose;"), "{told}");
    assert_eq!(rows(&site)[0]["decoys"]["http"], "172.29.7.11:80");
    // Containers are found by their project: with another, these would be lost.
    let other = site.command(&["deploy", "--project", "dl-other", path.to_str().unwrap()]).output().unwrap();
    let told = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(
        other.status.code() == Some(2) && told.contains("containers of the project dl-down, not of dl-other"),
        "{told}"
    );
    assert!(
        site.command(&["mutate", site.decky(1).as_str(), "--services", "ssh"])
            .output()
            .unwrap()
            .status
            .success()
    );
    assert!(site.command(&["teardown", "--yes"]).output().unwrap().status.success());
    let file = site.command(&["compose-file", path.to_str().unwrap()]).output().unwrap();
    assert!(String::from_utf8_lossy(&file.stdout).contains("\"container_name\": \"down-1-http\""));
}

#[derive(Debug, Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn note(&self, decky: &DeckyName, text: &str) {
        self.0.lock().unwrap().push(format!("{decky}: {text}"));
    }
}

#[test]
fn a_service_is_built_from_its_template_and_a_missing_one_fails_its_decky_only() {
    if !is_ready() {
        return;
    }
    let mut site = Site::new("make", 8);
    site.settings.templates = site.dir.path().join("templates");
    let folder = site.settings.templates.join("http");
    std::fs::create_dir_all(&folder).unwrap();
    let dockerfile = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCMD [\"httpd\", \"-f\", \"-p\", \"80\"]\n";
    std::fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
    let mut fleet: Value = serde_json::from_str(&site.fleet(&[&["http"], &["ssh"]]).to_json()).unwrap();
    for decky in fleet["deckies"].as_array_mut().unwrap() {
        decky["build_base"] = json!(IMAGE);
    }
    let fleet = FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap();
    let progress = Arc::new(Notes::default());
    // The built-in catalogue: `ssh` has no template here.
    let engine = ComposeEngine::new(site.dir.path().join("compose")).settings(site.settings.clone());
    let runner = Runner::builder(Arc::new(MemoryStore::new()), Arc::new(engine))
        .progress(progress.clone())
        .build()
        .unwrap();
    let (runner, _) = block_on(runner.recover()).unwrap();
    let ends = ends(&runner, block_on(runner.accept_deploy(DeployRequest::new(fleet))).unwrap());
    assert_eq!(ends["make-1"], "succeeded", "{ends:#?}");
    assert!(ends["make-2"].contains("templates/ssh isn't there; install DECNET's templates"), "{ends:#?}");
    let notes = progress.0.lock().unwrap().join("\n");
    assert!(notes.contains("make-1: http building") && notes.contains("make-1: up"), "{notes}");
    let address = SocketAddr::from(([172, 29, 8, 11], 80));
    TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
    let _ = docker_says(&["rmi", "-f", "dl-make_make-1-http", "dl-make-make-1-http"]);
}

impl Site {
    /// Whether each service of the fleet answers, from this machine.
    fn unanswered(&self, fleet: &FleetConfig) -> Vec<SocketAddr> {
        let port = |service: &ServiceName| match service.as_str() {
            "ssh" => 22,
            "http" => 80,
            "redis" => 6379,
            other => panic!("no port of {other} is known here"),
        };
        let doors = fleet.deckies.iter().flat_map(|decky| {
            decky.services.iter().map(move |service| SocketAddr::new(decky.ip, port(service)))
        });
        doors.filter(|door| TcpStream::connect_timeout(door, Duration::from_secs(2)).is_err()).collect()
    }

    fn runtime(&self, fleet: &FleetConfig) -> BTreeMap<String, String> {
        let runtime = block_on(self.engine().runtime(fleet)).unwrap();
        runtime.iter().map(|(decky, seen)| (decky.to_string(), seen.to_string())).collect()
    }

    fn brought_up(&self, fleet: &FleetConfig) -> BTreeMap<String, String> {
        let runner = self.runner();
        ends(&runner, block_on(runner.accept_deploy(DeployRequest::new(fleet.clone()))).unwrap())
    }
}

fn docker(words: &str) {
    let words: Vec<&str> = words.split(' ').collect();
    docker_says(&words).unwrap_or_else(|why| panic!("{words:?}: {why}"));
}

/// What a machine does to two deckies that are up: `con-1` with http and
/// redis, `con-2` with http.
const STATES: [(&str, &[&str]); 16] = [
    ("nothing", &[]),
    ("a base restarts", &["restart -t 0 con-1"]),
    ("a base is killed", &["kill con-1"]),
    ("a base ends by itself", &["exec con-1 sh -c kill${IFS}1"]),
    ("a base is removed", &["rm -f con-1"]),
    ("a service is stopped", &["stop -t 0 con-1-http"]),
    ("a service is removed", &["rm -f con-1-redis"]),
    ("bases are removed, services stopped", &["rm -f con-1 con-2", "stop -t 0 con-1-http con-2-http"]),
    ("all are stopped", &["stop -t 0 con-1 con-2 con-1-http con-1-redis con-2-http"]),
    (
        "all are stopped, the network is pruned",
        &["stop -t 0 con-1 con-2 con-1-http con-1-redis con-2-http", "network rm dl-con-lan"],
    ),
    ("a service is paused", &["pause con-1-http"]),
    ("a decky is paused", &["pause con-1 con-1-http con-1-redis"]),
    ("a base leaves the network", &["network disconnect -f dl-con-lan con-2"]),
    ("containers are no longer started again", &["update --restart no con-1 con-2-http", "kill con-2-http"]),
    (
        "the network is another",
        &[
            "rm -f con-2 con-2-http",
            "stop -t 0 con-1 con-1-http con-1-redis",
            "network rm dl-con-lan",
            "network create --label decnet.lifecycle.network=dl-con --subnet 172.29.9.0/25 --gateway 172.29.9.2 dl-con-lan",
        ],
    ),
    ("half of it is gone", &["rm -f con-1-redis con-2", "kill con-1", "pause con-1-http"]),
];

#[test]
fn the_same_deploy_again_converges_from_every_state() {
    if !is_ready() {
        return;
    }
    let site = Site::new("con", 9);
    let fleet = site.fleet(&[&["http", "redis"], &["http"]]);
    all_well(&site.brought_up(&fleet));
    for (state, orders) in STATES {
        for order in orders {
            // What is paused already can't be killed and so on; the next deploy counts.
            let words: Vec<String> = order.split(' ').map(|word| word.replace("${IFS}", " ")).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let told = docker_says(&words);
            assert!(told.is_ok() || words[0] == "pause", "{state}: {words:?}: {told:?}");
        }
        let ends = site.brought_up(&fleet);
        assert!(ends.values().all(|end| end == "succeeded"), "{state}: {ends:#?}");
        assert_eq!(site.unanswered(&fleet), [], "{state}: succeeded, and does not answer");
        for (decky, runtime) in site.runtime(&fleet) {
            assert!(runtime.starts_with("up"), "{state}: {decky} is {runtime}");
        }
        let policies =
            docker_says(&["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", "con-1", "con-2-http"]);
        assert_eq!(policies.unwrap(), "unless-stopped\nunless-stopped", "{state}");
    }
}

#[test]
fn services_that_are_cut_off_are_told_and_a_mutate_of_theirs_brings_them_back() {
    if !is_ready() {
        return;
    }
    let site = Site::new("cut", 10);
    let fleet = site.fleet(&[&["http", "ssh"], &["http"]]);
    all_well(&site.brought_up(&fleet));
    assert_eq!(site.runtime(&fleet)["cut-1"], "up (http running, ssh running)");
    docker("restart -t 0 cut-1");
    assert_eq!(site.runtime(&fleet)["cut-1"], "not up (http cut off, ssh cut off)");
    assert_eq!(site.runtime(&fleet)["cut-2"], "up (http running)");
    let runner = site.runner();
    let mutate = MutateRequest::new(site.decky(1), services(&["http"]));
    all_well(&ends(&runner, block_on(runner.accept_mutate(mutate)).unwrap()));
    let fleet = fleet.with_services(&site.decky(1), services(&["http"])).unwrap();
    assert_eq!(site.unanswered(&fleet), []);
    assert_eq!(site.runtime(&fleet)["cut-1"], "up (http running)");
    docker("rm -f cut-2");
    let found = block_on(site.engine().found()).unwrap();
    assert_eq!(found[&site.decky(2)].to_string(), "not up (http cut off)");
}

#[test]
fn a_service_that_starts_slowly_or_fails_at_first_is_given_time_and_a_deaf_one_is_not_up() {
    if !is_ready() {
        return;
    }
    let mut site = Site::new("slow", 11);
    site.settings.patience = Duration::from_secs(12);
    let fleet = site.fleet(&[&["late"], &["deaf"], &["shaky"]]);
    let ends = site.brought_up(&fleet);
    assert_eq!(ends["slow-1"], "succeeded", "{ends:#?}");
    assert_eq!(ends["slow-3"], "succeeded", "{ends:#?}");
    assert_eq!(ends["slow-2"], "Engine: slow-2-deaf runs, but nothing answers at 172.29.11.12:82 after 12 s");
}

#[test]
fn what_nobody_names_any_more_is_found_and_taken_down_and_the_network_goes_with_the_last() {
    if !is_ready() {
        return;
    }
    let site = Site::new("left", 12);
    let fleet = site.fleet(&[&["http"], &["http"]]);
    all_well(&site.brought_up(&fleet));
    let other = site.fleet(&[&["http"]]);
    let found = block_on(site.engine().found()).unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), [&site.decky(1), &site.decky(2)]);
    let take = |decky: DeckyName| {
        let task = Task { id: LifecycleId::from_u128(1), cancel: CancelToken::new() };
        let deckies = BTreeMap::from([(decky.clone(), task)]);
        let clock = Arc::new(SystemClock::new());
        let work = Work { fleet: Arc::new(other.clone()), deckies, clock, progress: Arc::new(NoProgress) };
        block_on(site.engine().teardown(&work)).unwrap().outcome(&decky).unwrap();
    };
    take(site.decky(2));
    assert_eq!(site.started().into_keys().collect::<Vec<_>>(), ["left-1", "left-1-http"]);
    let file = std::fs::read_to_string(site.engine().compose_path()).unwrap();
    assert!(file.contains("left-1-http") && !file.contains("left-2"), "{file}");
    take(site.decky(1));
    assert!(docker_says(&["network", "inspect", "dl-left-lan"]).is_err());

    // A deploy that brings nothing up leaves nothing.
    let ends = site.brought_up(&site.fleet(&[&["gone"]]));
    assert!(
        ends["left-1"].contains("left-1-gone (image dl.invalid/none:1): "),
        "the image is not named: {ends:#?}"
    );
    assert!(docker_says(&["network", "inspect", "dl-left-lan"]).is_err(), "an empty network is left");
}

#[test]
fn what_others_hold_is_told_with_who_and_doctor_finds_it_first() {
    if !is_ready() {
        return;
    }
    let site = Site::new("held", 13);
    let fleet = site.fleet(&[&["http"], &["http"]]);
    let bad = || -> Vec<String> {
        let findings = block_on(site.engine().examine(Some(&fleet)));
        let is_bad = |one: &&decnet_lifecycle::engine::compose::Finding| one.health == Health::Bad;
        findings.iter().filter(is_bad).map(|one| one.text.clone()).collect()
    };
    let none = Vec::<String>::new();
    assert_eq!(bad(), none);
    docker("network create --subnet 172.29.13.0/25 dl-held-other");
    let (found, ends) = (bad(), site.brought_up(&fleet));
    docker("network rm dl-held-other");
    let overlap = "the network dl-held-other has 172.29.13.0/25, which overlaps 172.29.13.0/24";
    assert!(found.len() == 1 && found[0].contains(overlap), "{found:?}");
    assert!(ends["held-1"].contains(overlap), "{ends:#?}");

    all_well(&site.brought_up(&fleet));
    assert_eq!(bad(), none, "what is up is in nobody's way");
    docker("rm -f held-1 held-1-http held-2-http");
    docker(&format!("run -d --name held-foreign --network dl-held-lan --ip 172.29.13.11 {IMAGE} sleep 1000"));
    docker(&format!("run -d --name held-2-http --label com.docker.compose.project=other {IMAGE} sleep 1000"));
    let (found, ends) = (bad(), site.brought_up(&fleet));
    let told = docker_says(&["inspect", "held-2-http"]);
    let _ = docker_says(&["rm", "-f", "held-2-http"]);
    told.expect("a stranger's container was removed");
    for (decky, why) in [
        ("held-1", "its address 172.29.13.11 is held by the container held-foreign"),
        ("held-2", "the name held-2-http is taken by a container of the project other"),
    ] {
        assert!(found.iter().any(|text| text.contains(why)), "{found:?}");
        assert!(ends[decky].contains(why), "{ends:#?}");
    }
    docker("rm -f held-foreign");
    all_well(&site.brought_up(&fleet));
}

#[test]
fn deckies_that_swap_their_addresses_come_up() {
    if !is_ready() {
        return;
    }
    let site = Site::new("swap", 14);
    let fleet = site.fleet(&[&["http"], &["ssh"]]);
    all_well(&site.brought_up(&fleet));
    let mut swapped: Value = serde_json::from_str(&fleet.to_json()).unwrap();
    swapped["deckies"][0]["ip"] = json!("172.29.14.12");
    swapped["deckies"][1]["ip"] = json!("172.29.14.11");
    let swapped = FleetConfig::from_json(swapped.to_string().as_bytes()).unwrap();
    all_well(&site.brought_up(&swapped));
    assert_eq!(site.unanswered(&swapped), []);
}

/// The deckies of a site, seen from outside: by connecting.
struct Containers(Site);

#[async_trait::async_trait]
impl Machine for Containers {
    async fn clean(&self) {
        self.0.clean();
    }

    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(self.0.engine())
    }

    fn fleet(&self) -> FleetConfig {
        self.0.fleet(&[&["http", "redis"], &["http"], &["ssh"]])
    }

    fn other_services(&self) -> Vec<ServiceName> {
        services(&["redis", "ftp"])
    }

    fn spoilt(&self, fleet: &FleetConfig, decky: &DeckyName) -> Option<FleetConfig> {
        Some(fleet.with_services(decky, services(&["http", "gone"])).unwrap())
    }

    async fn answering(&self, decky: &DeckyConfig) -> BTreeMap<ServiceName, String> {
        let ports = [("ssh", 22), ("http", 80), ("redis", 6379), ("ftp", 21)];
        let started = |name: &str| {
            let container = format!("{}-{name}", decky.name);
            docker_says(&["inspect", "--format", "{{.Id}} {{.State.StartedAt}}", &container]).unwrap()
        };
        let answering = self.0.answering(decky.ip, &ports).into_iter();
        answering.map(|name| (ServiceName::parse(name).unwrap(), started(name))).collect()
    }

    async fn kill(&self, decky: &DeckyName, service: &ServiceName) -> bool {
        docker_says(&["update", "--restart", "no", &format!("{decky}-{service}")]).unwrap();
        docker_says(&["kill", &format!("{decky}-{service}")]).is_ok()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock::new())
    }

    /// Each takes seconds.
    fn drops(&self) -> usize {
        3
    }
}

#[test]
fn the_compose_engine_conforms() {
    if is_ready() {
        block_on(engines::check(&Containers(Site::new("like", 15)))).unwrap();
    }
}

#[test]
fn the_engine_tells_at_once_what_the_daemon_does_and_what_containers_say() {
    if !is_ready() {
        return;
    }
    let site = Site::new("tell", 16);
    let fleet = site.fleet(&[&["talks", "http"]]);
    all_well(&site.brought_up(&fleet));
    let engine = site.engine();
    let mut changed = Box::pin(engine.changed());
    assert!(block_on(poll_once(&mut changed)).is_none());
    // It is listened to a moment after the call, so that one event may be missed.
    let killing = async {
        for _ in 0..60 {
            docker("restart -t 0 tell-1-http");
            SystemClock::new().sleep(Duration::from_millis(500)).await;
        }
        panic!("the daemon told nothing");
    };
    block_on(futures_lite::future::or(changed, killing));
    let heard = Mutex::new(Vec::new());
    let query = LogQuery::new(site.decky(1), Arc::new(SystemClock::new())).tail(2);
    let hear = |line: LogLine| {
        let service = line.service.map_or("-".to_owned(), |service| service.to_string());
        heard.lock().unwrap().push(format!("{service}: {}", line.text));
    };
    block_on(site.runner().logs(&query.clone().service(Some(services(&["talks"]).remove(0))), &hear))
        .unwrap();
    assert_eq!(*heard.lock().unwrap(), ["talks: two", "talks: three"]);
    let none =
        block_on(site.runner().logs(&LogQuery::new(site.decky(9), Arc::new(SystemClock::new())), &hear));
    assert!(none.unwrap_err().message().contains("it has no container here, of tell-9"));
}
