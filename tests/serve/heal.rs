//! What is placed and doesn't run: told, brought back, restored, and what its
//! services have said.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::api;
use crate::processes::{Data, HANGS, Process};

const DECKIES: [&str; 2] = ["a", "b"];

fn deployed() -> Data {
    let data = Data::new();
    let decky = |name: &&str, byte: usize| {
        json!({"name": name, "ip": format!("192.0.2.{byte}"), "services": ["ssh", "http"], "distro": "debian",
               "base_image": "debian:12", "hostname": name})
    };
    let deckies: Vec<Value> = DECKIES.iter().zip(10..).map(|(name, byte)| decky(name, byte)).collect();
    let fleet = json!({"mode": "unihost", "interface": "eth0", "subnet": "192.0.2.0/24", "gateway": "192.0.2.1",
                       "deckies": deckies});
    std::fs::write(data.path("fleet.json"), fleet.to_string()).unwrap();
    data.ok(&["deploy", "--engine", "process", data.path("fleet.json").to_str().unwrap()]);
    data
}

/// What a decoy has written of itself, such as its address and process.
fn decoy(data: &Data, name: &str) -> Value {
    let text = std::fs::read(data.path("decoys").join(format!("{name}.ready"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Ends a decoy, as a machine that runs out of memory does.
fn kill(data: &Data, name: &str) {
    let pid = decoy(data, name)["pid"].to_string();
    let sent = std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap();
    assert!(sent.success());
}

fn up(data: &Data) -> Vec<String> {
    let output = data.run(&["--json", "ps"]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let told = |line: &str| serde_json::from_str::<Value>(line).unwrap()["up"].as_str().unwrap().to_owned();
    lines.lines().map(told).collect()
}

/// Waits until something is so, as long as nothing hangs.
fn until(mut so: impl FnMut() -> bool, what: &str) {
    let begun = std::time::Instant::now();
    while !so() {
        assert!(begun.elapsed() < HANGS, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn a_master_tells_drift_and_one_that_heals_brings_back_what_died() {
    let data = deployed();
    let mut master = Process::master(&data, &["--watch-every", "1s"]);
    kill(&data, "a.ssh");
    let metric = |master: &Process, line: &str| api(&data, master, "GET", "/metrics", "").body.contains(line);
    until(|| metric(&master, "decnet_lifecycle_deckies_drifted 1\n"), "drift was not seen");
    let told = up(&data);
    assert!(told[0].starts_with("1/2 (ssh dead), drifted since 20"), "{told:?}");
    assert!(metric(&master, "decnet_lifecycle_drifts_total 1\n"));
    assert!(metric(&master, "decnet_lifecycle_heals_total 0\n"));
    master.stop();

    let master = Process::master(&data, &["--watch-every", "1s", "--heal"]);
    until(|| up(&data) == ["2/2", "2/2"], "it was not brought back");
    let row: Value = serde_json::from_str(data.ok(&["--json", "show", "a"]).lines().next().unwrap()).unwrap();
    let why = row["why"].as_str().unwrap();
    assert!(why.ends_with("; it brings back what had drifted: ssh dead (try 1)"), "{row}");
    TcpStream::connect(decoy(&data, "a.ssh")["addr"].as_str().unwrap()).unwrap();
    until(|| metric(&master, "decnet_lifecycle_deckies_drifted 0\n"), "it is still told");
    assert!(metric(&master, "decnet_lifecycle_heals_total 1\n"));
    data.ok(&["teardown", "--yes"]);
}

#[test]
fn up_brings_back_what_is_placed_with_a_master_and_without() {
    let data = deployed();
    assert!(data.ok(&["up"]).contains("2 run as they are placed"));
    for service in ["a.ssh", "a.http", "b.ssh", "b.http"] {
        kill(&data, service);
    }
    until(|| up(&data) == ["0/2 (ssh dead, http dead)"; 2], "they are still there");
    let told = data.ok(&["up"]);
    assert!(told.contains("2 succeeded, 0 failed"), "{told}");
    assert_eq!(up(&data), ["2/2", "2/2"]);

    let master = Process::master(&data, &[]);
    kill(&data, "b.http");
    until(|| up(&data)[1].starts_with("1/2 (http dead)"), "it is still there");
    let told = data.ok(&["up"]);
    assert!(told.contains("1 run as they are placed") && told.contains("1 succeeded, 0 failed"), "{told}");
    assert_eq!(up(&data), ["2/2", "2/2"]);
    drop(master);
    data.ok(&["teardown", "--yes"]);
    assert!(data.ok(&["up"]).contains("0 run as they are placed"));
}

#[test]
fn logs_shows_what_visitors_did_as_it_comes_and_steers_no_terminal() {
    let data = deployed();
    let visit = |said: &[u8]| {
        let mut stream = TcpStream::connect(decoy(&data, "a.ssh")["addr"].as_str().unwrap()).unwrap();
        stream.write_all(said).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    };
    visit(b"SSH-2.0-one\x1b[2J\r\n");
    until(|| data.ok(&["logs", "a/ssh"]).contains("\"event\":\"close\""), "nothing was written down");
    let told = data.ok(&["logs", "a/ssh"]);
    assert!(told.contains("SSH-2.0-one") && !told.contains('\u{1b}'), "{told:?}");
    assert_eq!(data.ok(&["logs", "a/ssh", "--tail", "1"]).lines().count(), 1);
    assert!(data.ok(&["logs", "a"]).lines().all(|line| line.starts_with("ssh ")));

    let mut follows =
        data.command(&["--json", "logs", "-f", "a/ssh"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follows.stdout.take().unwrap()).lines();
    let mut next = |wanted: &str| {
        let line = lines.find(|line| line.as_ref().unwrap().contains(wanted)).unwrap().unwrap();
        serde_json::from_str::<Value>(&line).unwrap()
    };
    assert_eq!(next("SSH-2.0-one")["service"], "ssh");
    visit(b"SSH-2.0-two\r\n");
    assert_eq!(next("SSH-2.0-two")["decky"], "a");
    follows.kill().unwrap();
    follows.wait().unwrap();
    assert!(data.refused(&["logs", "nobody"]).contains("it has no log here, of nobody"));
    assert!(data.refused(&["logs", "a/pop3"]).contains("pop3 has no log here, of a"));
    data.ok(&["teardown", "--yes"]);
}
