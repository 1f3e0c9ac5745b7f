//! Our worker under the original's master.

use serde_json::{Value, json};

use crate::master::Master;
use crate::processes::{Data, HANGS, Process};

fn worker(data: &Data, master: &Master, more: &[&str]) -> Process {
    let beats = master.address.to_string();
    let args = ["worker", "w1", "--listen", "127.0.0.1:0", "--master", &beats, "--beat-every", "1s"];
    Process::start(data, &[&args, more].concat())
}

/// A worker that is told by its enrolment bundle alone who it and its master are.
#[test]
fn an_enrolment_bundle_is_read_as_it_is() {
    let data = Data::with_hosts(&["w1"]);
    let master = Master::start(&data);
    let bundle = data.path("bundle");
    let agent = bundle.join("home/.decnet/agent");
    std::fs::create_dir_all(bundle.join("etc/decnet")).unwrap();
    std::fs::create_dir_all(&agent).unwrap();
    for file in ["ca.crt", "worker.crt", "worker.key"] {
        std::fs::copy(data.bundle("w1").join(file), agent.join(file)).unwrap();
    }
    let (address, port) = (master.address.ip(), master.address.port());
    let ini = format!(
        "; made by the master\n[decnet]\nmode = agent\nhost-uuid = another\n\n[agent]\nmaster-host = {address}\n\
         swarmctl-port = {port}\nagent-port = 8765\nagent-dir = /etc/decnet/agent\nhost-uuid = 7b2f-w1\n"
    );
    std::fs::write(bundle.join("etc/decnet/decnet.ini"), ini).unwrap();
    let bundle = bundle.to_str().unwrap().to_owned();
    let worker = Process::start(&data, &["worker", "--bundle", &bundle, "--listen", "127.0.0.1:0"]);
    assert_eq!(worker.said["host"], "7b2f-w1");
    assert_eq!(master.beat_where(|_| true)["host_uuid"], "7b2f-w1");
    drop(worker);
    std::fs::write(data.path("bundle/etc/decnet/decnet.ini"), "[agent]\nmaster-host = m\n").unwrap();
    let refused = data.refused(&["worker", "--bundle", &bundle]);
    assert!(refused.contains("[agent] host-uuid: it is missing"), "{refused}");
}

/// A shard as the original sends it: without ids.
fn shard(deckies: &[&str]) -> Value {
    let decky = |(place, name): (usize, &&str)| {
        json!({"name": name, "ip": format!("192.0.2.{}", 10 + place), "services": ["ssh"], "distro": "debian",
               "base_image": "debian:12", "hostname": "srv", "host_uuid": "w1"})
    };
    let deckies: Vec<Value> = deckies.iter().enumerate().map(decky).collect();
    json!({"config": {"mode": "swarm", "interface": "eth0", "subnet": "192.0.2.0/24", "gateway": "192.0.2.1",
                      "deckies": deckies}, "dry_run": false, "no_cache": false})
}

fn running(beat: &Value) -> Vec<&str> {
    let runtime = beat["status"]["runtime"].as_object().into_iter().flatten();
    runtime.filter(|(_, decky)| decky["running"] == true).map(|(name, _)| name.as_str()).collect()
}

/// Whether exactly these are kept, and run: a decky is kept once its row has
/// ended, which may be a moment after it runs.
fn has(beat: &Value, deckies: &[&str]) -> bool {
    running(beat) == deckies
        && beat["status"]["deckies"].as_array().is_some_and(|kept| kept.len() == deckies.len())
}

#[test]
fn a_master_with_two_certificates_is_served_on_any_address() {
    let data = Data::with_hosts(&["w1"]);
    let master = Master::start(&data);
    let [calls, is_called] = master.pins.clone();
    let health = |worker: &Process| master.call(&data, worker, "GET", "/health", &Value::Null).status;
    let both = worker(&data, &master, &["--master-pin", &calls, "--master-pin", &is_called]);
    assert_eq!(health(&both), 200);
    master.beat_where(|_| true);
    drop(both);
    // Without pins: the names are what counts.
    let heard = master.beats().len();
    let none = worker(&data, &master, &[]);
    assert_eq!(health(&none), 200);
    master.beat_where(|_| master.beats().len() > heard);
    drop(none);
    // One of the two is not enough.
    let one = worker(&data, &master, &["--master-pin", &is_called]);
    assert_eq!(health(&one), 403);
    drop(one);
    // Who is neither the one nor the other isn't the master.
    let other = worker(&data, &master, &["--master-pin", &"ab".repeat(32)]);
    assert_eq!(health(&other), 403);
}

#[test]
fn a_deploy_without_ids_replaces_what_is_there() {
    let data = Data::with_hosts(&["w1"]);
    let master = Master::start(&data);
    let worker = worker(&data, &master, &[]);
    let call = |path: &str, body: &Value| master.call(&data, &worker, "POST", path, body);
    assert_eq!(call("/deploy", &shard(&["a", "b", "c"])).status, 202);
    let beat = master.beat_where(|beat| has(beat, &["a", "b", "c"]));
    assert_eq!(beat["status"]["mode"], "swarm");
    let answer = call("/deploy", &shard(&["d", "b"]));
    assert_eq!((answer.status, answer.json()["deckies"].clone()), (202, json!(["b", "d"])));
    master.beat_where(|beat| has(beat, &["b", "d"]));
    // Of what was only taken down the master, which asked for no such thing, hears nothing.
    let words: Vec<Value> = master
        .beats()
        .iter()
        .flat_map(|beat| beat["lifecycle"].as_array().cloned().unwrap_or_default())
        .collect();
    assert!(
        words.iter().all(|word| word["operation"] == "deploy" && word["lifecycle_id"].is_null()),
        "{words:?}"
    );
    // With ids it adds.
    let mut more = shard(&["e"]);
    more["config"]["deckies"][0]["ip"] = "192.0.2.30".into();
    more["lifecycle_ids"] = json!({"e": decnet_lifecycle::LifecycleId::from_u128(7)});
    assert_eq!(call("/deploy", &more).status, 202);
    master.beat_where(|beat| has(beat, &["b", "d", "e"]));
    // A dry run takes nothing down.
    let mut dry = shard(&["b"]);
    dry["dry_run"] = true.into();
    assert_eq!(call("/deploy", &dry).status, 202);
    let status = master.call(&data, &worker, "GET", "/status", &Value::Null).json();
    assert_eq!(status["deckies"].as_array().unwrap().len(), 3);
}

#[test]
fn a_dry_mutate_of_an_unknown_decky_is_not_found() {
    let data = Data::with_hosts(&["w1"]);
    let master = Master::start(&data);
    let worker = worker(&data, &master, &[]);
    let call = |path: &str, body: &Value| master.call(&data, &worker, "POST", path, body);
    let dry = json!({"decky_id": "nope", "services": ["ssh"], "dry_run": true});
    assert_eq!(call("/mutate", &dry).status, 404);
    assert_eq!(call("/deploy", &shard(&["a"])).status, 202);
    master.beat_where(|beat| has(beat, &["a"]));
    assert_eq!(call("/mutate", &dry).status, 404);
    assert_eq!(call("/mutate", &json!({"decky_id": "a", "services": ["ssh"], "dry_run": true})).status, 200);
}

#[test]
fn a_worker_ends_itself_only_where_it_may() {
    let data = Data::with_hosts(&["w1"]);
    let master = Master::start(&data);
    let mut process = worker(&data, &master, &[]);
    assert_eq!(master.call(&data, &process, "POST", "/deploy", &shard(&["a"])).status, 202);
    master.beat_where(|beat| has(beat, &["a"]));
    let refused = master.call(&data, &process, "POST", "/self-destruct", &Value::Null);
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(process.is_alive());
    assert_eq!(process.stop(), Some(0));
    let mut process = worker(&data, &master, &["--allow-self-destruct"]);
    let done = master.call(&data, &process, "POST", "/self-destruct", &Value::Null);
    assert_eq!((done.status, done.json()), (200, json!({"status": "self_destruct_scheduled"})));
    let begun = std::time::Instant::now();
    while process.is_alive() {
        assert!(begun.elapsed() < HANGS);
        std::thread::yield_now();
    }
    assert_eq!(process.wait(), Some(0));
    let again = worker(&data, &master, &[]);
    assert_eq!(master.call(&data, &again, "GET", "/status", &Value::Null).json()["deployed"], false);
}
