//! What users ask of a master.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use decnet_lifecycle::FleetConfig;

use crate::processes::{Data, HANGS, Process, ask, request, try_ask};
use crate::{FLEET, SWARM, api, ended, ids, with};

#[test]
fn a_fleet_goes_the_way_that_the_original_s_wizard_goes() {
    let data = Data::new();
    let master = Process::master(&data, &[]);
    let taken = api(&data, &master, "POST", "/deckies/deploy", FLEET);
    assert_eq!(taken.status, 202);
    let mut keys: Vec<String> = taken.json().as_object().unwrap().keys().cloned().collect();
    keys.sort();
    assert_eq!(keys, ["lifecycle_ids", "message", "mode"]);
    assert_eq!(taken.json()["mode"], "unihost");
    let rows = ended(&data, &master, &ids(&taken));
    assert_eq!(rows.len(), 6);
    assert!(rows.iter().all(|row| row["status"] == "succeeded"), "{rows:?}");
    let mut keys: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
    keys.sort();
    let known = [
        "completed_at",
        "decky_name",
        "error",
        "host_uuid",
        "id",
        "operation",
        "started_at",
        "status",
        "updated_at",
    ];
    assert_eq!(keys, known);

    let taken = api(&data, &master, "POST", "/deckies/decky-01/mutate", r#"{"services":["ssh","redis"]}"#);
    assert_eq!(taken.status, 202);
    assert_eq!(taken.json().as_object().unwrap().len(), 1);
    assert_eq!(ended(&data, &master, &ids(&taken))[0]["operation"], "mutate");
    let one = api(&data, &master, "GET", &format!("/lifecycle/{}", ids(&taken)[0]), "").json();
    assert_eq!(one["history"].as_array().unwrap().len(), 3);
    assert!(one["why"].as_str().unwrap().starts_with("succeeded"));
    for path in ["/deckies/decky-02/teardown", "/deckies/teardown"] {
        let taken = api(&data, &master, "POST", path, "");
        assert_eq!(taken.status, 202, "{taken:?}");
        assert!(ended(&data, &master, &ids(&taken)).iter().all(|row| row["status"] == "succeeded"));
    }
}

#[test]
fn the_token_is_asked_for_everywhere_but_at_the_health_check() {
    let data = Data::new();
    let master = Process::master(&data, &[]);
    let address = master.address("api");
    let healthy = ask(address, &request("GET", "/healthz", &[], ""));
    assert_eq!((healthy.status, healthy.body.as_str()), (200, r#"{"status":"ok"}"#));
    let token = data.token();
    for path in ["/metrics", "/deckies/lifecycle", "/lifecycle/feed", "/nothing"] {
        for authorization in
            ["", "Bearer", "Bearer x", &format!("Basic {token}"), &format!("Bearer {token}x"), &token]
        {
            let answer = ask(address, &request("GET", path, &[("authorization", authorization)], ""));
            assert_eq!(answer.status, 401, "{path}: {authorization}");
            assert!(answer.head.contains("www-authenticate: Bearer"));
            assert!(!answer.body.contains(&token));
        }
    }
    let answer =
        ask(address, &request("GET", "/nothing", &[("authorization", &format!("bearer {token}"))], ""));
    assert_eq!((answer.status, answer.body.as_str()), (404, r#"{"detail":"Not Found"}"#));
    use std::os::unix::fs::PermissionsExt as _;
    for file in ["serve.token", "serve.json"] {
        let mode = std::fs::metadata(data.path(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn bad_input_gets_a_clear_answer_and_makes_no_row() {
    let data = Data::new();
    let master = Process::master(&data, &[]);
    let many: String = (0..201).map(|n| format!("ids=00000000-0000-7000-8000-{n:012}&")).collect();
    for (method, path, body, status, says) in [
        ("POST", "/deckies/deploy", "{", 422, "EOF"),
        ("POST", "/deckies/deploy", "{}", 422, "deckies"),
        ("POST", "/deckies/deploy?only=nobody", FLEET, 422, "decky-01"),
        ("POST", "/deckies/deploy?only=No!", FLEET, 422, "name"),
        ("POST", "/deckies/deploy?supersede=maybe", FLEET, 422, "supersede"),
        ("GET", "/deckies/deploy", "", 405, "Method Not Allowed"),
        ("POST", "/deckies/decky-01/mutate", r#"{"services":["ssh"]}"#, 422, "deploy a fleet first"),
        ("POST", "/deckies/decky-01/mutate", "[]", 422, "services"),
        ("POST", "/deckies/decky-01/mutate", r#"{"services":[1]}"#, 422, "services"),
        ("POST", "/deckies/N!/mutate", r#"{"services":["ssh"]}"#, 422, "name"),
        ("POST", "/deckies/teardown", "", 422, "deploy a fleet first"),
        ("GET", "/deckies/lifecycle", "", 422, "1 to 200"),
        ("GET", "/deckies/lifecycle?ids=1", "", 422, "id"),
        ("GET", &format!("/deckies/lifecycle?{many}"), "", 422, "201"),
        ("GET", "/lifecycle/1", "", 422, "id"),
        ("GET", "/lifecycle/00000000-0000-7000-8000-000000000001", "", 404, "no row"),
        ("POST", "/lifecycle/00000000-0000-7000-8000-000000000001/cancel", "", 404, "no row"),
        ("GET", "/lifecycle/feed?after=x", "", 422, "revision"),
    ] {
        let answer = api(&data, &master, method, path, body);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        let detail = answer.json()["detail"].to_string();
        assert!(detail.contains(says), "{path}: {detail}");
    }
    // One that is too long; the connection may be closed before all was sent.
    let bearer = format!("Bearer {}", data.token());
    let long = " ".repeat(FleetConfig::MAX_BYTES + 1);
    let long = request("POST", "/deckies/deploy", &[("authorization", &bearer)], &long);
    assert!(try_ask(master.address("api"), &long).is_none_or(|answer| answer.status == 413));
    let unknown = "/deckies/lifecycle?ids=00000000-0000-7000-8000-000000000001";
    assert_eq!(api(&data, &master, "GET", unknown, "").body, r#"{"rows":[]}"#);
    let metrics = api(&data, &master, "GET", "/metrics", "");
    assert!(metrics.body.contains("\ndecnet_lifecycle_steps_total 0\n"), "{metrics:?}");
    assert!(metrics.head.contains("text/plain; version=0.0.4"));
}

#[test]
fn a_key_makes_a_request_safe_to_repeat() {
    let data = Data::new();
    let master = Process::master(&data, &[]);
    let ask =
        |fleet: &str| with(&data, &master, "POST", "/deckies/deploy", &[("Idempotency-Key", "k1")], fleet);
    let first = ids(&ask(FLEET));
    ended(&data, &master, &first);
    assert_eq!(ids(&ask(FLEET)), first);
    let other = ask(&FLEET.replace("srv-web-01", "srv-web-02"));
    assert_eq!(other.status, 409);
    assert!(other.body.contains("use a new key"), "{other:?}");
    let odd = with(&data, &master, "POST", "/deckies/deploy", &[("Idempotency-Key", "\u{1}")], FLEET);
    assert!(matches!(odd.status, 400 | 422), "{odd:?}");
}

/// A worker that nobody answers for: its rows stay open until they are stopped
/// or taken over.
#[test]
fn what_is_open_can_be_explained_taken_over_and_cancelled() {
    let data = Data::with_hosts(&["w1", "w2"]);
    let master = Process::master(&data, &[]);
    // Takes the call, and never says how it ended.
    let _agents = ["w1", "w2"].map(|host| silent_agent(&data, host));
    let taken = api(&data, &master, "POST", "/deckies/deploy?only=decky-01", SWARM);
    let id = ids(&taken).remove(0);
    let busy = api(&data, &master, "POST", "/deckies/deploy?only=decky-01", SWARM);
    assert_eq!(busy.status, 409, "{busy:?}");
    assert!(busy.body.contains(&id), "{busy:?}");
    let over = api(&data, &master, "POST", "/deckies/deploy?only=decky-01&supersede=true", SWARM);
    assert_eq!(over.status, 202, "{over:?}");
    let old = ended(&data, &master, &[id]);
    assert!(old[0]["error"].as_str().unwrap().starts_with("Superseded"), "{old:?}");
    let newer = ids(&over).remove(0);
    let begun = std::time::Instant::now();
    let shown = loop {
        let shown = data.ok(&["--json", "show", &newer]);
        if shown.contains("the worker has the work") {
            break shown;
        }
        assert!(begun.elapsed() < HANGS, "{shown}");
    };
    assert!(
        shown.contains("host w1 last heard 0 s ago") && shown.contains("it fails by itself in"),
        "{shown}"
    );
    let cancelled = api(&data, &master, "POST", &format!("/lifecycle/{newer}/cancel"), "");
    assert_eq!((cancelled.status, &cancelled.json()["outcome"]), (202, &"requested".into()));
    assert!(data.ok(&["cancel", &newer]).contains("requested"));
    assert!(data.ok(&["show", &newer]).contains("it was asked to stop"));
}

/// An agent that answers each request with 202, on the host's port.
pub fn silent_agent(data: &Data, host: &str) -> std::thread::JoinHandle<()> {
    use decnet_lifecycle::agent::https::Identity;
    let hosts: serde_json::Value =
        serde_json::from_slice(&std::fs::read(data.path("hosts.json")).unwrap()).unwrap();
    let host_entry = hosts["hosts"].as_array().unwrap().iter().find(|entry| entry["id"] == host).unwrap();
    let listener = std::net::TcpListener::bind(host_entry["address"].as_str().unwrap()).unwrap();
    let config = Identity::load(&data.bundle(host)).unwrap().server_config().unwrap();
    let config = std::sync::Arc::new(config);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let conn = rustls::ServerConnection::new(std::sync::Arc::clone(&config)).unwrap();
            let mut tls = rustls::StreamOwned::new(conn, stream.unwrap());
            let mut read = vec![0; 64 << 10];
            let mut heard = Vec::new();
            while !heard.ends_with(b"}") {
                match tls.read(&mut read) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => heard.extend_from_slice(&read[..count]),
                }
            }
            let _ = tls.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    })
}

#[test]
fn the_feed_goes_on_where_a_client_left_off() {
    let data = Data::new();
    let master = Process::master(&data, &[]);
    ended(&data, &master, &ids(&api(&data, &master, "POST", "/deckies/deploy", FLEET)));
    let bearer = format!("Bearer {}", data.token());
    let read = |headers: &[(&str, &str)], path: &str, count: usize| -> Vec<u64> {
        let headers = [&[("authorization", bearer.as_str())], headers].concat();
        let mut stream = TcpStream::connect(master.address("api")).unwrap();
        stream.set_read_timeout(Some(HANGS)).unwrap();
        stream.write_all(request("GET", path, &headers, "").as_bytes()).unwrap();
        let lines = BufReader::new(stream).lines().map(Result::unwrap);
        lines.filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).take(count).collect()
    };
    let all: Vec<u64> = (1..=18).collect();
    assert_eq!(read(&[], "/lifecycle/feed?after=0", 18), all);
    assert_eq!(read(&[("Last-Event-ID", "7")], "/lifecycle/feed", 11), all[7..]);
    assert_eq!(read(&[("Last-Event-ID", "7")], "/lifecycle/feed?after=2", 11), all[7..]);
    // One that follows from now on hears what comes next.
    let follower = std::thread::scope(|scope| {
        let (begun, has_begun) = std::sync::mpsc::channel();
        let reader = scope.spawn({
            let (bearer, address) = (bearer.clone(), master.address("api"));
            move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(HANGS)).unwrap();
                let asked = request("GET", "/lifecycle/feed", &[("authorization", &bearer)], "");
                stream.write_all(asked.as_bytes()).unwrap();
                let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
                assert_eq!(lines.next().unwrap(), "HTTP/1.1 200 OK");
                begun.send(()).unwrap();
                lines.find_map(|line| line.strip_prefix("id: ")?.parse::<u64>().ok())
            }
        });
        has_begun.recv().unwrap();
        api(&data, &master, "POST", "/deckies/decky-01/teardown", "");
        reader.join().unwrap()
    });
    assert_eq!(follower, Some(19));
}

#[test]
fn slow_clients_are_cut_off_and_hold_nobody_up() {
    let data = Data::new();
    let master = Process::master(&data, &["--request-timeout", "1s"]);
    let bearer = format!("Bearer {}", data.token());
    let mut slow: Vec<TcpStream> = (0..50)
        .map(|n| {
            let mut stream = TcpStream::connect(master.address("api")).unwrap();
            stream.set_read_timeout(Some(HANGS)).unwrap();
            let whole = request("POST", "/deckies/deploy", &[("authorization", &bearer)], FLEET);
            let cut = if n % 2 == 0 { whole.find("authorization").unwrap() } else { whole.len() - 10 };
            stream.write_all(&whole.as_bytes()[..cut]).unwrap();
            stream
        })
        .collect();
    assert_eq!(ask(master.address("api"), &request("GET", "/healthz", &[], "")).status, 200);
    for stream in &mut slow {
        let mut answer = String::new();
        // The end, or a reset: anything but waiting for ever.
        if let Err(error) = stream.read_to_string(&mut answer) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it was not cut off");
        }
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
}

#[test]
fn a_master_stops_gracefully_and_the_next_goes_on() {
    let data = Data::new();
    let mut master = Process::master(&data, &[]);
    let done = ids(&api(&data, &master, "POST", "/deckies/deploy", FLEET));
    ended(&data, &master, &done);
    let busy = data.refused(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(busy.contains("in use") && !busy.contains("--wait"), "{busy}");
    assert!(data.refused(&["prune"]).contains("in use"));
    // A follower of the feed is let go.
    let mut follower = TcpStream::connect(master.address("api")).unwrap();
    let bearer = format!("Bearer {}", data.token());
    follower
        .write_all(request("GET", "/lifecycle/feed", &[("authorization", &bearer)], "").as_bytes())
        .unwrap();
    let mut begun = [0; 12];
    follower.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    assert_eq!(master.stop(), Some(0));
    // It got its end, which a server that is only gone does not send.
    let mut rest = String::new();
    follower.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "{rest}");
    assert!(!data.path("serve.json").exists());
    // Without a master the commands do the work themselves, as ever.
    assert!(data.ok(&["teardown", "decky-06"]).contains("1 succeeded"));
    let master = Process::master(&data, &[]);
    assert_eq!(ended(&data, &master, &done).len(), 6);
    // One that was killed leaves its file behind; nobody falls for it.
    drop(master);
    assert!(data.path("serve.json").exists());
    assert!(data.ok(&["teardown", "decky-05"]).contains("1 succeeded"));
}

#[test]
fn commands_beside_a_master_go_through_it() {
    let data = Data::new();
    let mut master = Process::master(&data, &[]);
    let fleet = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/fleet.json");
    assert!(data.ok(&["deploy", fleet]).contains("6 succeeded, 0 failed; 18 decoys"));
    assert!(data.ok(&["mutate", "decky-01", "--services", "ssh", "--key", "a"]).contains("1 succeeded"));
    assert!(data.ok(&["mutate", "decky-01", "--services", "ssh", "--key", "a"]).contains("1 succeeded"));
    assert!(data.refused(&["mutate", "nobody", "--services", "ssh"]).contains("decky-01"));
    assert!(data.ok(&["teardown", "decky-02"]).contains("1 succeeded"));
    assert!(data.ok(&["deploy", fleet, "--only", "decky-02", "--supersede"]).contains("1 succeeded"));
    assert!(
        data.refused(&["deploy", fleet, "--engine", "process"]).contains("give these options to `serve`")
    );
    assert!(data.refused(&["deploy", fleet, "--network", "n"]).contains("give these options to `serve`"));
    assert_eq!(master.stop(), Some(0));
}

/// Who listens where a killed master did gets neither its token nor its work.
#[test]
fn a_stranger_at_the_master_s_address_is_not_taken_for_it() {
    let data = Data::new();
    let mut master = Process::master(&data, &[]);
    let address = master.address("api");
    master.kill();
    assert!(data.path("serve.json").exists());
    let stranger = std::net::TcpListener::bind(address).unwrap();
    stranger.set_nonblocking(true).unwrap();
    let fleet = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/fleet.json");
    assert!(data.ok(&["deploy", fleet]).contains("6 succeeded"));
    assert_eq!(stranger.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "it was asked");
}

/// Work that was sent is done, whether its sender waits for the answer or not.
#[test]
fn a_client_that_hangs_up_leaves_no_row_behind() {
    let data = Data::new();
    let master = Process::master(&data, &[]);
    let bearer = format!("Bearer {}", data.token());
    let asked = request("POST", "/deckies/deploy?supersede=true", &[("authorization", &bearer)], FLEET);
    for _ in 0..10 {
        let mut stream = TcpStream::connect(master.address("api")).unwrap();
        stream.write_all(asked.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    }
    // All ten deploys of six are taken, and all of their rows end.
    let begun = std::time::Instant::now();
    let rows = loop {
        let rows = data.run(&["--json", "ls", "--limit", "1000"]);
        let rows = String::from_utf8(rows.stdout).unwrap();
        let is_open = rows.contains(r#""status":"pending""#) || rows.contains(r#""status":"running""#);
        if rows.lines().count() == 60 && !is_open {
            break rows;
        }
        assert!(begun.elapsed() < HANGS, "{rows}");
    };
    assert!(!rows.contains("Abandoned"), "{rows}");
}

/// The wizard's path for rows must not hide a decky.
#[test]
fn a_decky_may_be_named_as_a_path_is() {
    let data = Data::new();
    let master = Process::master(&data, &[]);
    let fleet = FLEET.replace("decky-01", "lifecycle").replace("decky-02", "deploy");
    ended(&data, &master, &ids(&api(&data, &master, "POST", "/deckies/deploy", &fleet)));
    for name in ["lifecycle", "deploy"] {
        assert!(data.ok(&["mutate", name, "--services", "ssh"]).contains("1 succeeded"));
        assert!(data.ok(&["teardown", name]).contains("1 succeeded"));
    }
}

#[test]
fn a_master_is_not_exposed_by_mistake() {
    let data = Data::new();
    assert!(data.refused(&["serve", "--listen", "0.0.0.0:0"]).contains("--expose"));
    assert!(data.refused(&["serve", "--request-timeout", "500ms"]).contains("12h"));
    let swarm = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/fleet-swarm.json");
    assert!(data.refused(&["deploy", swarm]).contains("start one with `serve`"));
    assert!(data.refused(&["worker", "..", "--bundle", "."]).contains("another id"));
    std::fs::write(data.path("serve.token"), "short").unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(data.path("serve.token"), private).unwrap();
    assert!(data.refused(&["serve", "--listen", "127.0.0.1:0"]).contains("holds no token"));
}
