//! Heartbeats at a master over mTLS: whom it hears, and what it answers.

use crate::processes::{Answer, Data, Process, ask_tls, request};
use crate::{SWARM, api, ids};

struct Master {
    data: Data,
    process: Process,
}

impl Master {
    fn new() -> Self {
        let data = Data::with_hosts(&["w1", "w2"]);
        let process = Process::master(&data, &[]);
        Self { data, process }
    }

    fn ask(&self, who: Option<&str>, request: &str) -> Option<Answer> {
        let bundle = who.map(|who| self.data.bundle(who));
        let ca = self.data.path("pki/ca.crt");
        ask_tls(self.process.address("swarm"), &ca, bundle.as_deref(), request)
    }

    fn beat(&self, who: &str, body: &str) -> Answer {
        self.ask(Some(who), &request("POST", "/swarm/heartbeat", &[], body)).unwrap()
    }
}

/// The original's sample, as its worker sends it.
const PLAIN: &str = r#"{"host_uuid":"w1","agent_version":"unknown",
 "status":{"deployed":false,"deckies":[]},
 "topology":{"topology_id":null,"applied_version_hash":null,"applied_at":null,"last_error":null,"observed":{}}}"#;

#[test]
fn a_beat_of_the_original_s_worker_is_answered_as_by_the_original() {
    let master = Master::new();
    let answer = master.beat("w1", PLAIN);
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert!(!answer.head.to_lowercase().contains("content-length"), "{answer:?}");
    for (who, body, status) in [
        ("w2", PLAIN, 403),
        ("master", PLAIN, 403),
        ("w1", &PLAIN.replace("w1", "w9"), 404),
        ("w1", "", 422),
        ("w1", "[]", 422),
        ("w1", "{}", 422),
        ("w1", r#"{"host_uuid": 7}"#, 422),
        ("w1", r#"{"host_uuid": "w1", "lifecycle": "all well"}"#, 422),
        ("w1", &format!("{}{PLAIN}", " ".repeat(256 << 10)), 413),
    ] {
        let answer = master.beat(who, body);
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(!answer.json()["detail"].is_null());
    }
    let wrong = master.ask(Some("w1"), &request("GET", "/swarm/heartbeat", &[], "")).unwrap();
    assert_eq!((wrong.status, wrong.body.as_str()), (405, r#"{"detail":"Method Not Allowed"}"#));
    let metrics = api(&master.data, &master.process, "GET", "/metrics", "").body;
    assert!(metrics.contains("beats_total 1\n") && metrics.contains("beats_refused_total 9\n"), "{metrics}");
}

#[test]
fn who_shows_no_certificate_of_our_ca_gets_no_answer() {
    let master = Master::new();
    let asked = request("POST", "/swarm/heartbeat", &[], PLAIN);
    assert!(master.ask(None, &asked).is_none());
    let stranger = Data::new();
    stranger.ok(&["pki", "init", "--local", "w1"]);
    let ca = master.data.path("pki/ca.crt");
    assert!(ask_tls(master.process.address("swarm"), &ca, Some(&stranger.bundle("w1")), &asked).is_none());
    // Who is added by another certificate than its own is told so.
    assert_eq!(master.beat("w1", PLAIN).status, 204);
    let other = "0".repeat(64);
    master.data.ok(&["hosts", "rm", "w1"]);
    master.data.ok(&["hosts", "add", "w1", "--address", "127.0.0.1:1", "--pin", &other]);
    assert_eq!(master.beat("w1", PLAIN).status, 403);
}

#[test]
fn ten_thousand_deltas_lies_and_replays_change_nothing() {
    let master = Master::new();
    // Nobody listens for w1 and w2: their rows fail, or stay as they are.
    let taken = api(&master.data, &master.process, "POST", "/deckies/deploy?only=decky-05", SWARM);
    let id = ids(&taken).remove(0);
    crate::ended(&master.data, &master.process, std::slice::from_ref(&id));
    let steps = || {
        let metrics = api(&master.data, &master.process, "GET", "/metrics", "").body;
        metrics.lines().find(|line| line.starts_with("decnet_lifecycle_steps_total")).unwrap().to_owned()
    };
    // A row is seen to have ended a moment before its last step is counted.
    let begun = std::time::Instant::now();
    let before = loop {
        let counted = steps();
        if counted.ends_with(" 3") {
            break counted;
        }
        assert!(begun.elapsed() < crate::processes::HANGS, "{counted}");
    };
    let beat = |host: &str, deltas: &str| {
        format!(r#"{{"host_uuid":"{host}","open_rows":[],"lifecycle":[{deltas}]}}"#)
    };
    let many = vec!["{}"; 10_000].join(",");
    let answer = master.beat("w1", &beat("w1", &many));
    assert_eq!(answer.status, 200);
    let verdicts = answer.json()["verdicts"].as_array().unwrap().clone();
    assert_eq!(verdicts.len(), 10_000);
    assert!(verdicts.iter().all(|verdict| verdict == "malformed"));
    let full = vec![r#"{"decky_name":"decky-01","operation":"deploy","status":"failed"}"#; 10_000].join(",");
    // By its length alone, before all was sent.
    let long = request("POST", "/swarm/heartbeat", &[], &beat("w1", &full));
    assert!(master.ask(Some("w1"), &long).is_none_or(|answer| answer.status == 413));

    let delta = format!(
        r#"{{"decky_name":"decky-05","operation":"deploy","status":"failed","lifecycle_id":"{id}","error":"lie"}}"#
    );
    for _ in 0..3 {
        // The row is the master's own, and has ended.
        let answer = master.beat("w1", &beat("w1", &delta)).json();
        assert_eq!(answer["verdicts"], serde_json::json!(["wrong_host"]));
    }
    assert_eq!(master.beat("w1", &beat("w2", &delta)).status, 403);
    assert_eq!(steps(), before);
}

/// A master that is stopped for longer than a host may be silent: what the
/// host tells once it goes on counts.
#[test]
fn a_master_that_was_stopped_takes_nobody_for_silent() {
    let data = Data::with_hosts(&["w1"]);
    let args = ["--silence", "2s", "--sweep-every", "1s"];
    let process = Process::master(&data, &args);
    let master = Master { data, process };
    let _agent = crate::api::silent_agent(&master.data, "w1");
    let taken = api(&master.data, &master.process, "POST", "/deckies/deploy?only=decky-01", SWARM);
    let id = ids(&taken).remove(0);
    let row = || api(&master.data, &master.process, "GET", &format!("/lifecycle/{id}"), "").json();
    let until = |is_so: &dyn Fn(&serde_json::Value) -> bool| {
        let begun = std::time::Instant::now();
        loop {
            let row = row();
            if is_so(&row) {
                return;
            }
            assert!(begun.elapsed() < crate::processes::HANGS, "{row}");
        }
    };
    until(&|row| row["why"].as_str().is_some_and(|why| why.contains("the worker has the work")));
    // The pause is what is tested, and so is as long as it is; others look on
    // meanwhile.
    master.process.signal("STOP");
    let stopped = std::time::Instant::now();
    while stopped.elapsed() < std::time::Duration::from_secs(4) {
        master.data.ok(&["ls"]);
    }
    master.process.signal("CONT");
    // Its next looks for silent hosts come within this.
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(2) {
        let row = row();
        assert_eq!(row["status"], "running", "{row}");
        assert_eq!(master.beat("w1", PLAIN).status, 204);
    }
    let delta = format!(
        r#"{{"decky_name":"decky-01","operation":"deploy","status":"succeeded","lifecycle_id":"{id}"}}"#
    );
    let beat = format!(r#"{{"host_uuid":"w1","open_rows":[],"lifecycle":[{delta}]}}"#);
    assert_eq!(master.beat("w1", &beat).json()["verdicts"], serde_json::json!(["applied"]));
    assert_eq!(row()["status"], "succeeded");
}
