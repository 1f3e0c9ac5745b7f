//! The README's program: deploys `fleet.json`, waits, and tells how each decky
//! came out.
//!
//! `cargo run --example library`

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use decnet_lifecycle::engine::process::{ProcessEngine, decoy_main};
use decnet_lifecycle::{DeployRequest, FleetConfig, Runner, store::RedbStore};

fn main() -> ExitCode {
    // Each decoy is this same program, started again.
    if let Some(end) = decoy_main() {
        return end;
    }
    match smol::block_on(deploy(Path::new("."))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn deploy(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(RedbStore::open(dir.join("lifecycle.redb"))?);
    let engine = Arc::new(ProcessEngine::new(dir.join("decoys")));
    let (runner, recovered) = Runner::builder(store, engine).build()?.recover().await?;
    for again in recovered.accepted {
        smol::spawn(again.run()).detach(); // what an earlier start accepted and did not begin
    }

    let fleet = FleetConfig::from_json(&std::fs::read(dir.join("fleet.json"))?)?;
    let accepted = runner.accept_deploy(DeployRequest::new(fleet)).await?;
    let ids: Vec<_> = accepted.ids().values().copied().collect(); // durable: answer 202 with these

    smol::spawn(accepted.run()).detach(); // or tokio::spawn(accepted.run())
    for row in runner.wait(&ids).await? {
        println!("{} {}", row.decky, row.status());
    }
    Ok(())
}
