//! The deckies' network: made if it is missing, compared if it is there, made
//! anew if it is ours and only in the way of the deckies of a call, and
//! removed once nothing is on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;

use crate::clock::Clock;
use crate::engine::Work;
use crate::fleet::FleetConfig;
use crate::lifecycle::{DeckyName, Failure};

use super::containers::{self, Seen};
use super::failed;
use super::settings::{ComposeSettings, NetworkDriver};
use super::tool::{AskError, Tool};

const OURS: &str = "decnet.lifecycle.network";

/// A network, as the daemon has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct There {
    #[serde(default)]
    name: String,
    #[serde(default)]
    pub(super) id: String,
    driver: String,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    #[serde(default)]
    options: Option<BTreeMap<String, String>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    /// The running ones, by their ids.
    #[serde(default)]
    containers: Option<BTreeMap<String, Member>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    #[serde(default)]
    name: String,
    #[serde(rename = "IPv4Address", default)]
    v4: String,
    #[serde(rename = "IPv6Address", default)]
    v6: String,
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

impl There {
    fn is_ours(&self, settings: &ComposeSettings) -> bool {
        let label = self.labels.as_ref().and_then(|labels| labels.get(OURS));
        label.map(String::as_str) == Some(settings.project.as_str())
    }

    fn subnets(&self) -> impl Iterator<Item = &str> {
        self.ipam.config.iter().flatten().map(|range| range.subnet.as_str())
    }

    /// The containers that run on it and are none of these.
    fn strangers<'t>(&'t self, ours: &[Seen]) -> Vec<&'t Member> {
        let ours: BTreeSet<&str> = ours.iter().map(|one| one.id.as_str()).collect();
        let members = self.containers.iter().flatten();
        members.filter(|(id, _)| !ours.contains(id.as_str())).map(|(_, member)| member).collect()
    }

    /// The container outside of the fleet that runs at this address.
    pub(super) fn holder(&self, ip: IpAddr, ours: &[Seen]) -> Option<&str> {
        let ip = ip.to_string();
        let has = |address: &str| address.split('/').next() == Some(ip.as_str());
        let strangers = self.strangers(ours);
        strangers.iter().find(|one| has(&one.v4) || has(&one.v6)).map(|one| one.name.as_str())
    }
}

/// Sees to it that the network is there as the fleet has it. One of ours that
/// differs is made anew if nothing but this call's deckies is on it; these are
/// removed then, and come up again.
pub(super) async fn ensure(
    tool: &Tool,
    settings: &ComposeSettings,
    work: &Work,
    seen: &[Seen],
) -> Result<There, Failure> {
    let (clock, fleet) = (&work.clock, &*work.fleet);
    if let Some(there) = look(tool, settings, clock).await? {
        let Err(differs) = compare(&there, settings, fleet) else { return Ok(there) };
        let on_it = |one: &&Seen| one.detail.networks.values().any(|at| at.network == there.id);
        let users: Vec<&Seen> = seen.iter().filter(on_it).collect();
        let others = users.iter().any(|one| !work.deckies.contains_key(&one.decky));
        if !there.is_ours(settings) || others || !there.strangers(seen).is_empty() {
            return Err(differs);
        }
        let deckies: BTreeSet<&DeckyName> = users.iter().map(|one| &one.decky).collect();
        let doomed: Vec<&Seen> = seen.iter().filter(|one| deckies.contains(&one.decky)).collect();
        for decky in &deckies {
            super::note(work, decky, "made anew: its network gets other settings");
        }
        containers::remove(tool, settings, clock, &doomed).await?;
        tool.ask(&["network", "rm", "--", settings.network.as_str()], settings.grace, clock).await?;
    }
    let made = make(tool, settings, clock, fleet).await;
    match (look(tool, settings, clock).await?, made) {
        // Somebody else may just have made it.
        (Some(there), _) => compare(&there, settings, fleet).map(|()| there),
        (None, Err(failure)) => {
            let found = in_the_way(tool, settings, clock, fleet).await;
            let why = match found {
                Ok(Some(why)) => why,
                _ => failure.to_string(),
            };
            let driver = settings.driver_for(fleet);
            let subnet = fleet.subnet.trunc();
            let text = format!("the network {} ({driver}, {subnet}) can't be made: {why}", settings.network);
            Err(failed(&text))
        }
        (None, Ok(())) => Err(failed("unverified: the network was made and isn't there; deploy again")),
    }
}

async fn make(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
    fleet: &FleetConfig,
) -> Result<(), AskError> {
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
    tool.ask(&args, settings.grace, clock).await.map(drop)
}

/// What keeps the network from being as the fleet has it: settings of one that
/// is there, or, if there is none, another network on its addresses or its
/// interface.
pub(super) async fn in_the_way(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
    fleet: &FleetConfig,
) -> Result<Option<String>, Failure> {
    if let Some(there) = look(tool, settings, clock).await? {
        return Ok(compare(&there, settings, fleet).err().map(|failure| failure.message().to_owned()));
    }
    let ids = tool.ask(&["network", "ls", "--quiet", "--no-trunc"], settings.grace, clock).await?;
    let ids = String::from_utf8_lossy(&ids).into_owned();
    let ids: Vec<&str> = ids.split_whitespace().collect();
    if ids.is_empty() {
        return Ok(None);
    }
    let args: Vec<&str> = ["network", "inspect", "--"].into_iter().chain(ids).collect();
    let answer = match tool.ask(&args, settings.grace, clock).await {
        Ok(answer) => answer,
        Err(AskError::Refused { is_missing: true, stdout, .. }) => stdout,
        Err(error) => return Err(error.into()),
    };
    let networks: Vec<There> =
        serde_json::from_slice(&answer).map_err(|_| AskError::Unreadable("list of networks"))?;
    let driver = settings.driver_for(fleet);
    let parent = |one: &There| one.options.as_ref().and_then(|options| options.get("parent").cloned());
    for one in &networks {
        let overlap = one.subnets().filter_map(|subnet| subnet.parse().ok()).find(|subnet: &IpNet| {
            subnet.contains(&fleet.subnet.network()) || fleet.subnet.contains(&subnet.network())
        });
        if let Some(overlap) = overlap {
            return Ok(Some(format!(
                "the network {} has {overlap}, which overlaps {}; remove it (docker network rm {}), or give the fleet \
                 another subnet",
                one.name,
                fleet.subnet.trunc(),
                one.name
            )));
        }
        if driver.has_parent() && parent(one).as_deref() == Some(fleet.interface.as_str()) {
            return Ok(Some(format!(
                "the network {} ({}) is on the interface {} already, which takes one; remove it (docker network rm {}), \
                 or name another interface",
                one.name, one.driver, fleet.interface, one.name
            )));
        }
    }
    Ok(None)
}

/// Removes the network if it is ours and no container is on it.
pub(super) async fn remove_if_unused(tool: &Tool, settings: &ComposeSettings, clock: &Arc<dyn Clock>) {
    let Ok(Some(there)) = look(tool, settings, clock).await else { return };
    if !there.is_ours(settings) || there.containers.is_some_and(|containers| !containers.is_empty()) {
        return;
    }
    // Docker itself refuses while a container uses it.
    if let Err(error) =
        tool.ask(&["network", "rm", "--", settings.network.as_str()], settings.grace, clock).await
    {
        log::warn!(target: "decnet_lifecycle::engine", error:% = error; "the network stays");
    }
}

/// The deckies' network, if it is there.
pub(super) async fn look(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
) -> Result<Option<There>, AskError> {
    let args = ["network", "inspect", "--", settings.network.as_str()];
    match tool.ask(&args, settings.grace, clock).await {
        Ok(answer) => {
            let read: Result<Vec<There>, _> = serde_json::from_slice(&answer);
            read.map(|mut all| all.pop()).map_err(|_| AskError::Unreadable("answer about the network"))
        }
        Err(AskError::Refused { is_missing: true, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn compare(there: &There, settings: &ComposeSettings, fleet: &FleetConfig) -> Result<(), Failure> {
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
        let has: Vec<&str> = there.subnets().collect();
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
