//! The program: `serve --bus nats://..`, and `mirror`, killed at random with
//! the server. `DECNET_LIFECYCLE_ROUNDS` says how often (5).

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use decnet_lifecycle::store::{RedbStore, head};
use futures_lite::future::block_on;
use serde_json::{Value, json};

use crate::processes::{Data, Process};
use crate::server::{OPEN, Server};
use crate::store::fill;

const FLEET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/fleet.json");

#[test]
fn a_master_s_events_are_heard_and_its_feed_is_mirrored_beside_it() {
    let config = format!("{OPEN}\nauthorization {{ user: decnet, password: hunter2 }}");
    let Some(server) = Server::start(&config) else { return };
    let stream = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let mut client = crate::server::Client::new(stream, ",\"user\":\"decnet\",\"pass\":\"hunter2\"");
    client.make_stream(json!({}));
    client.subscribe("decnet.decky.>");
    let data = Data::new();
    let url = format!("nats://decnet@127.0.0.1:{}", server.port);
    let log = data.path("log");
    let mut serve =
        data.command(&["-vv", "serve", "--listen", "127.0.0.1:0", "--engine", "process", "--bus", &url]);
    serve.env("NATS_PASSWORD", "hunter2").stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
    let mut serving = Ending(serve.spawn().unwrap());
    while !data.path("serve.json").exists() {
        assert!(serving.0.try_wait().unwrap().is_none(), "{}", std::fs::read_to_string(&log).unwrap());
        std::thread::yield_now();
    }
    data.ok(&["deploy", FLEET]);
    // Six deckies, each pending, running, succeeded.
    for _ in 0..18 {
        let (subject, said) = client.next();
        assert!(subject.starts_with("decnet.decky.decky-0") && subject.ends_with(".lifecycle"), "{subject}");
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["type"], "lifecycle");
    }
    let mut mirror = data.command(&["--json", "mirror", &url, "--stream", "S", "--once"]);
    let mirrored = mirror.env("NATS_PASSWORD", "hunter2").output().unwrap();
    let told = String::from_utf8(mirrored.stdout).unwrap();
    assert!(mirrored.status.success(), "{told} {}", String::from_utf8_lossy(&mirrored.stderr));
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&told[0]["event"], &told[0]["after"]), (&json!("mirroring"), &json!(0)));
    assert_eq!(told.last().unwrap(), &json!({"event": "mirrored", "stream": "S", "revision": 18}));
    // As `watch` tells it.
    let Ok(printed) = data.command(&["--json", "watch", "--from", "0"]).stdout(Stdio::piped()).spawn() else {
        panic!()
    };
    let mut printed = Ending(printed);
    let lines = std::io::BufRead::lines(std::io::BufReader::new(printed.0.stdout.take().unwrap()));
    let watched: Vec<Value> =
        lines.take(18).map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let held: Vec<Value> = client.held().into_iter().map(|(_, _, message)| message).collect();
    assert_eq!(held, watched);
    data.ok(&["teardown", "--yes"]);
    drop(serving);
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.contains("connected to NATS") && !log.contains("hunter2"), "{log}");
}

struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

#[test]
fn what_is_wrong_is_said_without_secrets() {
    let Some(server) = Server::start("authorization { token: t0ken }") else { return };
    let data = Data::new();
    assert!(
        data.refused(&["mirror", "nats://127.0.0.1", "--stream", "S"]).contains("a first `deploy` makes one")
    );
    drop(RedbStore::open(data.path("lifecycle.redb")).unwrap());
    let at = |rest: &str| format!("nats://u:hunter2@127.0.0.1:{}{rest}", server.port);
    for (url, words) in [
        (at(""), "Authorization Violation"),
        (at("?x=hunter2"), "none of tls, ca, creds and prefix"),
        ("hunter2".to_owned(), "a URL is wanted"),
    ] {
        let told = data.refused(&["-vv", "mirror", &url, "--stream", "S"]);
        assert!(told.contains(words) && !told.contains("hunter2"), "{told}");
    }
    let told = data.refused(&["serve", "--bus", &at("?x=hunter2")]);
    assert!(told.contains("settings of NATS") && !told.contains("hunter2"), "{told}");
    let mut with_token =
        data.command(&["mirror", &format!("nats://127.0.0.1:{}", server.port), "--stream", "S"]);
    let told = with_token.env("NATS_TOKEN", "t0ken").output().unwrap();
    assert!(String::from_utf8(told.stderr).unwrap().contains("has no JetStream"));
}

/// A master that writes, two mirrors, and a server; the last three are killed
/// at random. What is lighter than users have it: one machine, and a server
/// whose kernel outlives it, so that it loses nothing it was given.
#[test]
fn whatever_is_killed_the_stream_holds_each_revision_once_and_in_order() {
    let Some(mut server) = Server::start(OPEN) else { return };
    let rounds =
        std::env::var("DECNET_LIFECYCLE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    server.client().make_stream(json!({}));
    let data = Data::new();
    let store = Arc::new(RedbStore::open(data.path("lifecycle.redb")).unwrap());
    // Enough that mirrors are busy when they are killed.
    let mut next = 1;
    while next < 20_000 {
        fill(&*store, next, next + 499);
        next += 500;
    }
    let over = Arc::new(AtomicBool::new(false));
    let master = std::thread::spawn({
        let (store, over) = (Arc::clone(&store), Arc::clone(&over));
        move || {
            while !over.load(Ordering::SeqCst) {
                fill(&*store, next, next + 7);
                next += 8;
            }
        }
    });
    let url = server.url();
    let start = || Process::start(&data, &["mirror", &url, "--stream", "S"]);
    let mut mirrors = [start(), start()];
    for round in 0..rounds {
        // When it strikes is a part of the dice.
        std::thread::sleep(Duration::from_micros(random.u64(..200_000)));
        match random.u8(..4) {
            0 => {
                server.kill();
                std::thread::sleep(Duration::from_micros(random.u64(..20_000)));
                server.start_again();
            }
            1 => {
                server.kill();
                mirrors[0].kill();
                server.start_again();
                mirrors[0] = start();
            }
            _ => {
                let one = round % 2;
                mirrors[one].kill();
                mirrors[one] = start();
            }
        }
        assert!(mirrors.iter_mut().all(Process::is_alive), "a mirror has given up");
    }
    over.store(true, Ordering::SeqCst);
    master.join().unwrap();
    mirrors.iter_mut().for_each(Process::kill);
    data.ok(&["mirror", &url, "--stream", "S", "--once"]);
    let last = block_on(head(&*store)).unwrap().get();
    assert_eq!(server.client().revisions(), (1..=last).collect::<Vec<_>>());
    println!("{last} revisions, {rounds} kills");
}
