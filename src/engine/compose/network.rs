//! The deckies' network: made if it is missing, compared if it is there, and
//! removed only if it is ours and empty.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::clock::Clock;
use crate::fleet::FleetConfig;
use crate::lifecycle::Failure;

use super::failed;
use super::settings::{ComposeSettings, NetworkDriver};
use super::tool::Tool;

const OURS: &str = "decnet.lifecycle.network";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    driver: String,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    #[serde(default)]
    options: Option<BTreeMap<String, String>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    containers: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    #[serde(default)]
    config: Option<Vec<Range>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Range {
    #[serde(default)]
    subnet: String,
    #[serde(default)]
    gateway: String,
}

/// Sees to it that the network is there as the fleet has it.
pub(super) async fn ensure(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
    fleet: &FleetConfig,
) -> Result<(), Failure> {
    if let Some(there) = look(tool, settings, clock).await? {
        return compare(&there, settings, fleet);
    }
    let driver = settings.driver_for(fleet);
    let (subnet, gateway) = (fleet.subnet.trunc().to_string(), fleet.gateway.to_string());
    let parent = format!("parent={}", fleet.interface);
    let label = format!("{OURS}={}", settings.project);
    let mut args = vec!["network", "create", "--driver", driver.as_str(), "--subnet", &subnet];
    args.extend(["--gateway", gateway.as_str(), "--label", &label]);
    if driver.has_parent() {
        args.extend(["--opt", &parent]);
    }
    if fleet.subnet.addr().is_ipv6() {
        args.push("--ipv6");
    }
    args.extend(["--", settings.network.as_str()]);
    match tool.ask(&args, settings.grace, clock).await {
        Ok(_) => Ok(()),
        Err(failure) => match look(tool, settings, clock).await {
            // Somebody else has just made it.
            Ok(Some(there)) => compare(&there, settings, fleet),
            _ => Err(failed(&format!(
                "the network {} ({driver}, {subnet}) can't be made: {}; `doctor` checks the interface {} and what overlaps",
                settings.network,
                failure.message(),
                fleet.interface,
            ))),
        },
    }
}

/// What differs from the fleet in a network that is there; none if there is
/// no network yet, or nothing differs.
pub(super) async fn difference(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
    fleet: &FleetConfig,
) -> Result<Option<Failure>, Failure> {
    let there = look(tool, settings, clock).await?;
    Ok(there.and_then(|there| compare(&there, settings, fleet).err()))
}

/// Removes the network if it is ours and no container is on it.
pub(super) async fn remove_if_unused(tool: &Tool, settings: &ComposeSettings, clock: &Arc<dyn Clock>) {
    let Ok(Some(there)) = look(tool, settings, clock).await else { return };
    let is_ours = there
        .labels
        .is_some_and(|labels| labels.get(OURS).map(String::as_str) == Some(settings.project.as_str()));
    if !is_ours || there.containers.is_some_and(|containers| !containers.is_empty()) {
        return;
    }
    // Docker itself refuses while a container uses it.
    if let Err(failure) =
        tool.ask(&["network", "rm", "--", settings.network.as_str()], settings.grace, clock).await
    {
        log::warn!(target: "decnet_lifecycle::engine", error:% = failure; "the network stays");
    }
}

async fn look(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Inspected>, Failure> {
    let args = ["network", "inspect", "--", settings.network.as_str()];
    match tool.ask(&args, settings.grace, clock).await {
        Ok(answer) => {
            let read: Result<Vec<Inspected>, _> = serde_json::from_slice(&answer);
            let unreadable = || failed("unverified: the engine's answer about the network can't be read");
            read.map(|mut all| all.pop()).map_err(|_| unreadable())
        }
        Err(failure) => {
            let text = failure.message().to_lowercase();
            if text.contains("no such network") || text.contains("not found") {
                return Ok(None);
            }
            Err(failure)
        }
    }
}

fn compare(there: &Inspected, settings: &ComposeSettings, fleet: &FleetConfig) -> Result<(), Failure> {
    let name = &settings.network;
    let wrong = |what: &str, has: &str, wanted: &str| {
        Err(failed(&format!(
            "the network {name} is there with {what} {has}, the fleet wants {wanted}; change the fleet, name another \
             network, or remove it: docker network rm {name}"
        )))
    };
    let driver = settings.driver_for(fleet);
    if there.driver != driver.as_str() {
        return wrong("the driver", &there.driver, driver.as_str());
    }
    let wanted = fleet.subnet.trunc().to_string();
    let ranges = there.ipam.config.as_deref().unwrap_or_default();
    let Some(range) = ranges.iter().find(|range| range.subnet == wanted) else {
        let has: Vec<&str> = ranges.iter().map(|range| range.subnet.as_str()).collect();
        return wrong("the subnet", &has.join(", "), &wanted);
    };
    let gateway = fleet.gateway.to_string();
    if !range.gateway.is_empty() && range.gateway != gateway {
        return wrong("the gateway", &range.gateway, &gateway);
    }
    let parent = there.options.as_ref().and_then(|options| options.get("parent"));
    match parent {
        Some(parent) if driver.has_parent() && *parent != fleet.interface => {
            wrong("the parent interface", parent, &fleet.interface)
        }
        _ => Ok(()),
    }
}

/// Whether the fleet's interface is needed, and is one of this machine's.
pub(super) fn lacks_parent(settings: &ComposeSettings, fleet: &FleetConfig) -> bool {
    let driver: NetworkDriver = settings.driver_for(fleet);
    let name = &fleet.interface;
    driver.has_parent()
        && (name.contains('/')
            || !std::path::Path::new("/sys/class/net").join(name.split('.').next().unwrap_or(name)).exists())
}
