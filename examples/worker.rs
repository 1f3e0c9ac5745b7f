//! A master and its worker in one process, each with a store of its own: the
//! master dispatches, the worker does it and says so in its beats. In earnest
//! both go over HTTPS (`HttpsAgents`, `HttpsMaster`), or a wire of your own.

use std::sync::Arc;

use async_trait::async_trait;
use decnet_lifecycle::agent::*;
use decnet_lifecycle::worker::{BeatReply, DeployDispatch, DryRun, Master, MasterError, Worker};
use decnet_lifecycle::{DeployRequest, FleetConfig, HostId, Runner, beat::Beat, store::MemoryStore};

#[path = "own_engine.rs"]
mod own_engine;

/// The way to the worker: what a server of its host does with a dispatch.
#[derive(Debug)]
struct ToWorker(Worker);

#[async_trait]
impl Agents for ToWorker {
    async fn deploy(&self, _host: &Host, call: &DeployCall) -> Result<(), AgentError> {
        let (config, lifecycle_ids) = ((*call.config).clone(), call.lifecycle_ids.clone());
        let taken = self.0.deploy(DeployDispatch { config, lifecycle_ids, dry_run: DryRun::No }).await;
        let taken = taken.map_err(|error| AgentError::Refused { reason: error.to_string() })?;
        smol::spawn(taken.run()).detach(); // durable: the server answers 202, and goes on
        Ok(())
    }

    async fn mutate(&self, _host: &Host, _call: &MutateCall) -> Result<(), AgentError> {
        Err(AgentError::Refused { reason: "this only deploys".into() })
    }

    async fn teardown(&self, _host: &Host, _call: &TeardownCall) -> Result<(), AgentError> {
        Err(AgentError::Refused { reason: "this only deploys".into() })
    }
}

/// The way to the master: what its server does with a beat.
#[derive(Debug)]
struct ToMaster(Runner, HostId);

#[async_trait]
impl Master for ToMaster {
    async fn heartbeat(&self, body: &str) -> Result<BeatReply, MasterError> {
        let refused = |reason| MasterError::Refused { status: 400, reason };
        let beat = Beat::from_json(body.as_bytes()).map_err(|error| refused(error.to_string()))?;
        // The host is who the connection says it is, never what the body says.
        let answer = self.0.take_beat(&self.1, &beat).await.map_err(|error| refused(error.to_string()))?;
        println!("a beat with {} ends: {:?}", beat.deltas.len(), answer.verdicts);
        Ok(BeatReply::Answered(answer))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (dir, id) = (tempfile::tempdir()?, HostId::parse("w1")?);
    let mut fleet = FleetConfig::from_json(include_bytes!("fleet-swarm.json"))?;
    fleet.deckies.iter_mut().for_each(|decky| decky.host_uuid = Some(id.clone()));
    smol::block_on(async {
        let engine = Arc::new(own_engine::Directory(dir.path().to_owned()));
        let worker = Worker::builder(id.clone(), Arc::new(MemoryStore::new()), engine.clone());
        let (worker, _) = worker.build()?.recover().await?;
        let hosts = StaticHosts::new([Host { id: id.clone(), address: "here".into(), pin: Pin::CaOnly }]);
        let master = Runner::builder(Arc::new(MemoryStore::new()), engine)
            .swarm(Arc::new(ToWorker(worker.clone())), Arc::new(hosts));
        let (master, _) = master.build()?.recover().await?;
        let way = ToMaster(master.clone(), id);
        let beats = smol::spawn(async move { worker.beats(&way).await });

        let accepted = master.accept_deploy(DeployRequest::new(fleet)).await?;
        let ids: Vec<_> = accepted.all_ids().collect();
        accepted.run().await; // over once all is dispatched: the rows are running
        for row in master.wait(&ids).await? {
            println!("{} {} on {:?}", row.decky, row.status(), row.host);
        }
        beats.cancel().await;
        Ok(())
    })
}
