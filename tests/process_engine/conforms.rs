//! The process engine under the public suite of engines.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use decnet_lifecycle::clock::{Clock, SystemClock};
use decnet_lifecycle::engine::{CancelToken, Engine};
use decnet_lifecycle::fleet::DeckyConfig;
use decnet_lifecycle::testkit::engines::{self, Machine};
use decnet_lifecycle::*;
use futures_lite::future::block_on;

use crate::help::{engine, is_there, signal, until, work_on};

struct Decoys {
    dir: tempfile::TempDir,
    /// A port that is taken: what is to listen there can't come up.
    taken: std::net::TcpListener,
}

const DECKIES: [&str; 3] = ["decky-01", "decky-02", "decky-03"];

#[async_trait]
impl Machine for Decoys {
    async fn clean(&self) {
        let work = work_on(self.fleet(), &DECKIES, &CancelToken::new());
        engine(self.dir.path()).teardown(&work).await.unwrap();
    }

    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(engine(self.dir.path()))
    }

    fn fleet(&self) -> FleetConfig {
        let deckies: Vec<_> = DECKIES
            .iter()
            .zip(10..)
            .map(|(name, byte)| {
                serde_json::json!({"name": name, "ip": format!("192.0.2.{byte}"), "services": ["ssh", "http"],
                    "distro": "debian", "base_image": "debian:12", "hostname": "srv"})
            })
            .collect();
        let fleet = serde_json::json!({"mode": "unihost", "interface": "eth0", "subnet": "192.0.2.0/24",
            "gateway": "192.0.2.1", "deckies": deckies});
        FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap()
    }

    fn other_services(&self) -> Vec<ServiceName> {
        ["http", "redis"].map(|name| ServiceName::parse(name).unwrap()).into()
    }

    fn spoilt(&self, fleet: &FleetConfig, decky: &DeckyName) -> Option<FleetConfig> {
        let services = ["ssh", "ftp"].map(|name| ServiceName::parse(name).unwrap()).into();
        let mut spoilt = fleet.with_services(decky, services).unwrap();
        let port = serde_json::json!({"port": self.taken.local_addr().unwrap().port()});
        let config = spoilt.deckies.iter_mut().find(|config| config.name == *decky).unwrap();
        config.service_config.insert("ftp".to_owned(), port.as_object().unwrap().clone());
        Some(spoilt)
    }

    async fn answering(&self, decky: &DeckyConfig) -> BTreeMap<ServiceName, String> {
        let decoys = engine(self.dir.path()).running().unwrap();
        let of = decoys.into_iter().filter(|decoy| decoy.decky == decky.name);
        let answers = of.filter(|decoy| std::net::TcpStream::connect(decoy.addr).is_ok());
        answers.map(|decoy| (decoy.service.clone(), decoy.pid.to_string())).collect()
    }

    async fn kill(&self, decky: &DeckyName, service: &ServiceName) -> bool {
        let decoys = engine(self.dir.path()).running().unwrap();
        let doomed = decoys.iter().find(|decoy| decoy.decky == *decky && decoy.service == *service).unwrap();
        signal("-KILL", doomed.pid);
        until(|| !is_there(doomed.pid));
        true
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock::new())
    }

    /// Each starts processes.
    fn drops(&self) -> usize {
        12
    }
}

#[test]
fn the_process_engine_conforms() {
    let (dir, taken) = (tempfile::tempdir().unwrap(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    block_on(engines::check(&Decoys { dir, taken })).unwrap();
}
