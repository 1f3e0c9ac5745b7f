//! An operator's day at the program: what is asked once more, taken back, and
//! for several deckies at once.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

mod processes;

use processes::{Data, Process};

/// A fleet of `(name, services)`, with settings of services by their names.
fn fleet(deckies: &[(&str, &[&str])], settings: &Value) -> Value {
    let deckies: Vec<Value> = deckies
        .iter()
        .enumerate()
        .map(|(place, (name, services))| {
            json!({"name": name, "ip": format!("10.1.0.{}", 10 + place), "services": services,
                   "distro": "debian", "base_image": "debian:12", "hostname": name, "service_config": settings})
        })
        .collect();
    json!({"mode": "unihost", "interface": "eth0", "subnet": "10.1.0.0/24", "gateway": "10.1.0.1",
           "deckies": deckies})
}

fn jsons(data: &Data, args: &[&str]) -> Vec<Value> {
    let out = data.ok(&[&["--json"], args].concat());
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `decky: services` of what is placed.
fn placed(data: &Data) -> Vec<String> {
    let one = |decky: &Value| {
        let services = decky["services"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
        format!("{}: {}", decky["decky"].as_str().unwrap(), services.collect::<Vec<_>>().join(","))
    };
    jsons(data, &["ps"]).iter().map(one).collect()
}

/// Runs each of a test's steps twice over: with a master for each command, and
/// with one that stays.
fn both_ways(test: impl Fn(&Data)) {
    test(&Data::new());
    let data = Data::new();
    let _master = Process::master(&data, &["--engine", "process"]);
    test(&data);
}

#[test]
fn several_deckies_are_changed_at_once_and_changes_are_taken_back() {
    both_ways(|data| {
        let up =
            data.file("f.json", &fleet(&[("a", &["ssh"]), ("b", &["ftp"]), ("c", &["ssh"])], &json!({})));
        data.ok(&["deploy", &up]);
        data.ok(&["mutate", "a", "b", "--add", "redis,ssh"]);
        assert_eq!(placed(data), ["a: ssh,redis", "b: ftp,redis,ssh", "c: ssh"]);
        data.ok(&["mutate", "a", "b", "--remove", "ssh", "--add", "smtp"]);
        assert_eq!(placed(data), ["a: redis,smtp", "b: ftp,redis,smtp", "c: ssh"]);
        let (_, told) = data.ends(2, &["mutate", "a", "b", "--remove", "ftp"]);
        assert!(told.contains("a has no ftp to remove; it has redis, smtp"), "{told}");

        data.ok(&["undo", "a", "b"]);
        assert_eq!(placed(data), ["a: ssh,redis", "b: ftp,redis,ssh", "c: ssh"]);
        data.ok(&["undo", "a"]);
        assert_eq!(placed(data)[0], "a: redis,smtp", "once more, and it is undone");
        let (_, told) = data.ends(2, &["undo", "c"]);
        assert!(told.contains("nothing to undo of c: its last change was a deploy"), "{told}");
        assert!(data.refused(&["undo", "nobody"]).contains("no row of it has succeeded"));
        let told = data.refused(&["mutate", "a", "b", "--services", "ssh", "--key", "k"]);
        assert!(told.contains("a key names one request, and this is 2 of them"), "{told}");

        // What is refused of several keeps the others back not.
        let (out, told) = data.ends(2, &["mutate", "c", "nobody", "--services", "ftp"]);
        assert!(told.contains("there is no decky nobody") && out.contains("1 succeeded"), "{out}\n{told}");
        assert_eq!(placed(data)[2], "c: ftp");

        data.ok(&["teardown", "a", "b"]);
        assert_eq!(placed(data), ["c: ftp"]);
        let ids: Vec<String> =
            jsons(data, &["ls"]).iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
        let closed = jsons(data, &["cancel", "a", "b", &ids[0]]);
        assert!(closed.len() >= 2 && closed.iter().all(|one| one["outcome"] == "closed"), "{closed:?}");
    });
}

#[test]
fn what_failed_is_done_once_more() {
    both_ways(|data| {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let settings = json!({"http": {"port": port}});
        let up = data.file("f.json", &fleet(&[("a", &["ssh", "http"]), ("b", &["ssh"])], &settings));
        data.ends(1, &["deploy", &up]);
        assert_eq!(placed(data), ["b: ssh"]);
        std::fs::remove_file(&up).unwrap();
        data.ends(1, &["retry", "--failed"]);
        let (_, told) = data.ends(2, &["retry", "b"]);
        assert!(told.contains("its newest row, a deploy, is succeeded"), "{told}");
        drop(taken);
        let (out, _) = data.ends(0, &["retry", "--failed"]);
        assert!(out.contains("1 succeeded, 0 failed"), "{out}");
        assert_eq!(placed(data), ["a: ssh,http", "b: ssh"]);
        let kept: Value = serde_json::from_str(&data.ok(&["export", "--state"])).unwrap();
        assert_eq!(kept["config"]["deckies"][0]["service_config"], settings);
        assert!(data.refused(&["retry", "--failed"]).contains("there is nothing to retry"));

        // A mutate that was put back; what runs is as it was.
        data.ok(&["mutate", "a", "--remove", "http"]);
        let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        data.ends(1, &["mutate", "a", "b", "--add", "http"]);
        assert_eq!(placed(data), ["a: ssh", "b: ssh"]);
        drop(taken);
        data.ends(0, &["retry", "b"]);
        assert_eq!(placed(data), ["a: ssh", "b: ssh,http"]);
        data.ok(&["teardown", "b"]);
        data.ends(0, &["retry", "--failed"]);
        assert_eq!(placed(data), ["a: ssh,http"]);
    });
}

#[test]
fn what_failed_for_a_worker_goes_to_it_once_more() {
    let data = Data::with_hosts(&["w1"]);
    let mut swarm = fleet(&[("a", &["ssh"])], &json!({}));
    swarm["mode"] = json!("swarm");
    swarm["deckies"][0]["host_uuid"] = json!("w1");
    let mut master = Process::master(&data, &["--engine", "process"]);
    let (out, _) = data.ends(1, &["deploy", &data.file("f.json", &swarm)]);
    assert!(out.contains("Unreachable: host w1: agent not reached"), "{out}");
    master.kill();
    let (_, told) = data.ends(2, &["retry", "--failed"]);
    assert!(told.contains("a is for a worker host, whose beats only a running master hears"), "{told}");
    let master = Process::master(&data, &["--engine", "process"]);
    let beats = master.address("swarm").to_string();
    let _worker = Process::start(&data, &["worker", "w1", "--master", &beats, "--beat-every", "1s"]);
    data.ok(&["retry", "--failed"]);
    assert_eq!(placed(&data), ["a: ssh"]);
    data.ok(&["mutate", "a", "--add", "ftp"]);
    data.ok(&["undo", "a"]);
    assert_eq!(
        (placed(&data), jsons(&data, &["ps"])[0]["host"].clone()),
        (vec!["a: ssh".to_owned()], json!("w1"))
    );
}

/// Runs a command on a terminal, and answers its question.
fn on_a_terminal(data: &Data, args: &str, answer: &str) -> (Option<i32>, String) {
    let program = env!("CARGO_BIN_EXE_decnet-lifecycle");
    let command = format!("{program} --data {} {args}", data.path("").display());
    let mut script = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env_remove("NO_COLOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    script.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
    let output = script.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn all_is_taken_down_only_by_who_means_it() {
    let data = Data::new();
    let up = data.file("f.json", &fleet(&[("a", &["ssh"]), ("b", &["ftp"])], &json!({})));
    data.ok(&["deploy", &up, "--engine", "process"]);
    let (_, told) = data.ends(2, &["teardown"]);
    assert!(
        told.contains("this takes down all 2 deckies (a, b): name those that you mean, or write --yes"),
        "{told}"
    );
    let (code, shown) = on_a_terminal(&data, "teardown", "n\n");
    assert!(code == Some(2) && shown.contains("take down all 2 deckies (a, b) of "), "{code:?} {shown}");
    assert_eq!(placed(&data).len(), 2);
    let (code, shown) = on_a_terminal(&data, "teardown", "y\n");
    assert!(code == Some(0) && shown.contains("2 succeeded"), "{code:?} {shown}");
    // Where there is nothing to lose, nothing is asked.
    assert!(data.refused(&["teardown"]).contains("nothing is placed"));
    data.ok(&["deploy", &up, "--engine", "process"]);
    data.ok(&["teardown", "--yes"]);
}

/// What a command that must go well prints, with these variables.
fn with_env(data: &Data, vars: &[(&str, &str)], args: &[&str]) -> (String, String) {
    let output = data.command(args).envs(vars.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn rows_are_listed_a_line_each_and_found_by_what_they_are() {
    let data = Data::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = json!({"http": {"port": taken.local_addr().unwrap().port()}});
    let long = "a-decky-with-a-name-that-takes-more-than-its-share-of-a-line";
    let up = fleet(&[(long, &["ssh", "ftp", "redis", "smtp"]), ("b", &["http"]), ("c", &["ssh"])], &settings);
    data.ends(1, &["deploy", &data.file("f.json", &up), "--engine", "process"]);
    data.ok(&["mutate", "c", "--add", "redis"]);
    let all = jsons(&data, &["ls"]);

    let (shown, _) = with_env(&data, &[("COLUMNS", "80")], &["ls"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 5, "{shown}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{shown}");
    assert!(
        lines[0].starts_with("ID        DECKY                 OP        STATUS     HOST  AGE"),
        "{shown}"
    );
    let end = |id: &str| id[id.len() - 8..].to_owned();
    assert!(lines[1].starts_with(&format!("{}  c ", end(all[0]["id"].as_str().unwrap()))), "{shown}");
    assert!(lines[3].contains("Engine: http") && lines[3].ends_with('\u{2026}'), "{shown}");
    assert!(lines[4].contains("a-decky-with-a-name\u{2026}  deploy    succeeded  -     "), "{shown}");
    let (wide, _) = with_env(&data, &[("COLUMNS", "80")], &["ls", "--wide"]);
    let last = wide.lines().last().unwrap();
    assert!(last.starts_with(all[3]["id"].as_str().unwrap()) && last.contains(long), "{wide}");
    assert!(last.contains("smtp=127.0.0.1:"), "{wide}");

    let names = |args: &[&str]| {
        let rows = jsons(&data, &[&["ls"], args].concat());
        let name = |row: &Value| {
            format!("{} {}", &row["decky"].as_str().unwrap()[..1], row["operation"].as_str().unwrap())
        };
        rows.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(names(&["--status", "failed,succeeded"]), "c mutate, c deploy, b deploy, a deploy");
    assert_eq!(names(&["--status", "failed"]), "b deploy");
    assert_eq!(names(&["--status", "pending,running"]), "");
    assert_eq!(names(&["--operation", "mutate"]), "c mutate");
    assert_eq!(names(&["--error", "engine,unreachable"]), "b deploy");
    assert_eq!(names(&["--error", "Unreachable"]), "");
    assert_eq!(names(&["--since", "1h"]), "c mutate, c deploy, b deploy, a deploy");
    assert_eq!(names(&["--until", "1h"]), "");
    assert_eq!(names(&["--since", "2020-01-01", "--until", "2020-01-02T03:04"]), "");
    let since = all[0]["started_at"].as_str().unwrap();
    assert_eq!(names(&["--since", since]), "c mutate");
    assert_eq!(names(&["--until", since]), "c deploy, b deploy, a deploy");
    for (args, told) in [
        (["--since", "yesterday"], "a time is written like 12h, 2026-11-24"),
        (["--error", "Odd"], "a kind of failure is one of Engine, Dispatch"),
        (["--operation", "odd"], "an operation is deploy, mutate or teardown"),
    ] {
        assert!(data.refused(&[&["ls"][..], &args].concat()).contains(told));
    }
    let (shown, told) = with_env(&data, &[], &["ls", "--limit", "1"]);
    assert_eq!(
        (shown.lines().count(), told.contains("note: 1 of 4 rows; --limit")),
        (2, true),
        "{shown}{told}"
    );
    let (_, told) = with_env(&data, &[], &["ls", "--decky", "nobody"]);
    assert!(told.contains("there is no such row of a decky nobody"), "{told}");
    let (_, told) = with_env(&data, &[], &["--json", "ls", "--limit", "1"]);
    assert_eq!(told, "");
}

#[test]
fn colours_are_shown_where_they_are_wanted_and_a_row_has_one_shape() {
    let data = Data::new();
    let up = data.file("f.json", &fleet(&[("a", &["ssh"])], &json!({})));
    let ends = jsons(&data, &["deploy", &up, "--engine", "process"]);
    let green = "\u{1b}[32msucceeded\u{1b}[0m";
    let (plain, _) = with_env(&data, &[], &["ls"]);
    assert!(!plain.contains('\u{1b}'), "{plain}");
    let (shown, _) = with_env(&data, &[("NO_COLOR", "1")], &["ls", "--color", "always"]);
    assert!(shown.contains(green), "{shown}");
    let (code, shown) = on_a_terminal(&data, "ls", "");
    assert!(code == Some(0) && shown.contains(green), "{shown}");
    let (_, shown) = on_a_terminal(&data, "ls --color never", "");
    assert!(!shown.contains('\u{1b}'), "{shown}");

    let row = |rows: Vec<Value>| rows.into_iter().find(|row| row["event"] == "row").unwrap();
    let keys = |row: &Value| row.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let listed = jsons(&data, &["ls"]).remove(0);
    assert_eq!(keys(&row(ends)), keys(&listed));
    assert_eq!(keys(&row(jsons(&data, &["wait", "a"]))), keys(&listed));
    let mut shown = jsons(&data, &["show", "a"]).remove(0);
    let mut exported = jsons(&data, &["export"]).remove(0);
    for more in ["history", "why"] {
        assert!(shown.as_object_mut().unwrap().remove(more).is_some());
    }
    exported["decoys"] = listed["decoys"].clone();
    shown["decoys"] = listed["decoys"].clone();
    assert_eq!((&shown, &exported), (&listed, &listed));
}

#[test]
fn a_terminal_is_drawn_on_while_work_is_done_and_failures_alike_are_one_line() {
    let data = Data::new();
    let names: Vec<String> = (1..=5).map(|number| format!("decky-{number}")).collect();
    let deckies: Vec<(&str, &[&str])> = names.iter().map(|name| (name.as_str(), &["ssh"][..])).collect();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = json!({"http": {"port": taken.local_addr().unwrap().port()}});
    let up = data.file("f.json", &fleet(&deckies, &settings));
    let (code, shown) = on_a_terminal(&data, &format!("deploy {up} --engine process"), "");
    assert_eq!(code, Some(0), "{shown}");
    // What was drawn is taken away again, and the table comes last.
    assert!(shown.contains("0/5 done, 0 s") && shown.contains("A\u{1b}[0J"), "{shown:?}");
    let last = shown.rsplit("\u{1b}[0J").next().unwrap();
    assert!(last.trim_start().starts_with("ID ") && last.contains("5 succeeded, 0 failed"), "{last:?}");
    // On none it is a line a change, as ever.
    let shown = data.ok(&["mutate", "decky-1", "--add", "redis"]);
    assert!(shown.contains("decky-1              mutate   running\n"), "{shown}");

    // All for one reason.
    let all = "mutate decky-1 decky-2 decky-3 decky-4 decky-5 --add http";
    let (code, shown) = on_a_terminal(&data, all, "");
    let folded =
        shown.lines().find(|line| line.contains("5 failed: Engine: ")).unwrap_or_else(|| panic!("{shown}"));
    assert!(code == Some(1) && folded.trim_end().ends_with("(decky-1 .. decky-5)"), "{shown}");
}

#[test]
fn watch_tells_when_and_of_whom() {
    let data = Data::new();
    let up = data.file("f.json", &fleet(&[("a", &["ssh"]), ("b", &["ssh"])], &json!({})));
    data.ok(&["deploy", &up, "--engine", "process"]);
    let mut watch = data.command(&["watch", "b", "--from", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map_while(Result::ok);
    let seen: Vec<String> = lines.by_ref().take(3).collect();
    watch.kill().unwrap();
    watch.wait().unwrap();
    let today = jsons(&data, &["ls"])[0]["started_at"].as_str().unwrap()[..11].to_owned();
    for (line, status) in seen.iter().zip(["pending", "running", "succeeded"]) {
        assert!(line.starts_with(&today) && line.contains("Z  b  ") && line.ends_with(status), "{seen:?}");
    }
}

/// What a command makes of its standard input.
fn fed(data: &Data, args: &[&str], input: &str) -> Output {
    let mut child = data
        .command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_starter_fleet_is_made_once_checked_and_deployed() {
    let data = Data::new();
    let path = data.path("mine.json");
    let named = path.to_str().unwrap();
    data.ok(&["init", named, "--from-archetype", "database-server", "--deckies", "2"]);
    let made: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(made["deckies"].as_array().unwrap().len(), 2);
    assert_eq!(made["deckies"][1]["services"], json!(["mysql", "postgres", "redis"]));
    assert!(data.refused(&["init", named]).contains("is there already, and nothing is overwritten"));
    assert!(data.refused(&["init", "-", "--from-archetype", "toaster"]).contains("an archetype is one of "));
    assert!(data.ok(&["check", named]).contains("good: 2 deckies with 6 services"));
    assert!(!data.path("lifecycle.redb").exists(), "a check made a store");
    data.ok(&["deploy", named, "--engine", "process"]);
    assert_eq!(placed(&data)[0], "decky-01: mysql,postgres,redis");

    let mixed = data.ok(&["init", "-"]);
    assert_eq!(serde_json::from_str::<Value>(&mixed).unwrap()["deckies"].as_array().unwrap().len(), 3);
    assert_eq!(fed(&data, &["check", "-"], &mixed).status.code(), Some(0));
    let wrong = fed(&data, &["check", "-"], &mixed.replacen("\"ssh\"", "\"shh\"", 1));
    let told = String::from_utf8(wrong.stderr).unwrap();
    assert!(wrong.status.code() == Some(2) && told.contains("nobody has defined the service shh"), "{told}");
}

#[test]
fn fleets_are_read_as_json_toml_and_ini_from_files_and_standard_input() {
    let data = Data::new();
    let toml = r#"
        mode = "unihost"
        interface = "eth0"
        subnet = "10.1.0.0/24"
        gateway = "10.1.0.1"

        [[deckies]]
        name = "a"
        ip = "10.1.0.10"
        services = ["ssh"]
        distro = "debian"
        base_image = "debian:12"
        hostname = "srv"
        service_config.http = { port = 8080 }
    "#;
    let ini = "[general]\nnet=10.1.0.0/24\ngw=10.1.0.1\ninterface=lo\n[a]\nservices=ssh\n";
    let json = fleet(&[("a", &["ssh"])], &json!({})).to_string();
    for text in [toml, ini, &json] {
        let output = fed(&data, &["check", "-"], text);
        assert!(output.status.success(), "{text}: {output:?}");
    }
    let path = data.path("f.TOML");
    std::fs::write(&path, toml).unwrap();
    data.ok(&["deploy", path.to_str().unwrap(), "--engine", "process"]);
    let kept: Value = serde_json::from_str(&data.ok(&["export", "--state"])).unwrap();
    assert_eq!(kept["config"]["deckies"][0]["service_config"], json!({"http": {"port": 8080}}));
    for (spoilt, told) in [
        (toml.replace("[\"ssh\"]", "[\"ssh\""), "is not TOML: "),
        (toml.replace("10.1.0.10", "10.2.0.10"), "deckies[0].ip: 10.2.0.10 lies outside the subnet"),
        (
            toml.replace("hostname = \"srv\"", "hostname = 2026-11-24"),
            "deckies[0].hostname: an object won't do",
        ),
        (toml.replace("hostname", "name"), "is not TOML: "),
    ] {
        std::fs::write(&path, spoilt).unwrap();
        let said = data.refused(&["check", path.to_str().unwrap()]);
        assert!(said.contains(told) && said.contains("f.TOML"), "{said}");
    }
    let fleet: Value = serde_json::from_str(&data.ok(&["schema", "fleet"])).unwrap();
    assert_eq!(fleet["properties"]["mode"]["enum"], json!(["unihost", "swarm"]));
    let catalogue: Value = serde_json::from_str(&data.ok(&["schema", "catalogue"])).unwrap();
    assert!(catalogue["$defs"]["service"].is_object());
}

#[test]
fn a_store_is_backed_up_beside_a_running_master_and_put_back_elsewhere() {
    let data = Data::new();
    let up = data.file("f.json", &fleet(&[("a", &["ssh"]), ("b", &["ssh"])], &json!({})));
    let master = Process::master(&data, &["--engine", "process"]);
    data.ok(&["deploy", &up]);
    data.ok(&["mutate", "a", "--add", "redis"]);
    let copy = data.path("copy.redb");
    let named = copy.to_str().unwrap();
    let made = jsons(&data, &["backup", named]).remove(0);
    assert_eq!((&made["rows"], &made["placements"], &made["revision"]), (&json!(3), &json!(2), &json!(9)));
    assert!(data.refused(&["backup", named]).contains("nothing is overwritten"));
    assert!(data.refused(&["restore", named]).contains("is there already"));
    let then = (data.ok(&["export"]), data.ok(&["export", "--state"]));
    data.ok(&["mutate", "b", "--add", "redis"]);
    drop(master);

    let other = Data::new();
    other.ok(&["restore", named]);
    assert_eq!((other.ok(&["export"]), other.ok(&["export", "--state"])), then);
    // What was kept for whoever takes a change back is there too.
    other.ok(&["deploy", &up, "--only", "b"]);
    other.ok(&["undo", "a"]);
    assert_eq!(placed(&other), ["a: ssh", "b: ssh"]);

    let torn = data.path("torn.redb");
    std::fs::write(&torn, &std::fs::read(&copy).unwrap()[..20_000]).unwrap();
    let third = Data::new();
    assert!(third.refused(&["restore", torn.to_str().unwrap()]).contains("is no whole backup"));
    assert!(!third.path("lifecycle.redb").exists());
}

#[test]
fn the_operators_day_of_the_readme_runs_as_it_is_printed() {
    let data = Data::new();
    let readme = include_str!("../README.md");
    let day = readme.split("An operator's day").nth(1).and_then(|rest| rest.split("```").nth(1)).unwrap();
    let lines: Vec<&str> = day.lines().filter(|line| line.starts_with("dl ")).collect();
    assert!(lines.len() > 10, "{lines:?}");
    for line in lines {
        // Its comment says where it ends otherwise than well.
        let (command, told) = line.split_once('#').unwrap_or((line, ""));
        let code = told.split("exit ").nth(1).and_then(|rest| rest[..1].parse().ok()).unwrap_or(0);
        let args: Vec<&str> = command.split_whitespace().skip(1).collect();
        let output = Command::new(env!("CARGO_BIN_EXE_decnet-lifecycle"))
            .args(&args)
            .current_dir(data.path(""))
            .env("DECNET_LIFECYCLE_DATA", data.path(""))
            // Without templates there are no containers.
            .env("DECNET_TEMPLATES", data.path("none"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}: {output:?}");
    }
}

/// What a shell is offered after these words.
fn offered(data: &Data, words: &[&str]) -> Vec<String> {
    let program = env!("CARGO_BIN_EXE_decnet-lifecycle");
    let output = Command::new(program)
        .args(["--", "decnet-lifecycle"])
        .args(words)
        .env("COMPLETE", "fish")
        .env("DECNET_LIFECYCLE_DATA", data.path(""))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn a_shell_is_offered_the_deckies_rows_and_hosts_that_there_are() {
    let data = Data::with_hosts(&["w1", "w2"]);
    assert_eq!(offered(&data, &["mutate", "a"]), [""; 0], "nothing is placed yet");
    assert!(!data.path("lifecycle.redb").exists());
    let up = data.file("f.json", &fleet(&[("alpha", &["ssh"]), ("beta", &["ftp"])], &json!({})));
    data.ok(&["deploy", &up, "--engine", "process"]);
    assert_eq!(offered(&data, &["mutate", "a"]), ["alpha"]);
    assert_eq!(offered(&data, &["teardown", "alpha", ""]).iter().filter(|word| *word == "beta").count(), 1);
    let id = jsons(&data, &["ls"])[0]["id"].as_str().unwrap().to_owned();
    let end = &id[id.len() - 8..];
    assert!(offered(&data, &["show", &end[..6]]).contains(&end.to_owned()));
    assert_eq!(offered(&data, &["show", "be"]), ["beta"]);
    assert_eq!(offered(&data, &["hosts", "rm", "w"]), ["w1", "w2"]);
    assert_eq!(offered(&data, &["init", "--from-archetype", "mail"]), ["mail-server"]);
    // Of the data directory that the words name.
    let other = Data::new();
    assert_eq!(offered(&other, &["--data", data.path("").to_str().unwrap(), "undo", "b"]), ["beta"]);
    assert_eq!(offered(&other, &["undo", "b"]), [""; 0]);
}
