//! Our master with the original's agent.

use serde_json::{Value, json};

use crate::agent::Agent;
use crate::processes::{Answer, Data, HANGS, Process, ask, request};

/// What `serve` waits for is shorter here than users have it.
const SHORT: &[&str] = &["--unknown", "1s", "--silence", "20s", "--sweep-every", "1s"];

fn decky(name: &str, place: usize, body: &str) -> Value {
    json!({"name": name, "ip": format!("192.0.2.{place}"), "services": ["http"], "distro": "debian",
           "base_image": "debian:12", "hostname": "srv", "host_uuid": "w1",
           "service_config": {"http": {"custom_body": body}}})
}

fn fleet(deckies: &[Value]) -> Value {
    json!({"mode": "swarm", "interface": "eth0", "subnet": "192.0.2.0/24", "gateway": "192.0.2.1",
           "deckies": deckies})
}

fn api(data: &Data, master: &Process, method: &str, path: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {}", data.token());
    let body = if body.is_null() { String::new() } else { body.to_string() };
    ask(master.address("api"), &request(method, path, &[("authorization", &bearer)], &body))
}

/// The ids of what was asked for.
fn asked(data: &Data, master: &Process, path: &str, body: &Value) -> Vec<String> {
    let answer = api(data, master, "POST", path, body);
    assert_eq!(answer.status, 202, "{answer:?}");
    let ids = answer.json()["lifecycle_ids"].as_array().unwrap().clone();
    ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

/// `status`, or the error, of each row once all have ended; meanwhile the agent
/// beats.
fn ended(data: &Data, master: &Process, agent: &Agent, ids: &[String]) -> Vec<String> {
    let query = ids.iter().map(|id| format!("ids={id}")).collect::<Vec<_>>().join("&");
    let begun = std::time::Instant::now();
    loop {
        let rows = api(data, master, "GET", &format!("/deckies/lifecycle?{query}"), &Value::Null).json();
        let rows = rows["rows"].as_array().unwrap().clone();
        if rows.iter().all(|row| row["status"] == "succeeded" || row["status"] == "failed") {
            let told = |row: &Value| row["error"].as_str().or(row["status"].as_str()).unwrap().to_owned();
            return rows.iter().map(told).collect();
        }
        assert!(begun.elapsed() < HANGS, "{rows:?}");
        assert_eq!(agent.beat().status, 204);
    }
}

#[test]
fn a_lost_word_locks_no_decky_out() {
    let data = Data::with_hosts(&["w1"]);
    let master = Process::master(&data, SHORT);
    let agent = Agent::start(&data, &master, "w1");
    assert_eq!(agent.beat().status, 204);
    // The word is lost; what beats show ends the row.
    agent.state().loses_words = true;
    let fleet = fleet(&[decky("a", 10, "x")]);
    let ids = asked(&data, &master, "/deckies/deploy", &fleet);
    assert_eq!(ended(&data, &master, &agent, &ids), ["succeeded"]);
    let ids = asked(&data, &master, "/deckies/a/mutate", &json!({"services": ["ssh"]}));
    assert_eq!(ended(&data, &master, &agent, &ids), ["succeeded"]);
    // One that is never done can be given up, and asked for again.
    agent.state().hangs = true;
    let ids = asked(&data, &master, "/deckies/a/mutate", &json!({"services": ["ftp"]}));
    agent.until_called(3);
    let cancelled = api(&data, &master, "POST", &format!("/lifecycle/{}/cancel", ids[0]), &Value::Null);
    // At once, or, if the master has not read the agent's answer yet, by the next beat.
    assert!(matches!(cancelled.status, 200 | 202), "{cancelled:?}");
    assert!(ended(&data, &master, &agent, &ids)[0].starts_with("Cancelled: given up"));
    agent.state().hangs = false;
    agent.state().loses_words = false;
    let ids = asked(&data, &master, "/deckies/a/mutate", &json!({"services": ["ftp"]}));
    assert_eq!(ended(&data, &master, &agent, &ids), ["succeeded"]);
    assert_eq!(agent.state().runs["a"], ["ftp"]);
}

#[test]
fn a_second_file_takes_nothing_from_the_first_and_failures_are_told() {
    let data = Data::with_hosts(&["w1"]);
    let master = Process::master(&data, SHORT);
    let agent = Agent::start(&data, &master, "w1");
    agent.beat();
    let ids = asked(&data, &master, "/deckies/deploy", &fleet(&[decky("a", 10, "x"), decky("b", 11, "x")]));
    assert_eq!(ended(&data, &master, &agent, &ids), ["succeeded"; 2]);
    let ids = asked(&data, &master, "/deckies/deploy", &fleet(&[decky("c", 12, "x")]));
    assert_eq!(ended(&data, &master, &agent, &ids), ["succeeded"]);
    assert_eq!(agent.state().runs.len(), 3);
    agent.state().fails = Some("RuntimeError: no such image");
    let ids = asked(&data, &master, "/deckies/deploy", &fleet(&[decky("d", 13, "x"), decky("e", 14, "x")]));
    assert_eq!(ended(&data, &master, &agent, &ids), ["Reported: RuntimeError: no such image"; 2]);
}

#[test]
fn what_the_agent_leaves_of_a_decky_is_told_and_goes_with_the_last() {
    let data = Data::with_hosts(&["w1"]);
    let master = Process::master(&data, SHORT);
    let agent = Agent::start(&data, &master, "w1");
    agent.beat();
    let ids = asked(&data, &master, "/deckies/deploy", &fleet(&[decky("a", 10, "x"), decky("b", 11, "x")]));
    assert_eq!(ended(&data, &master, &agent, &ids), ["succeeded"; 2]);
    data.ok(&["teardown", "a"]);
    assert_eq!(agent.state().bases.len(), 2);
    agent.beat();
    let left = data.ok(&["ps", "a"]);
    assert!(left.contains("taken down; its agent left its base container"), "{left}");
    assert!(data.ok(&["--json", "ps", "a"]).contains(r#""health":"left""#));
    data.ok(&["teardown", "b"]);
    assert!(agent.state().bases.is_empty());
    assert!(agent.state().runs.is_empty());
    let calls: Vec<Value> = agent.state().calls.iter().map(|(_, body)| body["decky_id"].clone()).collect();
    assert_eq!(calls, [json!(null), json!("a"), json!(null)]);
}

#[test]
fn beats_are_taken_as_long_as_their_deckies_make_them_and_refusals_are_told() {
    let data = Data::with_hosts(&["w1"]);
    let log = data.path("log");
    let args = [&["serve", "--listen", "127.0.0.1:0", "--swarm", "127.0.0.1:0"], SHORT].concat();
    let master = Process::logging(&data, &args, &log);
    let agent = Agent::start(&data, &master, "w1");
    agent.beat();
    // 20 deckies with 15 KB of settings each.
    let deckies: Vec<Value> =
        (0..20).map(|place| decky(&format!("d{place}"), 10 + place, &"page ".repeat(3_000))).collect();
    let ids = asked(&data, &master, "/deckies/deploy", &fleet(&deckies));
    assert_eq!(ended(&data, &master, &agent, &ids), vec!["succeeded"; 20]);
    let refused = agent.long_beat(2 << 20);
    assert!(refused.as_ref().is_none_or(|refused| refused.status == 413), "{refused:?}");
    let told = std::fs::read_to_string(&log).unwrap();
    assert!(told.contains("a beat was refused") && told.contains("w1"), "{told}");
    // A row that is lost for it says so.
    agent.state().hangs = true;
    let ids = asked(&data, &master, "/deckies/d1/mutate", &json!({"services": ["ssh"]}));
    let begun = std::time::Instant::now();
    let row = loop {
        agent.long_beat(2 << 20);
        let rows =
            api(&data, &master, "GET", &format!("/deckies/lifecycle?ids={}", ids[0]), &Value::Null).json();
        if rows["rows"][0]["status"] == "failed" {
            break rows["rows"][0].clone();
        }
        assert!(begun.elapsed() < HANGS, "{rows}");
    };
    let error = row["error"].as_str().unwrap();
    assert!(
        error.starts_with("WorkerLost") && error.contains("its last beat was refused: it has"),
        "{error}"
    );
}

#[test]
fn addresses_that_the_agent_gave_are_kept_and_shown() {
    let data = Data::with_hosts(&["w1"]);
    let master = Process::master(&data, SHORT);
    let agent = Agent::start(&data, &master, "w1");
    agent.state().network = Some("198.51.100");
    agent.beat();
    let ids = asked(&data, &master, "/deckies/deploy", &fleet(&[decky("a", 10, "x")]));
    assert_eq!(ended(&data, &master, &agent, &ids), ["succeeded"]);
    let shown = data.ok(&["ps", "a"]);
    assert!(shown.contains("its agent gave it 198.51.100.3"), "{shown}");
    let shown: Value = serde_json::from_str(&data.ok(&["--json", "ps", "a"])).unwrap();
    assert_eq!((&shown["ip"], &shown["agent_ip"]), (&json!("192.0.2.10"), &json!("198.51.100.3")));
}
