//! Dispatching to many agents that take 50 ms to answer.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use decnet_lifecycle::testkit::FakeEngine;
use decnet_lifecycle::{
    agent::{AgentError, Agents, DeployCall, Host, MutateCall, Pin, StaticHosts, TeardownCall},
    runner::Limits,
    store::RedbStore,
    *,
};
use futures_lite::future::block_on;

use super::deploy::fleet;
use super::{micros, timed};

#[derive(Debug)]
struct SlowAgents;

async fn answer() -> Result<(), AgentError> {
    smol::Timer::after(Duration::from_millis(50)).await;
    Ok(())
}

#[async_trait]
impl Agents for SlowAgents {
    async fn deploy(&self, _: &Host, _: &DeployCall) -> Result<(), AgentError> {
        answer().await
    }

    async fn mutate(&self, _: &Host, _: &MutateCall) -> Result<(), AgentError> {
        answer().await
    }

    async fn teardown(&self, _: &Host, _: &TeardownCall) -> Result<(), AgentError> {
        answer().await
    }
}

pub fn report(quick: bool) {
    println!("## Dispatch\n");
    println!(
        "From the request until every agent has answered, on redb, with ten deckies for each host and all of their \
         placements; each agent takes 50 ms. {} are called at once, so that 1,000 take eight rounds.\n",
        Limits::default().dispatches
    );
    println!("| agents | deckies | time | over one agent's |\n|---:|---:|---:|---:|");
    let mut one = None;
    let sizes: &[usize] = if quick { &[1, 10] } else { &[1, 10, 100, 200, 1_000] };
    for size in sizes {
        let hosts = (0..*size).map(|host| {
            let id = HostId::parse(&format!("w{host}")).unwrap();
            Host { id, address: String::new(), pin: Pin::CaOnly }
        });
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(RedbStore::open(dir.path().join("s.redb")).unwrap());
        let runner = Runner::builder(store, Arc::new(FakeEngine::new()))
            .swarm(Arc::new(SlowAgents), Arc::new(StaticHosts::new(hosts)))
            .build()
            .unwrap();
        let (runner, _) = block_on(runner.recover()).unwrap();
        let request = DeployRequest::new(fleet(10 * size, *size));
        let (time, ()) = timed(|| {
            block_on(async {
                let accepted = runner.accept_deploy(request).await.unwrap();
                accepted.run().await;
            });
        });
        let first = *one.get_or_insert(time);
        let (deckies, over) = (10 * size, time.as_secs_f64() / first.as_secs_f64());
        println!("| {size} | {deckies} | {} | {over:.1} |", micros(time));
    }
    println!();
}
