//! How decoys are started: at the same time, by programs that answer and by
//! others, and what is left of those that were dropped.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use decnet_lifecycle::engine::Engine as _;
use decnet_lifecycle::engine::process::ProcessEngine;
use decnet_lifecycle::{engine::CancelToken, *};
use futures_lite::future::{block_on, poll_once};

use crate::help::*;

#[test]
fn the_readme_s_program_runs_as_printed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let example = fs::read_to_string(root.join("examples/library.rs")).unwrap();
    let printed =
        readme.split("## As a library\n\n```rust,no_run\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(example.ends_with(&format!("\n\n{printed}")), "examples/library.rs is another program");

    // `cargo test` builds the examples, beside the programs.
    let programs = Path::new(env!("CARGO_BIN_EXE_decnet-lifecycle")).parent().unwrap();
    let program = programs.join("examples/library");
    assert!(program.exists(), "build it: cargo build --all-features --example library");
    let dir = tempfile::tempdir().unwrap();
    fs::copy(root.join("examples/fleet.json"), dir.path().join("fleet.json")).unwrap();
    let output = Command::new(program).current_dir(dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().filter(|line| line.ends_with(" succeeded")).count(), 6, "{said}");
    let engine = engine(&dir.path().join("decoys"));
    assert_eq!(engine.running().unwrap().len(), 18);
    let all = fleet(&["ssh"]);
    let names: Vec<&str> = all.names().map(DeckyName::as_str).collect();
    block_on(engine.teardown(&work_on(all.clone(), &names, &CancelToken::new()))).unwrap();
    assert!(engine.running().unwrap().is_empty());
}

/// This test is its own decoy program, one that doesn't answer: called as a
/// decoy, it deploys once more.
#[test]
fn a_program_that_does_not_answer_is_told_so_and_never_breeds() {
    const SELF: &str = "starting::a_program_that_does_not_answer_is_told_so_and_never_breeds";
    let words: Vec<String> = std::env::args().collect();
    let home = words.iter().position(|word| word == "--home").and_then(|at| words.get(at + 1));
    let own = tempfile::tempdir().unwrap();
    let dir = home.map_or(own.path(), |home| Path::new(home).parent().unwrap());
    let born = dir.join("born");
    let count = || fs::read_to_string(&born).unwrap_or_default().lines().count();
    if home.is_some() {
        let mut file = OpenOptions::new().create(true).append(true).open(&born).unwrap();
        file.write_all(b"one\n").unwrap();
        if count() > 9 {
            return;
        }
    }
    let leading = ["--exact", SELF, "--"].map(Into::into).to_vec();
    let engine = ProcessEngine::new(dir).program(std::env::current_exe().unwrap(), leading);
    let work = work(fleet(&["ssh", "http"]), &CancelToken::new());
    let report = block_on(engine.deploy(&work));
    if home.is_some() {
        let refused = "this program was started as a decoy";
        assert!(report.unwrap_err().to_string().contains(refused));
        assert!(engine.check(&work.fleet).unwrap_err().to_string().contains(refused));
        return;
    }
    let told = report.unwrap().outcome(&decky()).unwrap_err().to_string();
    assert!(told.contains("ssh: this program doesn't answer `decoy`; let its main call process::decoy_main"));
    assert_eq!(count(), 2);
    assert!(block_on(engine.found()).unwrap().is_empty());
}

#[test]
fn a_program_that_goes_on_with_something_else_is_ended_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().display().to_string();
    // Its child's command line names the directory, too.
    let leading = ["-c", "sh -c 'while :; do sleep 1; done' \"$@\"; :", "sh"].map(Into::into).to_vec();
    let engine = engine(dir.path()).program("/bin/sh", leading);
    let mut work = work(fleet(&["ssh"]), &CancelToken::new());
    work.clock = Arc::new(Hasty::default());
    let told = block_on(engine.deploy(&work)).unwrap().outcome(&decky()).unwrap_err().to_string();
    assert!(told.contains("doesn't answer `decoy`") && told.contains("did not listen within 10 s"), "{told}");
    until(|| processes(&mark).is_empty());
    assert!(block_on(engine.found()).unwrap().is_empty());
}

#[test]
fn decoys_are_started_at_the_same_time() {
    let dir = tempfile::tempdir().unwrap();
    let met = dir.path().join("met");
    fs::create_dir(&met).unwrap();
    // None goes on before all six have been started.
    let wait = r#"m=$1; shift; : > "$m/$$"; while [ $(ls "$m" | wc -l) -lt 6 ]; do :; done; exec "$@""#;
    let program = env!("CARGO_BIN_EXE_decnet-lifecycle");
    let leading = ["-c".into(), wait.into(), "sh".into(), met.into(), program.into(), "decoy".into()];
    let engine = engine(&dir.path().join("decoys")).program("/bin/sh", leading.to_vec());
    let deckies = ["decky-01", "decky-02"];
    let work = work_on(fleet(&["ssh", "http", "ftp"]), &deckies, &CancelToken::new());
    let report = block_on(engine.deploy(&work)).unwrap();
    for name in deckies {
        report.outcome(&DeckyName::parse(name).unwrap()).unwrap();
    }
    assert_eq!(engine.running().unwrap().len(), 6);
    block_on(engine.teardown(&work)).unwrap();
    assert!(engine.running().unwrap().is_empty());
}

/// Who looks whether a decoy lives holds its lock for a moment; a decoy that
/// began just then took it for another decoy.
#[test]
fn a_decoy_comes_up_while_somebody_looks_whether_it_lives() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let mark = dir.path().display().to_string();
    let path = dir.path().join("decky-01.ssh.lock");
    let look = fs::File::create(&path).unwrap();
    look.lock_shared().unwrap();
    let work = work(fleet(&["ssh"]), &CancelToken::new());
    let mut call = engine.deploy(&work);
    // Until it has come to its lock.
    let has_open = |pid: &u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|file| file == path)
    };
    while !processes(&mark).iter().any(has_open) {
        if let Some(report) = block_on(poll_once(&mut call)) {
            panic!("it did not wait: {report:?}");
        }
    }
    drop(look);
    block_on(call).unwrap().outcome(&decky()).unwrap();
    down(&engine);
}

#[test]
fn a_start_that_is_dropped_anywhere_leaves_no_orphan_and_no_zombie() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let mark = dir.path().display().to_string();
    let mut seen = BTreeSet::new();
    for polls in 0..40 {
        let work = work(fleet(&["ssh", "http"]), &CancelToken::new());
        let mut call = engine.deploy(&work);
        for _ in 0..=polls * polls {
            if block_on(poll_once(&mut call)).is_some() {
                break;
            }
            std::thread::yield_now();
        }
        seen.extend(processes(&mark));
        drop(call);
        seen.extend(processes(&mark));
    }
    // What came up as a whole before it could be dropped goes the usual way.
    until(|| {
        let found = block_on(engine.found()).unwrap();
        found.values().all(|decky| decky.services.values().all(|state| state == "running"))
            && processes(&mark).len() == engine.running().unwrap().len()
    });
    down(&engine);
    assert!(!seen.is_empty());
    until(|| seen.iter().all(|pid| !is_there(*pid)) && processes(&mark).is_empty());
    assert!(block_on(engine.found()).unwrap().is_empty());
}
