//! A master and its worker over mutual TLS, each with its part of
//! `decnet_lifecycle::http`; both in one process here, with a server each.
//!
//! `cargo run --example worker_http -- PKI`: there lie the bundles `master` and
//! `w1`, made out to 127.0.0.1, as `decnet-lifecycle pki` makes them.

use std::{env::args, error::Error, path::Path, sync::Arc};

use decnet_lifecycle::agent::{Host, Pin, StaticHosts, https::HttpsAgents, https::Identity};
use decnet_lifecycle::http::{self, Server, Stop};
use decnet_lifecycle::worker::{HttpsMaster, Worker};
use decnet_lifecycle::{DeployRequest, FleetConfig, HostId, Runner, store::MemoryStore};

#[path = "own_engine.rs"]
mod own_engine;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pki = args().nth(1).ok_or("say where the bundles lie")?;
    let [of_master, of_worker] = ["master", "w1"].map(|name| Identity::load(&Path::new(&pki).join(name)));
    let (of_master, of_worker, stop) = (of_master?, of_worker?, Stop::new());
    let (beats, calls) =
        (Server::bind("127.0.0.1:0".parse()?).await?, Server::bind("127.0.0.1:0".parse()?).await?);
    let host = |id: &str, server: &Server, identity: &Identity| -> Result<Host, Box<dyn Error>> {
        let pin = Pin::Certificate(identity.fingerprint());
        Ok(Host { id: HostId::parse(id)?, address: server.address()?.to_string(), pin })
    };
    let (master, w1) = (host("master", &beats, &of_master)?, host("w1", &calls, &of_worker)?);
    let dir = tempfile::tempdir()?;
    let engine = Arc::new(own_engine::Directory(dir.path().to_owned()));

    // The worker: its agent, and its beats.
    let worker = Worker::builder(w1.id.clone(), Arc::new(MemoryStore::new()), engine.clone());
    let (worker, _) = worker.build()?.recover().await?;
    let agent = http::agent(worker.clone(), &master.address, master.pin);
    let server = calls.tls(of_worker.server_config()?, agent.knows());
    tokio::spawn(server.run(agent.alone(), stop.clone()));
    let way = HttpsMaster::new(of_worker, master.address, master.pin);
    tokio::spawn(async move { worker.beats(&way).await });

    // The master: who hears them.
    let hosts = Arc::new(StaticHosts::new([w1.clone()]));
    let runner = Runner::builder(Arc::new(MemoryStore::new()), engine);
    let runner = runner.swarm(Arc::new(HttpsAgents::new(of_master.clone())), hosts.clone());
    let (runner, _) = runner.build()?.recover().await?;
    let swarm = http::swarm(runner.clone(), hosts);
    let server = beats.tls(of_master.server_config()?, swarm.knows());
    let serving = tokio::spawn(server.run(swarm.alone(), stop.clone()));

    let mut fleet = FleetConfig::from_json(include_bytes!("fleet-swarm.json"))?;
    fleet.deckies.iter_mut().for_each(|decky| decky.host_uuid = Some(w1.id.clone()));
    let accepted = runner.accept_deploy(DeployRequest::new(fleet)).await?;
    let ids: Vec<_> = accepted.all_ids().collect();
    tokio::spawn(accepted.run());
    for row in runner.wait(&ids).await? {
        println!("{} {} on {:?}", row.decky, row.status(), row.host);
    }
    stop.now();
    Ok(serving.await?)
}
