//! Decoys that are up: who is written down, what they cost, how they end.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use decnet_lifecycle::engine::Engine as _;
use decnet_lifecycle::engine::process::{Decoy, ProcessEngine};
use decnet_lifecycle::{
    engine::CancelToken,
    fleet::{DeckyRuntime, Mode},
    *,
};
use futures_lite::future::{block_on, poll_once};

use crate::help::*;

fn decoy(engine: &ProcessEngine, service: &str) -> Decoy {
    let running = engine.running().unwrap();
    running.into_iter().find(|decoy| decoy.service.as_str() == service).unwrap()
}

fn runtime(engine: &ProcessEngine, services: &[&str]) -> DeckyRuntime {
    block_on(engine.runtime(&fleet(services))).unwrap().remove(&decky()).unwrap()
}

fn states(runtime: &DeckyRuntime) -> Vec<(&str, &str)> {
    runtime.services.iter().map(|(service, state)| (service.as_str(), state.as_str())).collect()
}

fn log(dir: &Path, service: &str) -> String {
    fs::read_to_string(dir.join(format!("decky-01.{service}.log"))).unwrap_or_default()
}

fn greeting(addr: SocketAddr) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    let mut said = [0; 64];
    let count = stream.read(&mut said).unwrap();
    (stream, String::from_utf8_lossy(&said[..count]).into_owned())
}

#[test]
fn the_engine_itself_is_no_visitor() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let services = ["ssh", "http", "mysql"];
    up(&engine, &services).unwrap();
    // Those that are up already are called on, too.
    up(&engine, &services).unwrap();
    for service in services {
        assert_eq!(log(dir.path(), service), "");
    }

    // Others are written down: who says nothing, who hangs up, who begins as
    // the engine does and then says something else.
    let token = fs::read_to_string(dir.path().join("decky-01.http.run")).unwrap();
    let silent = TcpStream::connect(decoy(&engine, "mysql").addr).unwrap();
    until(|| log(dir.path(), "mysql").contains("\"connect\""));
    drop(silent);
    drop(greeting(decoy(&engine, "ssh").addr));
    let mut guess = TcpStream::connect(decoy(&engine, "http").addr).unwrap();
    guess.write_all(format!("{}\n", &token[..token.len() - 1]).as_bytes()).unwrap();
    drop(guess);
    for service in services {
        until(|| log(dir.path(), service).contains("\"close\""));
        let log = log(dir.path(), service);
        let events: Vec<&str> = log.lines().map(|line| line.split("\"event\":").nth(1).unwrap()).collect();
        assert!(events[0].starts_with("\"connect\""), "{log}");
        assert_eq!(events.iter().filter(|event| event.starts_with("\"connect\"")).count(), 1, "{log}");
    }
    assert!(log(dir.path(), "http").contains("\"input\""));

    // And nobody else is written down by their end.
    let before = log(dir.path(), "ssh");
    down(&engine);
    assert_eq!(log(dir.path(), "ssh"), before);
}

#[test]
fn an_idle_decoy_hardly_wakes() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    up(&engine, &["http"]).unwrap();
    let pid = decoy(&engine, "http").pid;
    let wakes = || -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let (since, before) = (Instant::now(), wakes());
    // Something to do meanwhile that takes a while.
    for turn in 0..30 {
        let mut other = fleet(if turn % 2 == 0 { &["ssh", "ftp"] } else { &["smtp"] });
        other.deckies[0].name = DeckyName::parse("other").unwrap();
        let work = work_on(other, &["other"], &CancelToken::new());
        block_on(engine.deploy(&work)).unwrap();
    }
    let (waited, woken) = (since.elapsed(), wakes() - before);
    assert!(woken <= 2 + waited.as_secs() / 5, "{woken} times in {waited:?}");
    let all = work_on(fleet(&["http"]), &["decky-01", "other"], &CancelToken::new());
    block_on(engine.teardown(&all)).unwrap();
}

#[test]
fn a_decoy_that_died_is_told_and_started_anew() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let services = ["http", "ssh"];
    up(&engine, &services).unwrap();
    assert_eq!(runtime(&engine, &services).to_string(), "up (http running, ssh running)");

    let ssh = decoy(&engine, "ssh");
    signal("-KILL", ssh.pid);
    until(|| engine.running().unwrap().len() == 1);
    let told = runtime(&engine, &services);
    assert!(!told.running);
    assert_eq!(states(&told), [("http", "running"), ("ssh", "dead")]);
    // Its parent, this process, has waited for it: it is no zombie.
    until(|| !is_there(ssh.pid));

    up(&engine, &services).unwrap();
    assert!(runtime(&engine, &services).running);
    // One that was never started isn't dead, one that nobody asks for is told.
    assert_eq!(
        states(&runtime(&engine, &["ftp", "ssh"])),
        [("ftp", "gone"), ("http", "running"), ("ssh", "running")]
    );
    down(&engine);
    assert_eq!(states(&runtime(&engine, &["ssh"])), [("ssh", "gone")]);
}

#[test]
fn what_no_fleet_names_is_found_and_can_be_taken_down() {
    let dir = tempfile::tempdir().unwrap();
    up(&engine(dir.path()), &["http", "ssh"]).unwrap();
    let engine = engine(dir.path());
    signal("-KILL", decoy(&engine, "ssh").pid);
    until(|| engine.running().unwrap().len() == 1);
    // A master was killed before the decoy that it started could listen.
    fs::write(dir.path().join("decky-77.ftp.run"), "token").unwrap();

    let found = block_on(engine.found()).unwrap();
    let (one, other) = (&found[&decky()], &found[&DeckyName::parse("decky-77").unwrap()]);
    assert_eq!((states(one), one.running), (vec![("http", "running"), ("ssh", "dead")], false));
    assert_eq!((states(other), other.running), (vec![("ftp", "not up")], false));
    assert_eq!(found.len(), 2);

    let mut others = fleet(&["ssh"]);
    others.deckies.remove(0);
    let report = block_on(engine.teardown(&work_on(others, &["decky-01", "decky-77"], &CancelToken::new())));
    let report = report.unwrap();
    for name in ["decky-01", "decky-77"] {
        report.outcome(&DeckyName::parse(name).unwrap()).unwrap();
    }
    assert!(block_on(engine.found()).unwrap().is_empty());
    assert!(engine.running().unwrap().is_empty());
    assert!(!dir.path().join("decky-77.ftp.run").exists());
}

#[test]
fn a_decoy_that_lives_but_does_not_answer_is_not_up() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    up(&engine, &["ssh"]).unwrap();
    let deaf = decoy(&engine, "ssh").pid;
    signal("-STOP", deaf);
    let mut again = work(fleet(&["ssh"]), &CancelToken::new());
    again.clock = Arc::new(Hasty::default());
    let told = block_on(engine.deploy(&again)).unwrap().outcome(&decky()).unwrap_err().to_string();
    assert!(told.contains("does not stop; look at it"), "{told}");
    signal("-CONT", deaf);
    up(&engine, &["ssh"]).unwrap();
    assert_ne!(decoy(&engine, "ssh").pid, deaf);
    down(&engine);
}

#[test]
fn all_are_told_to_stop_before_one_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let services = ["ssh", "http", "ftp", "smtp"];
    up(&engine, &services).unwrap();
    let pids = pids(&engine.running().unwrap());
    pids.values().for_each(|pid| signal("-STOP", *pid));
    let work = work(fleet(&["ssh"]), &CancelToken::new());
    let mut teardown = engine.teardown(&work);
    let told = |service: &&str| !dir.path().join(format!("decky-01.{service}.run")).exists();
    until(|| {
        assert!(block_on(poll_once(&mut teardown)).is_none(), "a stopped process can't have ended");
        services.iter().all(told)
    });
    pids.values().for_each(|pid| signal("-CONT", *pid));
    block_on(teardown).unwrap().outcome(&decky()).unwrap();
    assert!(engine.running().unwrap().is_empty());
}

#[test]
fn a_service_that_nobody_has_defined_is_refused_unless_it_is_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let wrong = fleet(&["ssh", "redsi"]);
    let told = engine.check(&wrong).unwrap_err().to_string();
    assert_eq!(told, "deckies[0].services[1]: nobody has defined the service redsi; did you mean redis?");
    // Whoever does not ask first is told by the work itself.
    let work = work_on(wrong.clone(), &["decky-01", "decky-02"], &CancelToken::new());
    for report in [block_on(engine.deploy(&work)).unwrap(), block_on(engine.mutate(&work)).unwrap()] {
        let told = report.outcome(&decky()).unwrap_err().to_string();
        assert!(told.contains("nobody has defined the service redsi; did you mean redis?"), "{told}");
        report.outcome(&DeckyName::parse("decky-02").unwrap()).unwrap();
    }
    assert!(engine.running().unwrap().iter().all(|decoy| decoy.decky.as_str() == "decky-02"));
    // A worker's deckies are for the worker to judge.
    let mut elsewhere = wrong.clone();
    elsewhere.mode = Mode::Swarm;
    elsewhere.deckies[0].host_uuid = Some(HostId::parse("w1").unwrap());
    engine.check(&elsewhere).unwrap();

    let own = engine.clone().service(ServiceName::parse("redsi").unwrap(), "hello, \u{e9}!\r\n");
    own.check(&wrong).unwrap();
    up(&own, &["redsi"]).unwrap();
    let (_, said) = greeting(decoy(&own, "redsi").addr);
    assert_eq!(said, "hello, \u{e9}!\r\n");
    let all = work_on(fleet(&["ssh"]), &["decky-01", "decky-02"], &CancelToken::new());
    block_on(engine.teardown(&all)).unwrap();
    assert!(engine.running().unwrap().is_empty());
}
