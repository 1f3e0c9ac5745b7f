//! What a server says on stderr: what goes wrong in any case, more if asked to.

use std::path::Path;

use serde_json::Value;

use crate::processes::{Data, HANGS, Process, ask_tls, request};
use crate::{FLEET, api, ended, ids};

fn lines(log: &Path) -> Vec<String> {
    std::fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect()
}

/// The first line of the log that is so, once there is one.
fn until(log: &Path, is_so: impl Fn(&str) -> bool) -> String {
    let begun = std::time::Instant::now();
    loop {
        if let Some(line) = lines(log).into_iter().find(|line| is_so(line)) {
            return line;
        }
        assert!(begun.elapsed() < HANGS, "{:?}", lines(log));
    }
}

fn serve<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["serve", "--listen", "127.0.0.1:0", "--swarm", "127.0.0.1:0", "--engine", "process"], more].concat()
}

#[test]
fn errors_and_warnings_are_told_with_their_time_without_being_asked_for() {
    let data = Data::with_hosts(&["w1"]);
    let log = data.path("log");
    let master = Process::logging(&data, &serve(&[]), &log);
    let taken = api(&data, &master, "POST", "/deckies/deploy", FLEET);
    ended(&data, &master, &ids(&taken));
    assert_eq!(lines(&log), [] as [String; 0]);
    let beat = || {
        let body = r#"{"host_uuid":"w1","agent_version":"1","status":{},"topology":{}}"#;
        let asked = request("POST", "/swarm/heartbeat", &[], body);
        ask_tls(master.address("swarm"), &data.path("pki/ca.crt"), Some(&data.bundle("w1")), &asked)
    };
    assert!(beat().is_some());
    std::fs::write(data.path("hosts.json"), "{").unwrap();
    assert!(beat().is_some());
    let line = until(&log, |line| line.contains(" ERROR ") && line.contains("hosts.json"));
    assert!(line.starts_with("20") && line.contains("T") && line.contains("Z ERROR "), "{line}");
    // Once, however often it is looked at.
    (0..5).for_each(|_| assert!(beat().is_some()));
    assert_eq!(lines(&log).iter().filter(|line| line.contains("hosts.json")).count(), 1);
}

#[test]
fn a_line_tells_of_each_accepted_request_and_each_ended_row() {
    for form in [None, Some("json")] {
        let data = Data::new();
        let log = data.path("log");
        let more: &[&str] = if form.is_some() { &["-v", "--log", "json"] } else { &["-v"] };
        let mut master = Process::logging(&data, &serve(more), &log);
        let taken = api(&data, &master, "POST", "/deckies/deploy", FLEET);
        let rows = ids(&taken);
        ended(&data, &master, &rows);
        assert_eq!(master.stop(), Some(0));
        let all = lines(&log);
        let of = |target: &str| all.iter().filter(|line| line.contains(target)).cloned().collect::<Vec<_>>();
        let (accepted, ended) = (of("decnet_lifecycle::runner"), of("decnet_lifecycle::journal"));
        assert_eq!((accepted.len(), ended.len()), (1, 6), "{all:?}");
        assert!(
            rows.iter().all(|id| ended.iter().filter(|line| line.contains(id)).count() == 1),
            "{ended:?}"
        );
        if form.is_some() {
            let all: Vec<Value> = all.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
            let is_whole = |line: &Value| {
                ["time", "level", "target", "message"].iter().all(|field| line[field].is_string())
            };
            assert!(all.iter().all(is_whole), "{all:?}");
            let accepted = all.iter().find(|line| line["message"] == "accepted").unwrap();
            assert_eq!((&accepted["operation"], &accepted["rows"]), (&"deploy".into(), &"6".into()));
        } else {
            assert!(
                accepted[0].contains(" INFO ") && accepted[0].contains("operation=deploy"),
                "{accepted:?}"
            );
            assert!(ended.iter().all(|line| line.contains("status=succeeded")), "{ended:?}");
        }
    }
}

#[test]
fn a_certificate_that_is_refused_for_its_dates_may_mean_a_clock() {
    let data = Data::with_hosts(&["w1"]);
    let log = data.path("log");
    let master = Process::logging(&data, &serve(&[]), &log);
    let pem = |file: &str| std::fs::read_to_string(data.path(file)).unwrap();
    let key = rcgen::KeyPair::from_pem(&pem("pki/ca.key")).unwrap();
    let ca = rcgen::Issuer::from_ca_cert_pem(&pem("pki/ca.crt"), key).unwrap();
    let mut old = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    old.not_before = rcgen::date_time_ymd(2020, 1, 1);
    old.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let old = old.signed_by(&key, &ca).unwrap();
    let bundle = data.bundle("w1");
    std::fs::write(bundle.join("worker.crt"), old.pem()).unwrap();
    std::fs::write(bundle.join("worker.key"), key.serialize_pem()).unwrap();
    // The master says so once, and its worker each time.
    let told = data.path("worker-log");
    let address = master.address("swarm").to_string();
    let listen = ["--listen", "127.0.0.1:0", "--beat-every", "1s"];
    let args = [&["worker", "w1", "--engine", "process", "--master", &address][..], &listen].concat();
    let _worker = Process::logging(&data, &args, &told);
    // A beat that was still being written when the master hung up says less.
    let line =
        until(&told, |line| line.contains("a beat was not taken") && line.contains("is the clock right"));
    assert!(line.contains(" WARN "), "{line}");
    let line = until(&log, |line| line.contains("a handshake failed"));
    assert!(line.contains(" WARN ") && line.contains("is the clock right"), "{line}");
}

/// Of a fleet's passwords nothing stands anywhere that others look at.
#[test]
fn what_a_fleet_keeps_secret_is_in_no_log_answer_or_number() {
    const CANARY: &str = "Qx7-canary-4711-Zz9";
    let data = Data::new();
    let log = data.path("log");
    let mut master = Process::logging(&data, &serve(&["-vv"]), &log);
    let mut fleet: Value = serde_json::from_str(FLEET).unwrap();
    fleet["deckies"][0]["service_config"] = serde_json::json!({"ssh": {"root_password": CANARY}});
    let taken = api(&data, &master, "POST", "/deckies/deploy", &fleet.to_string());
    let rows = ids(&taken);
    ended(&data, &master, &rows);
    let mut seen: Vec<String> = ["/deckies", "/metrics", &format!("/lifecycle/{}", rows[0]), "/healthz"]
        .iter()
        .map(|path| api(&data, &master, "GET", path, "").body)
        .collect();
    // Words of others that hold it: a request that is refused.
    let asked = format!(r#"{{"services": ["{CANARY}"]}}"#);
    api(&data, &master, "POST", "/deckies/decky-01/mutate", &asked);
    seen.extend([data.ok(&["ls"]), data.ok(&["ps"]), data.ok(&["watch", "--help"])]);
    assert_eq!(master.stop(), Some(0));
    seen.extend(lines(&log));
    assert!(!seen.iter().any(|text| text.contains("canary-4711")), "{seen:?}");
}
