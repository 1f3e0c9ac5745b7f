//! The compose engine against a program that does what real ones seldom do.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use decnet_lifecycle::engine::compose::{Catalogue, ComposeEngine, ComposeSettings, NetworkDriver};
use decnet_lifecycle::{
    clock::SystemClock,
    engine::{CancelToken, Engine, Progress, Task, Work},
    *,
};
use futures_lite::FutureExt as _;
use futures_lite::future::{block_on, poll_once};

/// Answers as a daemon with one decky, `one`, that comes up; `$HERE/up` may
/// do something else instead.
const FAKE: &str = r#"#!/bin/sh
HERE=$(dirname "$0")
echo "$*" >> "$HERE/calls"
case "$1 $2" in
"compose version") echo 2.40.3 ;;
"network inspect")
  echo '[{"Name":"decnet_lan","Id":"net-1","Driver":"bridge","IPAM":{"Config":[{"Subnet":"10.9.0.0/24","Gateway":"10.9.0.1"}]},"Options":{},"Labels":{},"Containers":{}}]' ;;
"compose -p") . "$HERE/up" ;;
"ps --all") cat "$HERE/ps" 2>/dev/null || true ;;
"inspect --type") echo x >> "$HERE/looks"; sed "s/LOOK/$(wc -l < "$HERE/looks")/" "$HERE/inspect" ;;
"logs --tail") echo "last words, token=hunter2" ;;
"rm --force") : > "$HERE/ps" ;;
"restart -t") . "$HERE/restart" ;;
"unpause --" | "update --restart") ;;
*) echo "what is $*?" >&2; exit 64 ;;
esac
"#;

const COMES_UP: &str = r#"cp "$HERE/ps.up" "$HERE/ps""#;

struct Fake {
    dir: tempfile::TempDir,
    settings: ComposeSettings,
    notes: Arc<Notes>,
    /// Of the base, and of the service.
    images: [String; 2],
}

#[derive(Debug, Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn note(&self, decky: &DeckyName, text: &str) {
        self.0.lock().unwrap().push(format!("{decky}: {text}"));
    }
}

impl Fake {
    fn new(up: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = ComposeSettings::default();
        settings.program = Some(dir.path().join("docker"));
        settings.driver = Some(NetworkDriver::Bridge);
        settings.settle = Duration::from_millis(1);
        settings.backoff = Duration::from_millis(1);
        settings.grace = Duration::from_millis(100);
        settings.patience = Duration::from_secs(20);
        let images = ["x", "x"].map(str::to_owned);
        let fake = Self { dir, settings, notes: Arc::default(), images };
        fake.write("docker.text", FAKE);
        // Written by another process: a child that some other test forks just
        // now would hold a file of ours open, and the kernel runs no program
        // that is open for writing.
        let paths = [fake.path("docker.text"), fake.path("docker")];
        assert!(Command::new("install").args(["-m", "755"]).args(paths).status().unwrap().success());
        fake.write("up", up);
        fake.write("ps.up", &format!("{}\n{}\n", listed("one", None), listed("one-ssh", Some("ssh"))));
        fake.write(
            "inspect",
            &format!("[{},{}]", inspected("one", "running"), inspected("one-ssh", "running")),
        );
        fake
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn engine(&self) -> ComposeEngine {
        let own = serde_json::json!({"services": {"ssh": {"image": self.images[1]}, "http": {"image": "x"}}});
        ComposeEngine::new(self.path("engine"))
            .settings(self.settings.clone())
            .catalogue(Catalogue::builtin().with_json(own.to_string().as_bytes()).unwrap())
    }

    fn work(&self) -> Work {
        let fleet = serde_json::json!({"mode": "unihost", "interface": "eth0", "subnet": "10.9.0.0/24",
            "gateway": "10.9.0.1", "deckies": [{"name": "one", "ip": "10.9.0.2", "services": ["ssh"],
            "distro": "debian", "base_image": self.images[0], "hostname": "one"}]});
        let fleet = FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap();
        let task = Task { id: LifecycleId::from_u128(1), cancel: CancelToken::new() };
        Work {
            fleet: Arc::new(fleet),
            deckies: BTreeMap::from([(one(), task)]),
            clock: Arc::new(SystemClock::new()),
            progress: self.notes.clone(),
        }
    }

    fn deploy(&self) -> Result<(), Failure> {
        let work = self.work();
        block_on(self.engine().deploy(&work))?.outcome(&one())
    }

    fn failure(&self) -> String {
        self.deploy().unwrap_err().to_string()
    }
}

fn one() -> DeckyName {
    DeckyName::parse("one").unwrap()
}

fn listed(name: &str, service: Option<&str>) -> String {
    let service = service.map(|name| format!(",decnet.fleet.service_name={name}")).unwrap_or_default();
    let labels = format!("com.docker.compose.project=decnet,decnet.fleet.decky=one{service}");
    serde_json::json!({"ID": format!("id-{name}"), "Names": name, "State": "running", "Labels": labels})
        .to_string()
}

fn inspected(name: &str, state: &str) -> String {
    let joins = if name == "one" { "decnet_lan" } else { "container:id-one" };
    let place = serde_json::json!({"NetworkID": "net-1", "IPAddress": "10.9.0.2"});
    let networks =
        if name == "one" { serde_json::json!({"decnet_lan": place}) } else { serde_json::json!({}) };
    serde_json::json!({"Id": format!("id-{name}"), "Name": format!("/{name}"), "RestartCount": 0,
        "State": {"Status": state, "StartedAt": "2026-11-24T00:00:00Z", "ExitCode": 7, "Error": "", "Pid": 0},
        "HostConfig": {"NetworkMode": joins, "RestartPolicy": {"Name": "unless-stopped"}},
        "NetworkSettings": {"Networks": networks}})
    .to_string()
}

/// Whether a process that wrote its id to a file is alive.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z')
}

/// Waits for a condition that must come true by itself.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("never: {what}");
}

#[test]
fn a_decky_comes_up_and_the_program_sees_only_what_it_needs() {
    let fake = Fake::new(&format!(r#"env > "$HERE/env"; cat > "$HERE/stdin"; {COMES_UP}"#));
    fake.deploy().unwrap();
    assert!(fake.notes.0.lock().unwrap().contains(&"one: up".to_owned()));
    let calls = fake.read("calls");
    let file = fake.path("engine/compose.yml");
    assert!(calls.contains(&format!("compose -p decnet -f {} up -d --build\n", file.display())), "{calls}");
    assert_eq!(fake.read("stdin"), "");
    for line in fake.read("env").lines() {
        let name = line.split('=').next().unwrap();
        let known =
            ["PATH", "HOME", "TMPDIR", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_", "SSH_AUTH_SOCK", "HERE"];
        let known = known.contains(&name)
            || ["DOCKER_", "COMPOSE_", "XDG_", "BUILDKIT_"].iter().any(|p| name.starts_with(p));
        assert!(known, "{line}");
    }
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(fake.path("engine")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_program_that_hangs_and_ignores_term_is_gone_with_its_children() {
    let mut fake = Fake::new(
        r#"trap '' TERM; sh -c 'trap "" TERM; echo $$ > "$0/child"; while :; do sleep 1; done' "$HERE" &
           echo "pulling forever" >&2; echo $$ > "$HERE/leader"; while :; do sleep 1; done"#,
    );
    fake.settings.up_within = Duration::from_millis(500);
    let said = fake.failure();
    assert!(said.contains("did not end within") && said.ends_with("it last said: pulling forever"), "{said}");
    for name in ["leader", "child"] {
        let pid = fake.read(name);
        assert!(!pid.is_empty());
        until("it is gone", || !lives(&pid));
    }
}

#[test]
fn a_dropped_call_leaves_no_process_and_no_lock_behind() {
    let fake = Fake::new(
        r#"sh -c 'echo $$ > "$0/child"; while :; do sleep 1; done' "$HERE" & echo $$ > "$HERE/leader"; wait"#,
    );
    let (engine, work) = (fake.engine(), fake.work());
    let mut call = engine.deploy(&work);
    block_on(async {
        let started = async {
            while fake.read("child").is_empty() || fake.read("leader").is_empty() {
                work.clock.sleep(Duration::from_millis(5)).await;
            }
        };
        (async { drop((&mut call).await) }).or(started).await;
    });
    drop(call);
    for name in ["leader", "child"] {
        let pid = fake.read(name);
        until("it is gone", || !lives(&pid));
    }
    assert!(!fake.path("engine/compose.yml").exists(), "the file says what never came about");
    fake.write("up", COMES_UP);
    fake.deploy().unwrap();
}

#[test]
fn a_flood_of_output_costs_little_memory() {
    let peak = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = peak();
    let fake = Fake::new(
        r#"head -c 1000000000 /dev/zero; yes "no such image: flood" | head -c 73741824 >&2; exit 1"#,
    );
    assert_eq!(fake.failure(), "Engine: no such image: flood");
    assert!(peak() - before < 256 << 10, "{} KiB more at the peak", peak() - before);
}

#[test]
fn exit_code_zero_is_no_evidence() {
    let fake = Fake::new(COMES_UP);
    fake.write("inspect", &format!("[{},{}]", inspected("one", "running"), inspected("one-ssh", "exited")));
    assert_eq!(fake.failure(), "Engine: one-ssh ended with code 7: last words, token=[scrubbed]");
    // What it left is removed again.
    assert!(fake.read("calls").contains("rm --force --volumes -- id-one-ssh"));
    assert!(!fake.read("ps").contains("one"));

    let said = Fake::new("true").failure();
    assert!(said.contains("one was not made"), "{said}");
}

/// The service as it is after so many looks: `LOOK` stands for their number.
fn at_each_look(state: &str, change: impl Fn(&mut serde_json::Value)) -> String {
    let mut service: serde_json::Value = serde_json::from_str(&inspected("one-ssh", state)).unwrap();
    change(&mut service);
    format!("[{},{}]", inspected("one", "running"), service.to_string().replace("\"LOOK\"", "LOOK"))
}

#[test]
fn a_container_that_keeps_ending_is_given_up_with_how_often_and_what_code() {
    let fake = Fake::new(COMES_UP);
    // It has ended once more at each look, and is about to be started again.
    fake.write("inspect", &at_each_look("restarting", |service| service["RestartCount"] = "LOOK".into()));
    assert_eq!(
        fake.failure(),
        "Engine: one-ssh keeps ending: 5 times, last with code 7: last words, token=[scrubbed]"
    );

    // It runs at every look, and was started anew before each.
    let mut fake = Fake::new(COMES_UP);
    fake.settings.patience = Duration::from_millis(300);
    // However long a look takes on a busy machine, no two see the same start.
    let anew =
        |service: &mut serde_json::Value| service["State"]["StartedAt"] = "2026-11-24T00:00:00.LOOKZ".into();
    fake.settings.settle = Duration::from_secs(1);
    fake.write("inspect", &at_each_look("running", anew));
    let said = fake.failure();
    assert!(said.contains("one has not stayed up after 0 s"), "{said}");
}

#[test]
fn a_service_that_fails_at_first_and_then_stands_is_up() {
    let fake = Fake::new(COMES_UP);
    fake.write("inspect", &at_each_look("restarting", |service| service["RestartCount"] = 1.into()));
    let (engine, work) = (fake.engine(), fake.work());
    let report = block_on(async {
        let stands = async {
            while fake.read("looks").lines().count() < 2 {
                work.clock.sleep(Duration::from_millis(5)).await;
            }
            let service = at_each_look("running", |service| service["RestartCount"] = 1.into());
            fs::write(fake.path("inspect.new"), service).unwrap();
            fs::rename(fake.path("inspect.new"), fake.path("inspect")).unwrap();
            std::future::pending().await
        };
        engine.deploy(&work).or(stands).await.unwrap()
    });
    report.outcome(&one()).unwrap();
}

/// The service as it is when its base was started after it.
fn left_behind() -> String {
    let base = inspected("one", "running").replace("2026-11-24T00:00:00Z", "2026-11-24T00:00:05.5Z");
    format!("[{base},{}]", inspected("one-ssh", "running"))
}

#[test]
fn services_of_a_base_that_was_taken_off_its_network_are_cut_off() {
    let fake = Fake::new(COMES_UP);
    fake.write("ps", &fake.read("ps.up"));
    let mut base: serde_json::Value = serde_json::from_str(&inspected("one", "running")).unwrap();
    let mut told = |networks: Option<serde_json::Value>| {
        if let Some(networks) = networks {
            base["NetworkSettings"]["Networks"] = networks;
        }
        fake.write("inspect", &format!("[{base},{}]", inspected("one-ssh", "running")));
        block_on(fake.engine().runtime(&fake.work().fleet)).unwrap()[&one()].to_string()
    };
    assert_eq!(told(None), "up (ssh running)");
    assert_eq!(told(Some(serde_json::json!({}))), "not up (ssh cut off)");
}

#[test]
fn a_service_whose_base_was_started_after_it_is_cut_off_and_made_to_join_it_again() {
    let fake = Fake::new(COMES_UP);
    fake.write("inspect", &left_behind());
    fake.write("ps", &fake.read("ps.up"));
    let runtime = block_on(fake.engine().runtime(&fake.work().fleet)).unwrap();
    assert_eq!(runtime[&one()].to_string(), "not up (ssh cut off)");

    let joined = inspected("one-ssh", "running").replace("2026-11-24T00:00:00Z", "2026-11-24T00:00:06Z");
    fake.write("inspect.joined", &left_behind().replace(&inspected("one-ssh", "running"), &joined));
    fake.write("restart", r#"cp "$HERE/inspect.joined" "$HERE/inspect""#);
    fake.deploy().unwrap();
    assert!(fake.read("calls").contains("restart -t 1 -- id-one-ssh\n"), "{}", fake.read("calls"));
    let runtime = block_on(fake.engine().runtime(&fake.work().fleet)).unwrap();
    assert_eq!(runtime[&one()].to_string(), "up (ssh running)");

    // A daemon whose clock went back: what was restarted has joined all the same.
    let fake = Fake::new(COMES_UP);
    fake.write("inspect", &left_behind());
    fake.write("restart", "true");
    fake.deploy().unwrap();
    assert_eq!(fake.read("calls").matches("restart -t 1").count(), 1);
}

#[test]
fn a_service_that_was_made_for_another_base_is_made_anew() {
    let fake = Fake::new(COMES_UP);
    let alien = inspected("one-ssh", "running").replace("container:id-one", "container:id-of-old");
    fake.write("inspect", &format!("[{},{alien}]", inspected("one", "running")));
    fake.write("ps", &fake.read("ps.up"));
    let said = fake.failure();
    // Removed before `up`, and, as this `up` makes it no better, after it.
    assert!(said.contains("one-ssh is cut off: it was made for an earlier one; deploy again"), "{said}");
    assert!(fake.read("calls").contains("rm --force --volumes -- id-one-ssh\n"), "{}", fake.read("calls"));
}

#[test]
fn answers_that_cannot_be_read_are_unverified() {
    for (file, text) in
        [("ps.up", r#"{"ID": "x", "Na"#), ("ps.up", "[1, 2]"), ("inspect", r#"[{"Name": "one"#)]
    {
        let fake = Fake::new(COMES_UP);
        fake.write(file, text);
        let said = fake.failure();
        assert!(said.starts_with("Engine: unverified"), "{file}: {said}");
    }
}

#[test]
fn a_third_try_may_succeed_and_what_cannot_heal_is_tried_once() {
    let fake = Fake::new(&format!(
        r#"echo x >> "$HERE/tries"; [ $(wc -l < "$HERE/tries") -ge 3 ] || {{ echo "ERROR: i/o timeout" >&2; exit 1; }}; {COMES_UP}"#
    ));
    fake.deploy().unwrap();
    assert_eq!(fake.read("tries").lines().count(), 3);
    assert!(
        fake.notes
            .0
            .lock()
            .unwrap()
            .iter()
            .any(|note| note.contains("trying again") && note.contains("i/o timeout"))
    );

    for line in
        ["manifest unknown", "pull access denied for x", "Address already in use", "No such service: x"]
    {
        let fake = Fake::new(&format!(
            r#"echo x >> "$HERE/tries"; echo "noise"; echo "ERROR: {line}" >&2; echo "more" >&2; exit 1"#
        ));
        assert_eq!(fake.failure(), format!("Engine: {line}"));
        assert_eq!(fake.read("tries").lines().count(), 1, "{line}");
    }
}

/// What docker-compose 1.29.2 (v1) and docker compose 2.26.1 (v2) really said,
/// on Docker 20.10; names and addresses are changed.
#[test]
fn what_tools_complain_of_is_told_with_its_reason() {
    let all: Vec<serde_json::Value> =
        serde_json::from_slice(include_bytes!("data/compose-said.json")).unwrap();
    let mut wrong = Vec::new();
    for one in &all {
        let text = |field: &str| one[field].as_str().unwrap_or_default();
        let mut fake = Fake::new(r#"cat "$HERE/said.err" >&2; cat "$HERE/said.out"; exit 1"#);
        fake.write("said.err", text("stderr"));
        fake.write("said.out", text("stdout"));
        for (image, field) in fake.images.iter_mut().zip(["base_image", "image"]) {
            if !text(field).is_empty() {
                *image = text(field).to_owned();
            }
        }
        let said = fake.failure();
        if said != format!("Engine: {}", text("says")) {
            wrong.push(format!("{} {}: {said}", text("name"), text("tool")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(all.len() >= 60);
}

#[test]
fn notes_are_scrubbed_and_a_build_is_told() {
    let fake = Fake::new(&format!(
        r#"echo '#5 [one-ssh 2/2] RUN make'; echo 'Error: i/o timeout, token=hunter2' >&2; [ -e "$HERE/tried" ] && {{ {COMES_UP}; exit 0; }}; : > "$HERE/tried"; exit 1"#
    ));
    fake.deploy().unwrap();
    let notes = fake.notes.0.lock().unwrap().join("\n");
    assert!(notes.contains("one: ssh building") && notes.contains("token=[scrubbed]"), "{notes}");
    assert!(!notes.contains("hunter2"), "{notes}");
}

/// A fleet of `one` and `two`, of which the tool refuses the file for as long
/// as `two` is in it.
fn with_two(fake: &Fake) -> Work {
    let mut work = fake.work();
    let mut fleet: serde_json::Value = serde_json::from_str(&work.fleet.to_json()).unwrap();
    let mut two = fleet["deckies"][0].clone();
    (two["name"], two["ip"]) = ("two".into(), "10.9.0.3".into());
    fleet["deckies"].as_array_mut().unwrap().push(two);
    work.fleet = Arc::new(FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap());
    let task = Task { id: LifecycleId::from_u128(2), cancel: CancelToken::new() };
    work.deckies.insert(two_(), task);
    work
}

fn two_() -> DeckyName {
    DeckyName::parse("two").unwrap()
}

#[test]
fn a_decky_for_which_the_tool_refuses_the_whole_file_is_taken_out_of_it() {
    for complaint in [
        "validating /srv/compose.yml: services.two-ssh.cap_add must be a list",
        "The file is invalid because:\nservices.two.image contains an invalid type",
        // It doesn't say which one.
        "yaml: line 3: mapping values are not allowed in this context",
    ] {
        let fake = Fake::new(&format!(
            r#"if grep -q '"two"' "$HERE/engine/compose.yml"; then echo "{complaint}" >&2; exit 15; fi; {COMES_UP}"#
        ));
        let work = with_two(&fake);
        let report = block_on(fake.engine().deploy(&work)).unwrap();
        assert_eq!(report.outcome(&one()), Ok(()), "{complaint}");
        let said = report.outcome(&two_()).unwrap_err().to_string();
        assert_eq!(said, format!("Engine: {}", complaint.lines().last().unwrap()));
        let file = fake.read("engine/compose.yml");
        assert!(file.contains("one-ssh") && !file.contains("\"two"), "{file}");
    }
}

#[test]
fn a_secret_on_stderr_does_not_reach_the_row() {
    let fake = Fake::new(
        r#"printf '\033[31mError\033[0m: not found, --password hunter2 https://u:hunter2@reg/ %s\n' "$*" >&2; exit 1"#,
    );
    let said = fake.failure();
    assert!(
        said.contains("Error: not found") && !said.contains("hunter2") && !said.contains('\u{1b}'),
        "{said}"
    );
}

#[test]
fn two_calls_on_one_project_take_turns_and_say_so() {
    let fake = Fake::new(&format!(
        r#"echo in >> "$HERE/turns"; while [ ! -e "$HERE/go" ]; do sleep 0.02; done; echo out >> "$HERE/turns"; {COMES_UP}"#
    ));
    // Two engines, as two processes would have them.
    let (first, second) = (fake.engine(), fake.engine());
    let (work, other) = (fake.work(), fake.work());
    let waits = |note: &String| note.contains("waits: the project is held by process");
    block_on(async {
        let both = futures_lite::future::zip(first.deploy(&work), second.deploy(&other));
        let go = async {
            while !fake.notes.0.lock().unwrap().iter().any(waits) {
                work.clock.sleep(Duration::from_millis(5)).await;
            }
            fake.write("go", "");
            std::future::pending::<()>().await;
        };
        let (one, two) = both
            .or(async {
                go.await;
                unreachable!()
            })
            .await;
        assert!(one.is_ok() && two.is_ok());
    });
    assert_eq!(fake.read("turns"), "in\nout\nin\nout\n");
}

#[test]
fn a_program_that_outlives_its_master_still_keeps_others_out() {
    let fake = Fake::new(
        r#"exec 3<&0; sh -c 'echo $$ > "$0/child"; while [ ! -e "$0/go" ]; do sleep 0.02; done' "$HERE" <&3 >/dev/null 2>&1 &
           while [ ! -s "$HERE/child" ]; do sleep 0.02; done; cp "$HERE/ps.up" "$HERE/ps""#,
    );
    // The call ends well, and a child of its program goes on with its input
    // (which a shell takes away from what it puts in the background).
    fake.deploy().unwrap();
    assert!(lives(&fake.read("child")));
    fake.write("up", COMES_UP);
    let (engine, work) = (fake.engine(), fake.work());
    let mut call = engine.deploy(&work);
    block_on(async {
        while !fake.notes.0.lock().unwrap().iter().any(|note| note.contains("waits: the project is held")) {
            assert!(poll_once(&mut call).await.is_none());
            work.clock.sleep(Duration::from_millis(5)).await;
        }
        fake.write("go", "");
        call.await.unwrap().outcome(&one()).unwrap();
    });
}

#[test]
fn a_cancelled_decky_stops_the_program_and_its_containers_go() {
    let fake =
        Fake::new(r#"cp "$HERE/ps.up" "$HERE/ps"; echo $$ > "$HERE/leader"; while :; do sleep 0.1; done"#);
    let (engine, work) = (fake.engine(), fake.work());
    let report = block_on(async {
        let cancel = async {
            while fake.read("leader").is_empty() {
                work.clock.sleep(Duration::from_millis(5)).await;
            }
            work.deckies[&one()].cancel.cancel();
            std::future::pending().await
        };
        engine.deploy(&work).or(cancel).await.unwrap()
    });
    assert_eq!(report.outcome(&one()).unwrap_err().kind(), FailureKind::Cancelled);
    let pid = fake.read("leader");
    assert!(!lives(&pid));
    assert!(fake.read("calls").contains("rm --force"));
}

#[test]
fn a_failed_mutate_puts_the_compose_file_back() {
    let fake = Fake::new(COMES_UP);
    fake.deploy().unwrap();
    let before = fake.read("engine/compose.yml");
    fake.write("up", "echo 'pull access denied' >&2; exit 1");
    let mut work = fake.work();
    let services = vec![ServiceName::parse("ssh").unwrap(), ServiceName::parse("http").unwrap()];
    work.fleet = Arc::new(work.fleet.with_services(&one(), services).unwrap());
    let report = block_on(fake.engine().mutate(&work)).unwrap();
    assert!(report.outcome(&one()).is_err());
    assert_eq!(fake.read("engine/compose.yml"), before);
    // The old containers are there still.
    assert!(fake.read("ps").contains("one-ssh"));
}

#[test]
fn no_tool_and_a_network_that_differs_are_told_with_what_to_do() {
    let mut fake = Fake::new(COMES_UP);
    fake.settings.driver = Some(NetworkDriver::Ipvlan);
    let said = fake.failure();
    assert!(said.contains("the driver bridge, the fleet wants ipvlan"), "{said}");
    fake.settings.program = Some(fake.path("nothing"));
    let said = fake.failure();
    assert!(
        said.contains("no compose tool answers") && said.contains("install the docker compose plugin"),
        "{said}"
    );
    let findings = block_on(fake.engine().examine(None));
    assert_eq!(findings[0].health, decnet_lifecycle::engine::compose::Health::Bad);
}

#[test]
fn the_tool_is_called_by_its_keys_and_containers_are_found_by_their_names() {
    let fake = Fake::new(COMES_UP);
    let listed = [listed("one", None), listed("one-docker-api", Some("docker_api"))];
    fake.write("ps.up", &listed.join("\n"));
    let inspected = [inspected("one", "running"), inspected("one-docker-api", "running")];
    fake.write("inspect", &format!("[{}]", inspected.join(",")));
    let mut work = fake.work();
    let service = |name: &str| ServiceName::parse(name).unwrap();
    let mut fleet = FleetConfig::clone(&work.fleet);
    let mut other = fleet.deckies[0].clone();
    other.name = DeckyName::parse("two").unwrap();
    other.services = vec![service("ssh")];
    fleet.deckies[0].services = vec![service("docker_api"), service("sniffer")];
    let settings = serde_json::json!({"docker_api": {"banner": "x"}});
    fleet.deckies[0].service_config = serde_json::from_value(settings).unwrap();
    fleet.deckies.push(other);
    work.fleet = Arc::new(fleet);
    let own = br#"{"services": {"ssh": {"image": "x"}, "docker_api": {"image": "x"}}}"#;
    let engine = fake.engine().catalogue(Catalogue::builtin().with_json(own).unwrap());
    block_on(engine.deploy(&work)).unwrap().outcome(&one()).unwrap();
    let calls = fake.read("calls");
    let up = calls.lines().find(|call| call.contains(" up ")).unwrap();
    assert!(up.ends_with(" one one-docker_api"), "{up}");
    // What was left out is told, and keeps no decky from counting as running.
    let notes = fake.notes.0.lock().unwrap().join("\n");
    assert!(
        notes.contains("sniffer gets no container") && notes.contains("docker_api has no such setting"),
        "{notes}"
    );
    let seen = block_on(engine.runtime(&work.fleet)).unwrap();
    assert!(seen[&one()].running, "{seen:?}");
}
