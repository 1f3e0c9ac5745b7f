//! The PKI and the hosts file, from the command line.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::processes::{Data, Process, ask, ask_tls, request};

#[test]
fn a_pki_has_the_original_s_layout_and_is_never_overwritten() {
    let data = Data::new();
    data.ok(&["pki", "init", "--local", "w1,w2"]);
    let mode = |file: &str| fs::metadata(data.path(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("pki/ca.key"), 0o600);
    for name in ["master", "w1", "w2"] {
        assert_eq!(mode(&format!("pki/{name}")), 0o700);
        assert_eq!(mode(&format!("pki/{name}/worker.key")), 0o600);
        let ca = fs::read(data.path(&format!("pki/{name}/ca.crt"))).unwrap();
        assert_eq!(ca, fs::read(data.path("pki/ca.crt")).unwrap());
    }
    let before = fs::read(data.path("pki/ca.key")).unwrap();
    assert!(data.refused(&["pki", "init"]).contains("nothing is overwritten"));
    assert!(data.refused(&["pki", "issue", "w1", "--san", "127.0.0.1"]).contains("nothing is overwritten"));
    assert_eq!(fs::read(data.path("pki/ca.key")).unwrap(), before);
    assert!(data.refused(&["pki", "issue", "w3", "--san", "not a name"]).contains("--san"));
    assert!(!data.path("pki/w3").exists());
    let fresh = Data::new();
    assert!(fresh.refused(&["pki", "init", "--san", "192.0.2.1:8770"]).contains("--san"));
    let dir = fresh.path("keys");
    fresh.ok(&["pki", "init", "--local", "w1", "--dir", dir.to_str().unwrap()]);
    let elsewhere = data.path("elsewhere");
    let nowhere = elsewhere.to_str().unwrap();
    assert!(data.refused(&["pki", "issue", "w1", "--san", "w1", "--dir", nowhere]).contains("pki init"));
    let told = data.ok(&["--json", "pki", "issue", "w3", "--san", "w3.test,192.0.2.7"]);
    let print = serde_json::from_str::<serde_json::Value>(&told).unwrap()["fingerprint"].clone();
    data.ok(&["hosts", "add", "w3", "--address", "w3.test:8765"]);
    let hosts = data.ok(&["--json", "hosts", "ls"]);
    assert!(hosts.lines().last().unwrap().contains(print.as_str().unwrap()));
}

#[test]
fn hosts_come_change_and_go() {
    let data = Data::new();
    let (old, new) = ("0".repeat(64), "1".repeat(64));
    assert_eq!(data.ok(&["hosts", "ls"]), "no hosts\n");
    assert!(data.refused(&["hosts", "add", "w1", "--address", "w1:8765"]).contains("--pin"));
    data.ok(&["hosts", "add", "w1", "--address", "w1:8765", "--pin", &old]);
    assert!(data.refused(&["hosts", "add", "w1", "--address", "w1:1", "--ca-only"]).contains("already"));
    assert!(data.refused(&["hosts", "add", "w2", "--address", "w2", "--ca-only"]).contains("host:port"));
    data.ok(&["hosts", "add", "w2", "--address", "[2001:db8::7]:8765", "--ca-only"]);
    assert!(data.ok(&["hosts", "rotate", "w1", "--pin", &new]).contains(&format!("{old} or {new}")));
    assert!(data.ok(&["hosts", "settle", "w1"]).contains(&new));
    let shown = data.ok(&["hosts", "ls"]);
    assert!(shown.contains(&new) && !shown.contains(&old) && shown.contains("any certificate of the CA"));
    data.ok(&["hosts", "rm", "w1"]);
    assert!(data.refused(&["hosts", "rm", "w1"]).contains("w2"));
}

/// What a master lives by is its owner's alone, or it doesn't start.
#[test]
fn a_master_starts_over_no_file_that_others_may_read_or_change() {
    let data = Data::with_hosts(&["w1"]);
    drop(Process::master(&data, &[]));
    let set = |file: &str, mode: u32| {
        fs::set_permissions(data.path(file), fs::Permissions::from_mode(mode)).unwrap();
    };
    let serve = ["serve", "--listen", "127.0.0.1:0", "--swarm", "127.0.0.1:0"];
    for (file, bad, good, says) in [
        ("serve.token", 0o640, 0o600, "read by others (mode 640): chmod 600"),
        ("serve.token", 0o602, 0o600, "changed by others"),
        ("lifecycle.redb", 0o644, 0o600, "read by others"),
        ("pki/ca.key", 0o604, 0o600, "read by others"),
        ("pki/master/worker.key", 0o640, 0o600, "read by others"),
        ("hosts.json", 0o620, 0o644, "changed by others"),
        ("hosts.json.lock", 0o644, 0o600, "read by others"),
        ("", 0o777, 0o755, "directory that anybody may write to (mode 777)"),
    ] {
        set(file, bad);
        let told = data.refused(&serve);
        assert!(told.contains(says) && told.contains(file), "{file}: {told}");
        set(file, good);
    }
    // Another's, for who may give files away.
    let token = data.path("serve.token");
    match std::os::unix::fs::chown(&token, Some(12_345), None) {
        Ok(()) => {
            assert!(data.refused(&serve).contains("belongs to user 12345"));
            std::os::unix::fs::chown(&token, Some(0), None).unwrap();
        }
        Err(error) => eprintln!("SKIPPED: a file could not be given to another user (root may): {error}"),
    }
    Process::master(&data, &[]);
}

#[test]
fn whatever_the_umask_what_is_made_is_its_owner_s_alone() {
    let data = Data::new();
    let program = env!("CARGO_BIN_EXE_decnet-lifecycle");
    let under = |mask: &str, command: &str| {
        let script = format!("umask {mask}; exec {program} --data {} {command}", data.path("").display());
        assert!(
            std::process::Command::new("sh").args(["-c", &script]).status().unwrap().success(),
            "{command}"
        );
    };
    under("000", "pki init --local w1");
    under("000", "hosts add w2 --address 127.0.0.1:1 --ca-only");
    under("000", concat!("deploy --engine process ", env!("CARGO_MANIFEST_DIR"), "/examples/fleet.json"));
    under("000", "teardown --yes");
    let mut looked_at = 0;
    let mut folders = vec![data.path("")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, mode) = (entry.path(), entry.metadata().unwrap().permissions().mode() & 0o777);
            if path.is_dir() {
                assert_eq!(mode, 0o700, "{}", path.display());
                folders.push(path);
            } else if path.extension().is_none_or(|kind| kind != "crt") {
                assert_eq!(mode, 0o600, "{}", path.display());
                looked_at += 1;
            }
        }
    }
    assert!(looked_at > 6, "{looked_at}");
}

#[test]
fn a_hosts_file_that_is_broken_while_a_master_runs_takes_no_host_out() {
    let data = Data::with_hosts(&["w1"]);
    let master = Process::master(&data, &[]);
    let body = r#"{"host_uuid":"w1","agent_version":"1","status":{},"topology":{}}"#;
    let beat = || {
        let asked = request("POST", "/swarm/heartbeat", &[], body);
        let (ca, bundle) = (data.path("pki/ca.crt"), data.bundle("w1"));
        ask_tls(master.address("swarm"), &ca, Some(&bundle), &asked).map(|answer| answer.status)
    };
    let health = || ask(master.address("api"), &request("GET", "/healthz", &[], ""));
    assert_eq!(beat(), Some(204));
    let good = fs::read(data.path("hosts.json")).unwrap();
    fs::write(data.path("hosts.json"), "{\"hosts\": [").unwrap();
    assert_eq!(beat(), Some(204));
    let told = health();
    assert!(
        told.status == 200 && told.body.contains("degraded") && told.body.contains("hosts.json"),
        "{told:?}"
    );
    fs::write(data.path("hosts.json"), good).unwrap();
    assert_eq!((beat(), health().body.as_str()), (Some(204), r#"{"status":"ok"}"#));
    data.ok(&["hosts", "rm", "w1"]);
    assert_eq!(beat(), Some(403));
}
