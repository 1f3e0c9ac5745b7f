//! The hosts file: changed by several, mended by hand, read while it changes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use decnet_lifecycle::agent::HostDirectory as _;
use decnet_lifecycle::{
    agent::{Fingerprint, Host, HostsFile, HostsFileError},
    *,
};
use futures_lite::future::block_on;

type Pinned = decnet_lifecycle::agent::Pin;

fn host(id: &str, pin: Pinned) -> Host {
    Host { id: HostId::parse(id).unwrap(), address: "192.0.2.7:8765".to_owned(), pin }
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hosts.json");
    (dir, path)
}

#[test]
fn what_is_added_is_found_by_others_and_private() {
    let (_dir, path) = place();
    let (ours, theirs) = (HostsFile::new(&path), HostsFile::new(&path));
    assert!(ours.list().unwrap().is_empty());
    let (own, old, new) = (Fingerprint::of(b"own"), Fingerprint::of(b"old"), Fingerprint::of(b"new"));
    let all = [
        host("a", Pinned::CaOnly),
        host("b", Pinned::Certificate(own)),
        host("c", Pinned::Rotating { current: old, next: new }),
    ];
    for one in &all {
        theirs.add(one.clone()).unwrap();
        assert_eq!(block_on(ours.find(&one.id)).unwrap().as_ref(), Some(one));
    }
    assert_eq!(ours.list().unwrap(), all);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(theirs.remove(&all[0].id).unwrap(), all[0]);
    assert_eq!(block_on(ours.find(&all[0].id)).unwrap(), None);
    fs::remove_file(&path).unwrap();
    assert!(ours.list().unwrap().is_empty());
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let (_dir, path) = place();
    let hosts = HostsFile::new(&path);
    let print = Fingerprint::of(b"one");
    hosts.add(host("a", Pinned::CaOnly)).unwrap();
    hosts.add(host("b", Pinned::Certificate(print))).unwrap();
    let before = fs::read(&path).unwrap();
    let (a, b, none) =
        (HostId::parse("a").unwrap(), HostId::parse("b").unwrap(), HostId::parse("z").unwrap());
    let refused = |error: HostsFileError| error.to_string();
    assert!(refused(hosts.add(host("a", Pinned::CaOnly)).unwrap_err()).contains("new pin"));
    assert!(refused(hosts.remove(&none).unwrap_err()).contains("a, b"));
    assert!(refused(hosts.rotate(&none, print).unwrap_err()).contains("a, b"));
    assert!(refused(hosts.rotate(&a, print).unwrap_err()).contains("CA alone"));
    assert!(refused(hosts.rotate(&b, print).unwrap_err()).contains("already"));
    assert!(refused(hosts.settle(&b).unwrap_err()).contains("new pin"));
    let odd = Host { address: "nowhere".into(), ..host("c", Pinned::CaOnly) };
    assert!(refused(hosts.add(odd).unwrap_err()).contains("host:port"));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_that_can_t_be_meant_is_told_and_kept() {
    let (_dir, path) = place();
    let hosts = HostsFile::new(&path);
    let print = Fingerprint::of(b"one");
    let entry = |rest: &str| format!(r#"{{"hosts": [{{"id": "a", "address": "w1:8765"{rest}}}]}}"#);
    let twice = r#"{"hosts": [{"id": "a", "address": "w1:1", "ca_only": true}, {"id": "a", "address": "w1:1", "ca_only": true}]}"#;
    let shared = format!(
        r#"{{"hosts": [{{"id": "a", "address": "w1:1", "pins": ["{print}"]}}, {{"id": "b", "address": "w2:1", "pins": ["{print}"]}}]}}"#
    );
    for (content, says) in [
        (shared, "each host has its own"),
        ("\u{feff}{\"hosts\": []}".to_owned(), "byte order mark"),
        ("{\0\"\0h\0".to_owned(), "UTF-16"),
        (r#"{"hosts": [], "hosts": []}"#.to_owned(), "stands twice"),
        (String::new(), "EOF"),
        ("[]".to_owned(), "hosts"),
        (entry(""), "no pin"),
        (entry(r#", "ca_only": false"#), "no pin"),
        (entry(&format!(r#", "pins": ["{print}"], "ca_only": true"#)), "leave one"),
        (entry(&format!(r#", "pins": ["{print}", "{print}", "{print}"]"#)), "more than two"),
        (entry(r#", "pins": ["beef"]"#), "64 hexadecimal"),
        (entry(r#", "ca_only": true, "cert": 1"#), "unknown field"),
        (twice.to_owned(), "twice"),
        (r#"{"hosts": [{"id": "a", "address": "w1", "ca_only": true}]}"#.to_owned(), "host:port"),
        (" ".repeat(2 << 20), "bytes"),
    ] {
        fs::write(&path, &content).unwrap();
        let id = HostId::parse("a").unwrap();
        for told in [
            hosts.list().unwrap_err().to_string(),
            hosts.add(host("b", Pinned::CaOnly)).unwrap_err().to_string(),
            block_on(hosts.find(&id)).unwrap_err().to_string(),
        ] {
            assert!(told.contains(says) && told.contains("hosts.json"), "{told}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn those_who_change_it_at_once_lose_nothing() {
    let (_dir, path) = place();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let path = &path;
            scope.spawn(move || {
                let hosts = HostsFile::new(path);
                for n in 0..10 {
                    hosts.add(host(&format!("h{writer}-{n}"), Pinned::CaOnly)).unwrap();
                }
            });
        }
    });
    assert_eq!(HostsFile::new(&path).list().unwrap().len(), 80);
}

#[test]
fn a_pin_is_one_host_s_alone() {
    let (_dir, path) = place();
    let hosts = HostsFile::new(&path);
    let [one, two, three] = [b"one".as_slice(), b"two", b"three"].map(Fingerprint::of);
    hosts.add(host("a", Pinned::Certificate(one))).unwrap();
    let shared = |error| matches!(error, HostsFileError::Shared { .. });
    assert!(shared(hosts.add(host("b", Pinned::Certificate(one))).unwrap_err()));
    hosts.add(host("b", Pinned::Certificate(two))).unwrap();
    let b = HostId::parse("b").unwrap();
    assert!(shared(hosts.rotate(&b, one).unwrap_err()));
    hosts.rotate(&b, three).unwrap();
    assert!(shared(hosts.add(host("c", Pinned::Certificate(three))).unwrap_err()));
    assert_eq!(hosts.list().unwrap().len(), 2);
}

#[test]
fn a_file_that_is_broken_by_hand_leaves_what_was_read_before_in_force() {
    let (_dir, path) = place();
    let hosts = HostsFile::new(&path);
    let print = Fingerprint::of(b"one");
    let a = host("a", Pinned::Certificate(print));
    hosts.add(a.clone()).unwrap();
    assert_eq!((block_on(hosts.find(&a.id)).unwrap(), hosts.trouble()), (Some(a.clone()), None));
    let good = fs::read(&path).unwrap();
    for broken in ["{", "[]", r#"{"hosts": [{"id": "a", "address": "w1:1"}]}"#] {
        fs::write(&path, broken).unwrap();
        assert_eq!(block_on(hosts.find(&a.id)).unwrap(), Some(a.clone()));
        assert!(hosts.trouble().is_some_and(|why| why.contains("hosts.json")));
        // It is not overwritten by what was read before.
        assert!(hosts.add(host("b", Pinned::CaOnly)).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), broken);
        // Who has read nothing yet has nothing to go by.
        assert!(HostsFile::new(&path).list().is_err());
    }
    fs::write(&path, &good).unwrap();
    assert_eq!((hosts.list().unwrap(), hosts.trouble()), (vec![a.clone()], None));
    let mut lock = path.clone().into_os_string();
    lock.push(".lock");
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o666)).unwrap();
    hosts.remove(&a.id).unwrap();
    assert_eq!(fs::metadata(&lock).unwrap().permissions().mode() & 0o777, 0o600);
}
