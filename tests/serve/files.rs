//! The PKI and the hosts file, from the command line.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::processes::Data;

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
