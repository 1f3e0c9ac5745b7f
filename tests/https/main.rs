//! Agents over HTTPS: what is sent, and what no peer can do to the master.

#[path = "../tls/mod.rs"]
mod tls;

mod answers;
mod bundles;
mod hostile;
mod master;
mod requests;
mod trust;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::agent::https::{CallLimits, HttpsAgents, Identity};
use decnet_lifecycle::{
    agent::{AgentError, Agents, DeployCall, Host, MutateCall, TeardownCall},
    *,
};
use futures_lite::future::block_on;

/// Limits that a hostile peer runs into soon, and an honest one on a busy machine
/// does not.
fn soon() -> CallLimits {
    let mut limits = CallLimits::default();
    limits.connect = Duration::from_secs(2);
    limits.response = Duration::from_secs(2);
    limits.total = Duration::from_secs(3);
    limits
}

fn host(address: &str, pin: decnet_lifecycle::agent::Pin) -> Host {
    Host { id: HostId::parse("w1").unwrap(), address: address.to_owned(), pin }
}

fn teardown_call() -> TeardownCall {
    let decky = DeckyName::parse("decky-01").unwrap();
    let lifecycle_ids = BTreeMap::from([(decky.clone(), LifecycleId::from_u128(7))]);
    TeardownCall { decky: Some(decky), lifecycle_ids }
}

fn mutate_call() -> MutateCall {
    MutateCall {
        decky: DeckyName::parse("decky-01").unwrap(),
        services: ["ssh", "http"].map(|name| ServiceName::parse(name).unwrap()).to_vec(),
        lifecycle_id: LifecycleId::from_u128(7),
    }
}

fn deploy_call() -> DeployCall {
    let config = FleetConfig::from_json(include_bytes!("../../examples/fleet.json")).unwrap();
    let ids = BTreeMap::from([(DeckyName::parse("decky-02").unwrap(), LifecycleId::from_u128(8))]);
    DeployCall { config: Arc::new(config), lifecycle_ids: ids }
}

/// A mutate at this address, with limits that are reached soon.
fn mutate(identity: Identity, address: &str, pin: decnet_lifecycle::agent::Pin) -> Result<(), AgentError> {
    let host = host(address, pin);
    tls::within(move || {
        let agents = HttpsAgents::new(identity).limits(soon());
        block_on(agents.mutate(&host, &mutate_call()))
    })
}
