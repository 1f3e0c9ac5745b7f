//! A swarm as in the README: a master and two workers on one machine.

use serde_json::json;

use crate::processes::{Data, Process};
use crate::{SWARM, api, ended, ids};

fn worker(data: &Data, master: &Process, host: &str) -> Process {
    let beats = master.address("swarm").to_string();
    Process::start(data, &["worker", host, "--master", &beats, "--beat-every", "1s"])
}

#[test]
fn a_fleet_comes_up_on_its_hosts_is_changed_and_taken_down() {
    let data = Data::with_hosts(&["w1", "w2"]);
    let mut master = Process::master(&data, &[]);
    let mut workers = ["w1", "w2"].map(|host| worker(&data, &master, host));
    let fleet = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/fleet-swarm.json");
    let shown = data.ok(&["deploy", fleet]);
    assert!(shown.contains("6 succeeded, 0 failed; 18 decoys are running"), "{shown}");
    assert!(data.ok(&["ls", "--host", "w2"]).lines().count() == 3);
    assert!(data.ok(&["mutate", "decky-01", "--services", "ssh,redis"]).contains("1 succeeded"));
    let state: serde_json::Value = serde_json::from_str(&data.ok(&["export", "--state"])).unwrap();
    assert_eq!(state["config"]["deckies"][0]["services"], json!(["ssh", "redis"]));
    assert_eq!(state["config"]["mode"], "swarm");
    assert!(data.ok(&["teardown", "decky-02"]).contains("1 succeeded"));
    // Graceful stops: the workers have told all.
    for worker in &mut workers {
        assert_eq!(worker.stop(), Some(0));
    }
    assert_eq!(master.stop(), Some(0));
}

#[test]
fn a_worker_that_is_not_there_fails_its_own_rows_and_no_others() {
    let data = Data::with_hosts(&["w1", "w2"]);
    let master = Process::master(&data, &[]);
    let _worker = worker(&data, &master, "w2");
    let rows = ended(&data, &master, &ids(&api(&data, &master, "POST", "/deckies/deploy", SWARM)));
    for row in rows {
        if row["host_uuid"] == "w1" {
            let error = row["error"].as_str().unwrap();
            assert!(error.starts_with("Unreachable: host w1: agent not reached"), "{error}");
        } else {
            assert_eq!(row["status"], "succeeded", "{row}");
        }
    }
}

#[test]
fn a_worker_with_another_certificate_is_told_apart() {
    let data = Data::with_hosts(&["w1", "w2"]);
    let master = Process::master(&data, &[]);
    let _worker = worker(&data, &master, "w1");
    // The host shows its own certificate, and another one is pinned.
    let hosts = data.ok(&["--json", "hosts", "rm", "w1"]);
    let address = serde_json::from_str::<serde_json::Value>(&hosts).unwrap()["address"].clone();
    let pin = "0".repeat(64);
    data.ok(&["hosts", "add", "w1", "--address", address.as_str().unwrap(), "--pin", &pin]);
    let taken = api(&data, &master, "POST", "/deckies/deploy?only=decky-01", SWARM);
    let rows = ended(&data, &master, &ids(&taken));
    let error = rows[0]["error"].as_str().unwrap();
    assert!(error.contains("not the pinned one") && error.contains("give the host that pin"), "{error}");
}
