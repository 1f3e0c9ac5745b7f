//! The servers of the command line, in processes of their own: the master's
//! API and swarm, a worker's agent, the PKI and the hosts file.

#[path = "../processes/mod.rs"]
mod processes;

mod agent;
mod api;
mod beats;
mod files;
mod heal;
mod logs;
mod swarm;

use processes::{Answer, Data, Process, ask, request};

const FLEET: &str = include_str!("../../examples/fleet.json");
const SWARM: &str = include_str!("../../examples/fleet-swarm.json");

/// A request to the API with its token.
fn api(data: &Data, master: &Process, method: &str, path: &str, body: &str) -> Answer {
    with(data, master, method, path, &[], body)
}

fn with(
    data: &Data,
    master: &Process,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let bearer = format!("Bearer {}", data.token());
    let headers = [&[("authorization", bearer.as_str())], headers].concat();
    ask(master.address("api"), &request(method, path, &headers, body))
}

/// The ids of an answer's rows.
fn ids(answer: &Answer) -> Vec<String> {
    let ids = answer.json()["lifecycle_ids"].as_array().unwrap_or_else(|| panic!("{answer:?}")).clone();
    ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

/// Rows, once all of them have ended.
fn ended(data: &Data, master: &Process, ids: &[String]) -> Vec<serde_json::Value> {
    let query = ids.iter().map(|id| format!("ids={id}")).collect::<Vec<_>>().join("&");
    let begun = std::time::Instant::now();
    loop {
        let answer = api(data, master, "GET", &format!("/deckies/lifecycle?{query}"), "").json();
        let rows = answer["rows"].as_array().unwrap().clone();
        if rows.iter().all(|row| row["status"] == "succeeded" || row["status"] == "failed") {
            return rows;
        }
        assert!(begun.elapsed() < processes::HANGS, "{rows:?}");
        std::thread::yield_now();
    }
}
