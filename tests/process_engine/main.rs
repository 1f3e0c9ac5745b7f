//! The process engine by itself: what it converges on, and what it leaves
//! alone.

mod conforms;
mod decoys;
mod help;
mod starting;

use std::fs;
use std::net::TcpStream;

use decnet_lifecycle::engine::Engine as _;
use decnet_lifecycle::{engine::CancelToken, *};
use futures_lite::future::{block_on, poll_once};

use help::*;

#[test]
fn a_new_engine_finds_the_decoys_of_an_old_one_and_restarts_none() {
    let dir = tempfile::tempdir().unwrap();
    up(&engine(dir.path()), &["ssh", "http"]).unwrap();
    let before = pids(&engine(dir.path()).running().unwrap());
    assert_eq!(before.keys().collect::<Vec<_>>(), ["http", "ssh"]);
    up(&engine(dir.path()), &["ssh", "ftp"]).unwrap();
    let after = pids(&engine(dir.path()).running().unwrap());
    assert_eq!(after.keys().collect::<Vec<_>>(), ["ftp", "ssh"]);
    assert_eq!(before["ssh"], after["ssh"]);
    down(&engine(dir.path()));
    down(&engine(dir.path()));
}

#[test]
fn foreign_files_are_left_alone_and_dead_decoys_are_not_alive() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    // A ready file that names a living process which is no decoy: a stranger.
    let stranger = std::process::id();
    let ready = format!(
        r#"{{"decky":"decky-01","service":"ssh","addr":"127.0.0.1:1","pid":{stranger},"since":0,"token":"x"}}"#
    );
    let files = [
        ("decky-01.ssh.ready", ready.as_str()),
        ("notes.txt", "keep"),
        ("a.b.ready", "{}"),
        ("c.ready", "\0"),
    ];
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    assert!(engine.running().unwrap().is_empty());
    down(&engine);
    for (name, text) in &files[1..] {
        assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), *text);
    }
    up(&engine, &["ssh"]).unwrap();
    down(&engine);
}

#[test]
fn a_program_that_is_missing_or_ends_at_once_fails_with_its_own_words() {
    let dir = tempfile::tempdir().unwrap();
    let missing = engine(dir.path()).program("/no/such/program", vec![]);
    let told = up(&missing, &["ssh"]).unwrap_err().to_string();
    assert!(told.contains("ssh") && told.contains("No such file"), "{told}");
    let wrong =
        engine(dir.path()).program(env!("CARGO_BIN_EXE_decnet-lifecycle"), vec!["no-such-command".into()]);
    let told = up(&wrong, &["ssh"]).unwrap_err().to_string();
    assert!(told.contains("ended at once") && told.contains("no-such-command"), "{told}");
    assert!(engine(dir.path()).running().unwrap().is_empty());
}

#[test]
fn a_mutate_that_fails_keeps_the_services_from_before() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    up(&engine, &["ssh"]).unwrap();
    let before = pids(&engine.running().unwrap());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut wanted = fleet(&["http", "ftp"]);
    let port = serde_json::json!({"port": taken.local_addr().unwrap().port()});
    let settings = port.as_object().unwrap().clone();
    wanted.deckies[0].service_config.insert("ftp".into(), settings);
    let work = work(wanted, &CancelToken::new());
    let told = block_on(engine.mutate(&work)).unwrap().outcome(&decky()).unwrap_err().to_string();
    assert!(told.contains("is the port in use?"), "{told}");
    assert_eq!(pids(&engine.running().unwrap()), before);
    down(&engine);
}

#[test]
fn a_cancelled_or_dropped_call_leaves_no_decoy_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let cancel = CancelToken::new();
    cancel.cancel();
    let cancelled = work(fleet(&["ssh"]), &cancel);
    let told = block_on(engine.deploy(&cancelled)).unwrap().outcome(&decky()).unwrap_err();
    assert_eq!(told.kind(), FailureKind::Cancelled);
    assert!(engine.running().unwrap().is_empty());

    let dropped = work(fleet(&["ssh", "http", "ftp"]), &CancelToken::new());
    let mut call = Box::pin(engine.deploy(&dropped));
    // Polled until the first decoy listens, then dropped.
    while engine.running().unwrap().is_empty() {
        assert!(block_on(poll_once(&mut call)).is_none(), "the deploy ended before it could be dropped");
        std::thread::yield_now();
    }
    let addr = engine.running().unwrap()[0].addr;
    drop(call);
    while !engine.running().unwrap().is_empty() {
        std::thread::yield_now();
    }
    assert!(TcpStream::connect(addr).is_err());
}

/// Found by the swarm that is killed at random: a decoy that was told to stop
/// counted as up for as long as it took to notice.
#[test]
fn a_decoy_that_was_told_to_stop_is_started_anew() {
    let dir = tempfile::tempdir().unwrap();
    up(&engine(dir.path()), &["ssh"]).unwrap();
    let before = pids(&engine(dir.path()).running().unwrap());
    // A teardown whose master was killed has come so far.
    let work = work(fleet(&["ssh"]), &CancelToken::new());
    let engine = engine(dir.path());
    let mut teardown = engine.teardown(&work);
    block_on(async {
        while fs::exists(dir.path().join("decky-01.ssh.run")).unwrap() {
            assert!(poll_once(&mut teardown).await.is_none());
        }
    });
    drop(teardown);
    up(&engine, &["ssh"]).unwrap();
    let after = engine.running().unwrap();
    assert_ne!(pids(&after), before);
    // And it stays: it is wanted.
    let token = fs::read_to_string(dir.path().join("decky-01.ssh.run")).unwrap();
    assert!(fs::read_to_string(dir.path().join("decky-01.ssh.ready")).unwrap().contains(&token));
    down(&engine);
}
