//! A stand-in of DECNET's master: it takes beats with one certificate, calls
//! with another, names no rows, and answers 204.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::http::serve;
use crate::processes::{Answer, Data, HANGS, Process, ask_tls, request};

pub struct Master {
    pub address: SocketAddr,
    beats: Arc<Mutex<Vec<Value>>>,
    /// Of the certificate that it calls with, and of that it is called at.
    pub pins: [String; 2],
}

impl Master {
    /// On an address of its own, to which only one of the two is made out.
    pub fn start(data: &Data) -> Self {
        let issue = |name: &str, san: &str| {
            let told: Value =
                serde_json::from_str(&data.ok(&["--json", "pki", "issue", name, "--san", san])).unwrap();
            told["fingerprint"].as_str().unwrap().to_owned()
        };
        let pins = [
            issue("decnet-master", "127.0.0.1,decnet-master"),
            issue("swarmctl", "127.0.0.3,127.0.0.1,localhost,swarmctl"),
        ];
        let beats = Arc::<Mutex<Vec<Value>>>::default();
        let heard = Arc::clone(&beats);
        let address = serve("127.0.0.3:0", &data.bundle("swarmctl"), move |method, path, body| {
            if (method, path) != ("POST", "/swarm/heartbeat") {
                return (404, Value::Null);
            }
            heard.lock().unwrap().push(body);
            (204, Value::Null)
        });
        Self { address, beats, pins }
    }

    /// Asks a worker's agent.
    pub fn call(&self, data: &Data, worker: &Process, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (ca, bundle) = (data.path("pki/ca.crt"), data.bundle("decnet-master"));
        ask_tls(worker.address("agent"), &ca, Some(&bundle), &request(method, path, &[], &body)).unwrap()
    }

    pub fn beats(&self) -> Vec<Value> {
        self.beats.lock().unwrap().clone()
    }

    /// The first beat that is so; waits for it.
    pub fn beat_where(&self, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = std::time::Instant::now();
        loop {
            if let Some(beat) = self.beats().into_iter().find(&is_so) {
                return beat;
            }
            assert!(begun.elapsed() < HANGS, "{:?}", self.beats().last());
            std::thread::yield_now();
        }
    }
}
