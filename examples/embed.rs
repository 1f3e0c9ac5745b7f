//! A master in forty lines, under smol: accepts a deploy, answers with the
//! ids, spawns the work, and watches it. `embed_tokio.rs` is its twin.
//!
//! `cargo run --features testkit --example embed`

use std::sync::Arc;

use decnet_lifecycle::testkit::FakeEngine;
use decnet_lifecycle::{
    DeployRequest, FleetConfig, Runner, lifecycle::Revision, runner::Seen, store::RedbStore,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let fleet = FleetConfig::from_json(include_bytes!("fleet.json"))?;
    smol::block_on(async {
        let store = Arc::new(RedbStore::open(dir.path().join("lifecycle.redb"))?);
        // A real master gives its own engine here.
        let engine = Arc::new(FakeEngine::new());
        let (runner, recovered) = Runner::builder(store, engine).build()?.recover().await?;
        for again in recovered.accepted {
            smol::spawn(again.run()).detach();
        }
        let keeper = runner.clone();
        let maintenance = smol::spawn(async move { keeper.maintain().await });

        let accepted = runner.accept_deploy(DeployRequest::new(fleet)).await?;
        let ids: Vec<_> = accepted.ids().values().copied().collect();
        println!("202 {ids:?}");
        smol::spawn(accepted.run()).detach();

        let mut watch = runner.watch(Revision::ZERO);
        let mut open = ids.len();
        while open > 0 {
            if let Seen::Changed(entry) = watch.next().await? {
                println!("{:>3} {} {}", entry.revision, entry.decky, entry.status);
                open -= usize::from(!entry.status.is_open());
            }
        }
        maintenance.cancel().await;
        Ok(())
    })
}
