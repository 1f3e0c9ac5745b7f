//! Accepting and running a local deploy on an engine that takes no time.

use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::testkit::FakeEngine;
use decnet_lifecycle::{store::RedbStore, *};
use futures_lite::future::block_on;

use super::{micros, rate, timed};

/// What the original does on such a machine, in steps a second.
const ORIGINAL: f64 = 1_219.0;

/// A fleet of this many deckies on these hosts, in turn.
pub fn fleet(deckies: usize, hosts: usize) -> FleetConfig {
    let deckies: Vec<serde_json::Value> = (0..deckies)
        .map(|place| {
            let host = place.checked_rem(hosts).map(|host| format!("w{host}"));
            serde_json::json!({
                "name": format!("decky-{place:05}"), "ip": format!("10.{}.{}.{}", 1 + place / 62_500, place / 250 % 250, 2 + place % 250),
                "services": ["ssh"], "distro": "debian", "base_image": "debian:12", "hostname": "srv",
                "host_uuid": host,
            })
        })
        .collect();
    let fleet = serde_json::json!({
        "mode": if hosts == 0 { "unihost" } else { "swarm" }, "interface": "eth0", "subnet": "10.0.0.0/8",
        "gateway": "10.0.0.1", "deckies": deckies,
    });
    FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap()
}

pub fn report(quick: bool) {
    println!("## A local deploy\n");
    println!(
        "From the request to the last row's end on redb, with an engine that takes no time; three steps a decky. The \
         original makes {ORIGINAL:.0} steps/s on such a machine.\n"
    );
    println!("| deckies | commits | time | steps/s | over the original |");
    println!("|---:|---:|---:|---:|---:|");
    let sizes: &[usize] = if quick { &[10] } else { &[10, 100, 1_000, 10_000] };
    for size in sizes {
        let fleet = fleet(*size, 0);
        let mut best = (Duration::MAX, 0);
        for _ in 0..5 {
            let dir = tempfile::tempdir().unwrap();
            let store = Arc::new(RedbStore::open(dir.path().join("s.redb")).unwrap());
            let runner = Runner::builder(store, Arc::new(FakeEngine::new())).build().unwrap();
            let (runner, _) = block_on(runner.recover()).unwrap();
            let request = DeployRequest::new(fleet.clone());
            let (time, ids) = timed(|| {
                block_on(async {
                    let accepted = runner.accept_deploy(request).await.unwrap();
                    let ids: Vec<LifecycleId> = accepted.ids().values().copied().collect();
                    accepted.run().await;
                    ids
                })
            });
            let rows = block_on(runner.get(&ids)).unwrap();
            assert!(rows.len() == *size && rows.iter().all(|row| row.status() == Status::Succeeded));
            best = best.min((time, runner.counters().commits));
        }
        let (time, commits) = best;
        let steps = 3 * size;
        println!(
            "| {size} | {commits} | {} | {} | {:.0}x |",
            micros(time),
            rate(steps, time),
            steps as f64 / time.as_secs_f64() / ORIGINAL
        );
    }
    println!("\nThe best of five.\n");
}
