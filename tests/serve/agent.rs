//! A worker's agent over mTLS, as the original's master asks it.

use decnet_lifecycle::worker::DeployDispatch;
use serde_json::{Value, json};

use crate::FLEET;
use crate::processes::{Answer, Data, HANGS, Process, ask_tls, request};

struct Worker {
    data: Data,
    process: Process,
}

impl Worker {
    fn new(more: &[&str]) -> Self {
        let data = Data::with_hosts(&["w1"]);
        let args = [&["worker", "w1", "--listen", "127.0.0.1:0", "--master", "127.0.0.1:9"], more].concat();
        let process = Process::start(&data, &args);
        Self { data, process }
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask_as(Some("master"), &request(method, path, &[], &body)).unwrap()
    }

    fn ask_as(&self, who: Option<&str>, request: &str) -> Option<Answer> {
        let bundle = who.map(|who| self.data.bundle(who));
        let ca = self.data.path("pki/ca.crt");
        ask_tls(self.process.address("agent"), &ca, bundle.as_deref(), request)
    }

    /// What runs of a decky, once it is as hoped for.
    fn until(&self, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = std::time::Instant::now();
        loop {
            let status = self.ask("GET", "/status", &Value::Null).json();
            if is_so(&status) {
                return status;
            }
            assert!(begun.elapsed() < HANGS, "{status}");
        }
    }
}

#[test]
fn each_call_is_answered_as_by_the_original_s_agent() {
    let worker = Worker::new(&[]);
    let answer = worker.ask("GET", "/health", &Value::Null);
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"status":"ok"}"#));
    assert!(answer.head.contains("content-type: application/json"));
    let status = worker.ask("GET", "/status", &Value::Null);
    assert_eq!((status.status, status.json()), (200, json!({"deployed": false, "deckies": []})));

    let config: Value = serde_json::from_str(FLEET).unwrap();
    let names: Vec<&Value> =
        config["deckies"].as_array().unwrap().iter().map(|decky| &decky["name"]).collect();
    let accepted = json!({"status": "accepted", "deckies": names});
    let dry = worker.ask("POST", "/deploy", &json!({"config": config, "dry_run": true, "no_cache": false}));
    assert_eq!((dry.status, dry.json()), (202, accepted.clone()));
    assert_eq!(worker.ask("GET", "/status", &Value::Null).json()["deployed"], false);
    let answer =
        worker.ask("POST", "/deploy", &json!({"config": config, "dry_run": false, "no_cache": false}));
    assert_eq!((answer.status, answer.json()), (202, accepted));
    let up = |status: &Value| {
        let runtime = status["runtime"].as_object();
        // A decky's row ends when that decky is known to be up.
        status["deployed"] == true
            && status["deckies"].as_array().is_some_and(|placed| placed.len() == 6)
            && runtime.is_some_and(|runtime| {
                runtime.len() == 6 && runtime.values().all(|decky| decky["running"] == true)
            })
    };
    let status = worker.until(up);
    assert_eq!(status["mode"], "unihost");
    assert_eq!(status["deckies"].as_array().unwrap().len(), 6);
    assert_eq!(status["runtime"]["decky-01"]["services"].as_object().unwrap().len(), 3);

    let mutate = json!({"decky_id": "decky-01", "services": ["ssh"], "dry_run": true});
    let answer = worker.ask("POST", "/mutate", &mutate);
    let said = |word: &str| json!({"status": word, "decky_id": "decky-01", "services": ["ssh"]});
    assert_eq!((answer.status, answer.json()), (200, said("dry_run")));
    let answer = worker.ask("POST", "/mutate", &json!({"decky_id": "decky-01", "services": ["ssh"]}));
    assert_eq!((answer.status, answer.json()), (202, said("accepted")));
    worker.until(|status| {
        status["runtime"]["decky-01"]["services"].as_object().is_some_and(|all| all.len() == 1)
    });
    let answer = worker.ask("POST", "/mutate", &json!({"decky_id": "nope", "services": []}));
    assert_eq!(answer.status, 202);

    let answer = worker.ask("POST", "/teardown", &json!({"decky_id": "decky-01"}));
    assert_eq!((answer.status, answer.json()), (200, json!({"status": "torn_down", "decky_id": "decky-01"})));
    let answer = worker.ask("POST", "/teardown", &Value::Null);
    assert_eq!((answer.status, answer.json()), (200, json!({"status": "torn_down", "decky_id": null})));
    worker.until(|status| status["runtime"].as_object().is_none_or(serde_json::Map::is_empty));
}

#[test]
fn what_is_wrong_is_told_field_by_field() {
    let worker = Worker::new(&[]);
    for (path, body, place) in [
        ("/deploy", json!({}), json!(["body", "config"])),
        ("/deploy", json!([]), json!(["body"])),
        ("/mutate", json!({"decky_id": "a"}), json!(["body", "services"])),
        ("/mutate", json!({"decky_id": "N!", "services": []}), json!(["body", "decky_id"])),
        ("/teardown", json!({"decky_id": 7}), json!(["body", "decky_id"])),
    ] {
        let answer = worker.ask("POST", path, &body);
        assert_eq!(answer.status, 422, "{answer:?}");
        assert_eq!(answer.json()["detail"][0]["loc"], place, "{answer:?}");
    }
    assert_eq!(worker.ask("GET", "/deploy", &Value::Null).status, 405);
    assert_eq!(worker.ask("POST", "/status", &Value::Null).status, 405);
    assert_eq!(worker.ask("GET", "/nothing", &Value::Null).status, 404);
    let long = request("POST", "/deploy", &[], &" ".repeat(DeployDispatch::MAX_BYTES + 1));
    // Or it was closed before all was sent.
    assert!(worker.ask_as(Some("master"), &long).is_none_or(|answer| answer.status == 413));
    assert_eq!(worker.ask("GET", "/health", &Value::Null).status, 200);
}

#[test]
fn only_the_ca_s_own_are_answered_and_only_the_master_if_it_is_known() {
    let worker = Worker::new(&[]);
    let health = request("GET", "/health", &[], "");
    assert!(worker.ask_as(None, &health).is_none());
    // Without a pin the master is who has a certificate for its address.
    worker.data.ok(&["pki", "issue", "w2", "--san", "w2.test"]);
    assert_eq!(worker.ask_as(Some("w2"), &health).unwrap().status, 403);
    assert_eq!(worker.ask_as(Some("master"), &health).unwrap().status, 200);

    let data = Data::with_hosts(&["w1"]);
    let told = data.ok(&["--json", "pki", "issue", "m2", "--san", "127.0.0.1"]);
    let print = serde_json::from_str::<Value>(&told).unwrap()["fingerprint"].as_str().unwrap().to_owned();
    let args = ["worker", "w1", "--listen", "127.0.0.1:0", "--master", "127.0.0.1:9", "--master-pin", &print];
    let process = Process::start(&data, &args);
    let worker = Worker { data, process };
    assert_eq!(worker.ask_as(Some("m2"), &health).unwrap().status, 200);
    assert_eq!(worker.ask_as(Some("master"), &health).unwrap().status, 403);
}
