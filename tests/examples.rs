//! Runs the examples as programs: what a reader copies works.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use decnet_lifecycle::engine::process::ProcessEngine;
use decnet_lifecycle::store::{RedbStore, Store};
use decnet_lifecycle::testkit::conformance::{Fixture, check};
use decnet_lifecycle::{LifecycleId, Runner, TeardownRequest};
use futures_lite::future::block_on;

#[path = "../examples/own_store.rs"]
mod own_store;
mod tls;

/// Only tells a hang from a slow machine.
const HANGS: Duration = Duration::from_secs(120);

/// `cargo test` builds the examples, beside the programs.
fn example(name: &str) -> Command {
    let programs = Path::new(env!("CARGO_BIN_EXE_decnet-lifecycle")).parent().unwrap();
    let program: PathBuf = programs.join("examples").join(name);
    assert!(program.exists(), "build it: cargo build --all-features --examples");
    Command::new(program)
}

fn said(name: &str) -> String {
    let output = example(name).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn lines_with(said: &str, part: &str) -> usize {
    said.lines().filter(|line| line.contains(part)).count()
}

#[test]
fn an_engine_of_one_s_own_brings_up_what_it_takes_down() {
    assert_eq!(said("own_engine"), "6 deckies are up\n0 deckies are up\n");
}

#[test]
fn a_store_of_one_s_own_conforms_and_carries_a_deploy() {
    struct Own;
    #[async_trait]
    impl Fixture for Own {
        async fn fresh(&self) -> Arc<dyn Store> {
            Arc::new(own_store::Snapshots::default())
        }

        async fn reopen(&self, store: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
            Some(store)
        }
    }
    block_on(check(&Own)).unwrap();
    assert_eq!(lines_with(&said("own_store"), " succeeded"), 6);
}

#[test]
fn an_order_and_its_rows_are_there_together_or_not_at_all() {
    let said = said("enlist");
    assert!(said.starts_with("paid: false; 0 orders, 0 rows\npaid: true; 1 orders, 6 rows\n"), "{said}");
    assert_eq!(lines_with(&said, " succeeded"), 6, "{said}");
}

#[test]
fn a_worker_s_beats_end_the_rows_of_its_master() {
    let said = said("worker");
    assert_eq!(lines_with(&said, " succeeded on Some(\"w1\")"), 6, "{said}");
    assert_eq!(said.matches("Applied").count(), 6, "{said}");
}

#[test]
fn a_worker_is_called_and_heard_over_mutual_tls() {
    let ca = tls::Ca::new();
    let [of_master, _] = ["master", "w1"].map(|name| ca.issue(name, "127.0.0.1"));
    let output = example("worker_http").arg(of_master.dir.parent().unwrap()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(lines_with(&said, " succeeded on Some(\"w1\")"), 6, "{said}");
}

#[test]
fn a_canary_holds_the_others_back() {
    let said = said("own_strategy");
    assert_eq!((lines_with(&said, " succeeded"), lines_with(&said, " failed")), (6, 6), "{said}");
}

/// A program that is ended, also when the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One request on a connection of its own: the status, and the body.
fn ask(address: &str, request: &str, headers: &[(&str, &str)], body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(HANGS)).unwrap();
    let length = body.len();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(
        stream,
        "{request} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split_whitespace().nth(1).unwrap();
    (status.to_owned(), body.to_owned())
}

#[test]
fn a_master_mounted_under_axum_answers_202_and_does_what_it_promised() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fleet.json"));
    let fleet = fleet.unwrap();
    let mut program = example("axum");
    let token = "0123456789abcdef0123456789abcdef";
    program.arg(token).arg(dir.path()).arg("127.0.0.1:0").stdout(Stdio::piped());
    let mut program = Running(program.spawn().unwrap());
    let mut said = BufReader::new(program.0.stdout.take().unwrap()).lines();
    let address = said.next().unwrap().unwrap();
    let asked = |request: &str, body: &str| {
        ask(&address, request, &[("authorization", &format!("Bearer {token}"))], body)
    };

    assert_eq!(ask(&address, "POST /decoys/deckies/deploy", &[], &fleet).0, "401");
    assert_eq!(asked("POST /decoys/deckies/deploy", "{}").0, "422");
    assert_eq!(ask(&address, "GET /rows", &[], ""), ("200".to_owned(), "0 rows\n".to_owned()));
    let (status, body) = asked("POST /decoys/deckies/deploy", &fleet);
    assert_eq!(status, "202", "{body}");
    let taken: serde_json::Value = serde_json::from_str(&body).unwrap();
    let ids: Vec<LifecycleId> = serde_json::from_value(taken["lifecycle_ids"].clone()).unwrap();
    assert_eq!(ids.len(), 6);
    let ids = ids.iter().map(|id| format!("ids={id}")).collect::<Vec<_>>().join("&");
    let begun = Instant::now();
    loop {
        let (status, rows) = asked(&format!("GET /decoys/deckies/lifecycle?{ids}"), "");
        assert_eq!(status, "200", "{rows}");
        if rows.matches("\"succeeded\"").count() == 6 {
            break;
        }
        assert!(!rows.contains("\"failed\"") && begun.elapsed() < HANGS, "{rows}");
    }
    assert_eq!(ask(&address, "GET /rows", &[], "").1, "6 rows\n");

    let pid = program.0.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(said.next().unwrap().unwrap(), "0 rows are left to the next start");
    assert!(program.0.wait().unwrap().success());

    // Its file is closed, its decoys go on: another start takes them down.
    let engine = Arc::new(ProcessEngine::new(dir.path().join("decoys")));
    assert_eq!(engine.running().unwrap().len(), 18);
    block_on(async {
        let store = Arc::new(RedbStore::open(dir.path().join("lifecycle.redb")).unwrap());
        let (runner, recovered) =
            Runner::builder(store, engine.clone()).build().unwrap().recover().await.unwrap();
        assert!(recovered.accepted.is_empty());
        runner.accept_teardown(TeardownRequest::all()).await.unwrap().run().await;
    });
    assert!(engine.running().unwrap().is_empty());
}
