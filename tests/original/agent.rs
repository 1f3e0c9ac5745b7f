//! A stand-in of DECNET's agent.
//!
//! A deploy replaces all that it has; how a call ended is posted once, a post a
//! decky; a single decky's teardown leaves its base container; each beat tells
//! the whole settings; on another network than it was told of, deckies get
//! other addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::http::{Reply, serve};
use crate::processes::{Answer, Data, HANGS, Process, ask_tls, request};

/// Clones are the same agent.
#[derive(Clone)]
pub struct Agent {
    shared: Arc<Shared>,
}

struct Shared {
    host: &'static str,
    master: SocketAddr,
    ca: PathBuf,
    bundle: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    /// What it was told to have, and keeps.
    config: Option<Value>,
    /// Base containers.
    pub bases: BTreeSet<String>,
    /// Service containers.
    pub runs: BTreeMap<String, Vec<Value>>,
    /// Each call, oldest first.
    pub calls: Vec<(String, Value)>,
    /// Whether posts of words get lost.
    pub loses_words: bool,
    /// What calls fail with.
    pub fails: Option<&'static str>,
    /// Whether calls are taken and never done.
    pub hangs: bool,
    /// The first three numbers of the addresses here, where they are others.
    pub network: Option<&'static str>,
}

impl Agent {
    /// The agent of a host whose port the hosts file says.
    pub fn start(data: &Data, master: &Process, host: &'static str) -> Self {
        let shared = Arc::new(Shared {
            host,
            master: master.address("swarm"),
            ca: data.path("pki/ca.crt"),
            bundle: data.bundle(host),
            state: Mutex::default(),
        });
        let agent = Self { shared };
        let listed: Vec<Value> = data
            .ok(&["--json", "hosts", "ls"])
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let own = listed.iter().find(|listed| listed["id"] == host || listed["host"] == host).unwrap();
        let asked = agent.clone();
        serve(own["address"].as_str().unwrap(), &data.bundle(host), move |method, path, body| {
            asked.answer(method, path, body)
        });
        agent
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Waits until it has got so many calls.
    pub fn until_called(&self, calls: usize) {
        let begun = std::time::Instant::now();
        while self.state().calls.len() < calls {
            assert!(begun.elapsed() < HANGS, "{:?}", self.state().calls);
            std::thread::yield_now();
        }
    }

    /// Posts a beat, as it does at its start and every half minute.
    pub fn beat(&self) -> Answer {
        self.post(None)
    }

    /// The same, with so many bytes more. A server that refuses it may close
    /// before all is sent; none then.
    pub fn long_beat(&self, more: usize) -> Option<Answer> {
        self.try_post(None, more)
    }

    fn post(&self, word: Option<Value>) -> Answer {
        self.try_post(word, 0).unwrap()
    }

    fn try_post(&self, word: Option<Value>, more: usize) -> Option<Answer> {
        let mut body = json!({
            "host_uuid": self.shared.host, "agent_version": "unknown", "status": self.state().status(),
            "topology": {"topology_id": null, "applied_version_hash": null, "applied_at": null,
                         "last_error": "x".repeat(more), "observed": {}},
        });
        if let Some(word) = word {
            body["lifecycle"] = json!([word]);
        }
        let request = request("POST", "/swarm/heartbeat", &[], &body.to_string());
        ask_tls(self.shared.master, &self.shared.ca, Some(&self.shared.bundle), &request)
    }

    fn answer(&self, method: &str, path: &str, body: Value) -> Reply {
        if method == "POST" {
            self.state().calls.push((path.to_owned(), body.clone()));
        }
        match (method, path) {
            ("GET", "/health") => (200, json!({"status": "ok"})),
            ("GET", "/status") => (200, self.state().status()),
            ("POST", "/deploy") => {
                let deckies = body["config"]["deckies"].as_array().cloned().unwrap_or_default();
                let names: Vec<String> = deckies.iter().map(name_of).collect();
                self.work("deploy", names.clone(), move |state| state.deploy(&body["config"]));
                (202, json!({"status": "accepted", "deckies": names}))
            }
            ("POST", "/mutate") => {
                let decky = body["decky_id"].as_str().unwrap_or_default().to_owned();
                let services = body["services"].clone();
                let mutated = (decky.clone(), services.clone());
                self.work("mutate", vec![decky.clone()], move |state| state.mutate(&mutated.0, &mutated.1));
                (202, json!({"status": "accepted", "decky_id": decky, "services": services}))
            }
            ("POST", "/teardown") => {
                let decky = body["decky_id"].clone();
                self.state().teardown(decky.as_str());
                (200, json!({"status": "torn_down", "decky_id": decky}))
            }
            (_, "/health" | "/status" | "/deploy" | "/mutate" | "/teardown") => {
                (405, json!({"detail": "no"}))
            }
            _ => (404, json!({"detail": "Not Found"})),
        }
    }

    /// Does something after its answer, and posts a word for each decky.
    fn work(
        &self,
        operation: &'static str,
        deckies: Vec<String>,
        work: impl FnOnce(&mut State) -> Result<(), String> + Send + 'static,
    ) {
        let agent = self.clone();
        std::thread::spawn(move || {
            let (ended, is_lost) = {
                let mut state = agent.state();
                if state.hangs {
                    return;
                }
                (work(&mut state), state.loses_words)
            };
            for decky in deckies.iter().filter(|_| !is_lost) {
                let now = decnet_lifecycle::clock::SystemClock::new();
                let mut word = json!({"decky_name": decky, "operation": operation, "status": "succeeded",
                    "completed_at": decnet_lifecycle::clock::Clock::now(&now).to_string()});
                if let Err(error) = &ended {
                    word["status"] = "failed".into();
                    word["error"] = error.as_str().into();
                }
                agent.post(Some(word));
            }
        });
    }
}

fn name_of(decky: &Value) -> String {
    decky["name"].as_str().unwrap().to_owned()
}

impl State {
    fn deploy(&mut self, config: &Value) -> Result<(), String> {
        // Down, with orphans; then up.
        self.runs.clear();
        self.bases.clear();
        let mut config = config.clone();
        for (place, decky) in config["deckies"].as_array_mut().unwrap().iter_mut().enumerate() {
            if let Some(network) = self.network {
                decky["ip"] = format!("{network}.{}", place + 3).into();
            }
        }
        self.config = Some(config.clone());
        if let Some(error) = self.fails {
            return Err(error.to_owned());
        }
        for decky in config["deckies"].as_array().unwrap() {
            self.bases.insert(name_of(decky));
            self.runs.insert(name_of(decky), decky["services"].as_array().unwrap().clone());
        }
        Ok(())
    }

    fn mutate(&mut self, decky: &str, services: &Value) -> Result<(), String> {
        let deckies = self.config.as_mut().and_then(|config| config["deckies"].as_array_mut());
        let found = deckies.into_iter().flatten().find(|kept| kept["name"] == decky);
        let Some(found) = found else { return Err(format!("decky '{decky}' not found in worker state")) };
        if let Some(error) = self.fails {
            return Err(error.to_owned());
        }
        found["services"] = services.clone();
        self.runs.insert(decky.to_owned(), services.as_array().unwrap().clone());
        Ok(())
    }

    fn teardown(&mut self, decky: Option<&str>) {
        match decky {
            Some(decky) => drop(self.runs.remove(decky)),
            None => {
                self.runs.clear();
                self.bases.clear();
                self.config = None;
            }
        }
    }

    fn status(&self) -> Value {
        let Some(config) = &self.config else { return json!({"deployed": false, "deckies": []}) };
        let runtime: serde_json::Map<String, Value> = config["deckies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|decky| {
                let running = self.runs.get(&name_of(decky));
                let state = if running.is_some() { "running" } else { "absent" };
                let services: serde_json::Map<String, Value> = decky["services"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|service| (service.as_str().unwrap().to_owned(), state.into()))
                    .collect();
                (name_of(decky), json!({"running": running.is_some(), "services": services}))
            })
            .collect();
        json!({"deployed": true, "mode": config["mode"], "compose_path": "/var/lib/decnet/compose.yml",
               "deckies": config["deckies"], "runtime": runtime})
    }
}
