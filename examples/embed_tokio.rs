//! A master in forty lines, under tokio: accepts a deploy, answers with the
//! ids, spawns the work, and watches it. `embed.rs` is its twin.
//!
//! `cargo run --features testkit --example embed_tokio`

use std::sync::Arc;

use decnet_lifecycle::testkit::FakeEngine;
use decnet_lifecycle::{
    DeployRequest, FleetConfig, Runner, lifecycle::Revision, runner::Seen, store::RedbStore,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let fleet = FleetConfig::from_json(include_bytes!("fleet.json"))?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let store = Arc::new(RedbStore::open(dir.path().join("lifecycle.redb"))?);
        // A real master gives its own engine here.
        let engine = Arc::new(FakeEngine::new());
        let (runner, recovered) = Runner::builder(store, engine).build()?.recover().await?;
        for again in recovered.accepted {
            tokio::spawn(again.run());
        }
        let keeper = runner.clone();
        let maintenance = tokio::spawn(async move { keeper.maintain().await });

        let accepted = runner.accept_deploy(DeployRequest::new(fleet)).await?;
        let ids: Vec<_> = accepted.ids().values().copied().collect();
        println!("202 {ids:?}");
        tokio::spawn(accepted.run());

        let mut watch = runner.watch(Revision::ZERO);
        let mut open = ids.len();
        while open > 0 {
            if let Seen::Changed(entry) = watch.next().await? {
                println!("{:>3} {} {}", entry.revision, entry.decky, entry.status);
                open -= usize::from(!entry.status.is_open());
            }
        }
        maintenance.abort();
        Ok(())
    })
}
