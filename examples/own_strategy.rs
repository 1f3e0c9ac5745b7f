//! A strategy of one's own: deploys one decky first, and the others only if
//! that one came up.
//!
//! `cargo run --features testkit --example own_strategy`

use std::sync::Arc;

use async_trait::async_trait;
use decnet_lifecycle::strategy::{Context, LocalDeploy, Place, Rows, Strategies, Strategy};
use decnet_lifecycle::testkit::{EngineScript, FakeEngine};
use decnet_lifecycle::{
    DeployRequest, Failure, FailureKind, FleetConfig, Operation, Runner, lifecycle::Pending,
};

/// One decky first; the rest of a request follow its example.
#[derive(Debug)]
pub struct Canary;

#[async_trait]
impl Strategy for Canary {
    async fn run(&self, cx: &Context, mut rows: Rows<Pending>) {
        let Some((name, first)) = rows.pop_first() else { return };
        let canary = cx.start(Rows::from([(name.clone(), first)])).await;
        let evidence = cx.deploy(&canary).await;
        if cx.end(canary, evidence).await.all_succeeded() {
            LocalDeploy::default().run(cx, rows).await;
        } else {
            let why = format!("not begun: {name}, which went first, did not come up");
            cx.fail(rows, &Failure::new(FailureKind::Engine, &why)).await;
        }
    }
}

#[allow(dead_code, reason = "a test takes the strategy from here")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let fleet = FleetConfig::from_json(include_bytes!("fleet.json"))?;
    let engine = Arc::new(FakeEngine::new());
    let strategies = Strategies::default().with(Operation::Deploy, Place::Local, Canary);
    smol::block_on(async {
        let store = Arc::new(decnet_lifecycle::store::MemoryStore::new());
        let built = Runner::builder(store, engine.clone()).strategies(strategies).build()?;
        let (runner, _) = built.recover().await?;
        for image in ["is there", "is missing"] {
            if image == "is missing" {
                let missing = Failure::new(FailureKind::Engine, "no such image");
                engine.script(&fleet.deckies[0].name, EngineScript::Fail(missing));
            }
            println!("its image {image}:");
            let accepted = runner.accept_deploy(DeployRequest::new(fleet.clone())).await?;
            let ids: Vec<_> = accepted.all_ids().collect();
            accepted.run().await;
            for row in runner.wait(&ids).await? {
                let why = row.failure().map(ToString::to_string).unwrap_or_default();
                println!("  {} {} {why}", row.decky, row.status());
            }
        }
        Ok(())
    })
}
