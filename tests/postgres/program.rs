//! The program, with its rows in PostgreSQL.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::server::{Server, schema, server};

const FLEET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/fleet.json");

/// A data directory and a schema; its decoys are torn down at the end.
struct Home {
    dir: tempfile::TempDir,
    url: String,
}

impl Home {
    fn new(server: &Server) -> Self {
        let schema = schema(&server.fresh());
        Self { dir: tempfile::tempdir().unwrap(), url: format!("{}?schema={schema}", server.url()) }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_decnet-lifecycle"));
        command.arg("--data").arg(self.dir.path()).args(["--store", &self.url]).args(args);
        command.stdin(Stdio::null()).env("PGPASSWORD", "hunter2").env("DECNET_LIFECYCLE_STORE", &self.url);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn json(&self, code: i32, args: &[&str]) -> Vec<Value> {
        let output = self.run(&[&["--json"], args].concat());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}\n{err}");
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
        told
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.run(&["teardown", "--yes", "--wait", "--supersede"]);
    }
}

/// No process but this one's commands has the URL or the password.
fn decoys_know_nothing_of_it(url: &str) {
    let mut decoys = 0;
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    for process in processes.filter_map(|entry| std::fs::read(entry.path().join("environ")).ok()) {
        let environment = String::from_utf8_lossy(&process);
        let is_decoy = environment.contains("DECNET_LIFECYCLE_DECOY=");
        decoys += usize::from(is_decoy);
        assert!(
            !is_decoy || !(environment.contains(url) || environment.contains("hunter2")),
            "{environment}"
        );
    }
    assert!(decoys > 0);
}

#[test]
fn a_fleet_is_deployed_listed_and_taken_down() {
    let Some(server) = server() else { return };
    let home = Home::new(server);
    // Looking makes nothing.
    assert!(home.refused(&["ls"]).contains("a first deploy makes"));
    assert_eq!(home.json(1, &["plan", FLEET, "--engine", "process"]).len(), 1);
    assert!(home.refused(&["ls"]).contains("a first deploy makes"));
    home.json(0, &["deploy", FLEET, "--engine", "process"]);
    decoys_know_nothing_of_it(&home.url);
    let rows = home.json(0, &["ls"]);
    assert!(!rows.is_empty() && rows.iter().all(|row| row["status"] == "succeeded"), "{rows:?}");
    let placed = home.json(0, &["ps"]);
    assert_eq!(placed.iter().filter(|row| row["decky"].is_string()).count(), rows.len(), "{placed:?}");
    let id = rows[0]["lifecycle_id"].as_str().or(rows[0]["id"].as_str()).unwrap().to_owned();
    assert!(home.json(0, &["show", &id])[0].to_string().contains(&id));
    let doctor = home.run(&["--json", "doctor"]);
    let doctor = String::from_utf8(doctor.stdout).unwrap();
    let store = doctor.lines().find(|line| line.contains("\"store\"")).unwrap();
    assert!(store.contains("good") && store.contains("placements can be read"), "{store}");
    assert!(!home.dir.path().join("lifecycle.redb").exists());
    // What was before a mutate is kept with its row.
    let services = |place: usize| home.json(0, &["ps"])[place]["services"].clone();
    let before = services(0);
    home.json(0, &["mutate", "decky-01", "--add", "redis"]);
    assert_ne!(services(0), before);
    home.json(0, &["undo", "decky-01"]);
    assert_eq!(services(0), before);
    assert!(home.refused(&["backup", "copy"]).contains("`pg_dump` and `pg_restore` look after that"));
    home.json(0, &["teardown", "--yes"]);
    assert_eq!(home.json(0, &["ps"]).iter().filter(|row| row["decky"].is_string()).count(), 0);
    assert!(home.run(&["prune", "--older-than", "0s"]).status.success());
    // What rows are in no directory, other directories see.
    let other = Home { dir: tempfile::tempdir().unwrap(), url: home.url.clone() };
    assert!(other.run(&["ls"]).status.success());
}

struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[test]
fn a_second_master_is_refused_while_the_first_serves() {
    let Some(server) = server() else { return };
    let home = Home::new(server);
    let mut serve = home.command(&["--json", "serve", "--listen", "127.0.0.1:0", "--engine", "process"]);
    let mut serving = Serving(serve.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut lines = BufReader::new(serving.0.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("serving"));
    // From its own directory commands go to it; from another they are refused.
    home.json(0, &["deploy", FLEET]);
    let other = Home { dir: tempfile::tempdir().unwrap(), url: home.url.clone() };
    let told = other.refused(&["deploy", FLEET, "--engine", "process"]);
    assert!(told.contains("in use by another master"), "{told}");
    assert!(!other.json(0, &["ls"]).is_empty());
    drop(serving);
    // A master that was killed leaves no lock: the server sees its sockets close.
    home.json(0, &["teardown", "--yes", "--wait", "--supersede"]);
}

#[test]
fn a_url_s_password_is_never_told() {
    let dir = tempfile::tempdir().unwrap();
    for url in ["postgres://u:hunter2@127.0.0.1:1/d", "postgres://u:hunter2@127.0.0.1:1/d?hunter2", "hunter2"]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_decnet-lifecycle"));
        command.arg("--data").arg(dir.path()).args(["--store", url, "-vv", "ls"]);
        let output = command.output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}
