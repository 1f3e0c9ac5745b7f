//! Composing, and what the engine adds to a bare `up` of the same file.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::engine::compose::{
    Catalogue, ComposeEngine, ComposeSettings, DockerName, NetworkDriver,
};
use decnet_lifecycle::{
    FleetConfig, LifecycleId,
    clock::SystemClock,
    engine::{CancelToken, Engine as _, NoProgress, Task, Work},
};
use serde_json::{Value, json};

use super::{median, micros, timed};

/// Made by `tests/compose_docker.rs`.
const IMAGE: &str = "decnet-lifecycle-test:busybox";

pub fn report(quick: bool) {
    println!("## Compose\n");
    let engine = ComposeEngine::new("/x");
    println!("| deckies, 3 services each | to compose and write as text | a decky |\n|---|---|---|");
    for deckies in if quick { vec![20, 200] } else { vec![200, 2_000, 16_000] } {
        let fleet = fleet(deckies, "debian:12");
        let times =
            (0..9).map(|_| timed(|| engine.compose(&fleet).map(|file| file.to_json().len())).0).collect();
        let time = median(times);
        println!("| {deckies} | {} | {} |", micros(time), micros(time / deckies));
    }
    println!();
    if !has_image() {
        println!(
            "The engine beside a bare `up`: no Docker here, or not the image that `tests/compose_docker.rs` makes.\n"
        );
        return;
    }
    let deckies = if quick { 2 } else { 10 };
    let mut ours = Vec::new();
    let mut bare = Vec::new();
    for _ in 0..if quick { 1 } else { 5 } {
        let (site, work) = site(deckies);
        // A master has found its tool before the second call.
        assert!(futures_lite::future::block_on(site.running()).is_ok(), "no compose tool");
        ours.push(timed(|| futures_lite::future::block_on(site.deploy(&work))).0);
        let text = site.compose(&work.fleet).map(|file| file.to_json()).unwrap_or_default();
        let file = std::env::temp_dir().join("decnet-lifecycle-bench.yml");
        clean();
        assert!(std::fs::write(&file, text).is_ok());
        bare.push(timed(|| up(&file)).0);
        clean();
    }
    let (ours, bare) = (median(ours), median(bare));
    println!("| {deckies} deckies, {} containers, images there | wall time |\n|---|---|", deckies * 3);
    println!("| bare: network, `up -d --build` | {} |", micros(bare));
    println!(
        "| the engine: network, file, `up`, a verdict on each decky, no settle time | {} |",
        micros(ours)
    );
    println!("| ratio | {:.2} |\n", ours.as_secs_f64() / bare.as_secs_f64());
}

fn fleet(deckies: u32, image: &str) -> FleetConfig {
    let deckies: Vec<Value> = (0..deckies)
        .map(|number| {
            json!({"name": format!("bench-{number}"), "ip": format!("172.29.{}.{}", (200 + number / 200) % 256, 10 + number % 200),
                   "services": ["ssh", "http"], "distro": "debian", "base_image": image, "hostname": "srv"})
        })
        .collect();
    let subnet = if deckies.len() > 100 { "172.29.0.0/16" } else { "172.29.200.0/24" };
    let fleet = json!({"mode": "unihost", "interface": "eth0", "subnet": subnet, "gateway": "172.29.200.1", "deckies": deckies});
    FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap_or_else(|error| unreachable!("{error}"))
}

fn site(deckies: u32) -> (ComposeEngine, Work) {
    let own = json!({"services": {"ssh": {"image": IMAGE, "command": ["httpd", "-f", "-p", "22"]},
                                  "http": {"image": IMAGE, "command": ["httpd", "-f", "-p", "80"]}}});
    let mut settings = ComposeSettings::default();
    let name = |text| DockerName::parse(text).unwrap_or_else(|error| unreachable!("{error}"));
    (settings.project, settings.network) = (name("dl-bench"), name("dl-bench-lan"));
    settings.driver = Some(NetworkDriver::Bridge);
    settings.settle = Duration::ZERO;
    let catalogue = Catalogue::builtin().with_json(own.to_string().as_bytes()).unwrap_or_default();
    let engine = ComposeEngine::new(std::env::temp_dir().join("decnet-lifecycle-bench")).settings(settings);
    let fleet = fleet(deckies, IMAGE);
    let task = || Task { id: LifecycleId::from_u128(1), cancel: CancelToken::new() };
    let deckies: BTreeMap<_, _> = fleet.names().map(|name| (name.clone(), task())).collect();
    let (clock, progress) = (Arc::new(SystemClock::new()), Arc::new(NoProgress));
    (engine.catalogue(catalogue), Work { fleet: Arc::new(fleet), deckies, clock, progress })
}

fn up(file: &std::path::Path) {
    let network = "network create --subnet 172.29.200.0/24 --gateway 172.29.200.1 dl-bench-lan";
    docker(&network.split(' ').collect::<Vec<_>>());
    let has_plugin = docker(&["compose", "version"]).is_some();
    let mut command = Command::new(if has_plugin { "docker" } else { "docker-compose" });
    if has_plugin {
        command.arg("compose");
    }
    let done = command.args(["-p", "dl-bench", "-f"]).arg(file).args(["up", "-d", "--build"]).output();
    assert!(done.is_ok_and(|output| output.status.success()), "the bare `up` failed");
}

fn clean() {
    let ids =
        docker(&["ps", "-aq", "--filter", "label=com.docker.compose.project=dl-bench"]).unwrap_or_default();
    let all: Vec<&str> = ["rm", "-f"].into_iter().chain(ids.lines()).collect();
    if all.len() > 2 {
        docker(&all);
    }
    docker(&["network", "rm", "dl-bench-lan"]);
}

fn has_image() -> bool {
    docker(&["image", "inspect", IMAGE]).is_some()
}

fn docker(args: &[&str]) -> Option<String> {
    let output = Command::new("docker").args(args).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
