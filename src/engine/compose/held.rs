//! Who else holds the names and addresses that deckies are to have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::clock::Clock;
use crate::fleet::FleetConfig;
use crate::lifecycle::{DeckyName, Failure};

use super::containers::{Attached, Seen};
use super::document::ComposeFile;
use super::failed;
use super::network::There;
use super::settings::ComposeSettings;
use super::tool::{AskError, Tool};

/// Deckies that are to come up, and what is there.
pub(super) struct Wanted<'w> {
    pub(super) fleet: &'w FleetConfig,
    pub(super) file: &'w ComposeFile,
    pub(super) deckies: &'w BTreeSet<DeckyName>,
    /// The project's containers.
    pub(super) seen: &'w [Seen],
    pub(super) network: Option<&'w There>,
}

/// The deckies that can't come up because others hold what they need.
pub(super) async fn by_others(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
    wanted: &Wanted<'_>,
) -> Result<BTreeMap<DeckyName, Failure>, AskError> {
    let Wanted { fleet, file, deckies, seen, network } = *wanted;
    let mut failures = BTreeMap::new();
    let ours: BTreeSet<&str> = seen.iter().map(|one| one.name.as_str()).collect();
    let names = deckies.iter().flat_map(|decky| file.containers(decky).map(move |name| (name, decky)));
    let missing: BTreeMap<&str, &DeckyName> = names.filter(|(name, _)| !ours.contains(name)).collect();
    if !missing.is_empty() {
        for (name, project) in strangers(tool, settings, clock).await? {
            let Some(decky) = missing.get(name.as_str()) else { continue };
            let whose = if project.is_empty() { String::new() } else { format!(" of the project {project}") };
            let text = format!(
                "the name {name} is taken by a container{whose}; remove it (docker rm -f {name}), or rename the decky"
            );
            failures.insert((*decky).clone(), failed(&text));
        }
    }
    for decky in fleet.deckies.iter().filter(|decky| deckies.contains(&decky.name)) {
        let ip = decky.ip;
        let has = |at: &Attached| at.v4.parse() == Ok(ip) || at.v6.parse() == Ok(ip);
        let other = |one: &&Seen| {
            let at = one.detail.networks.get(settings.network.as_str());
            !deckies.contains(&one.decky) && at.is_some_and(has)
        };
        let text = if let Some(name) = network.and_then(|network| network.holder(ip, seen)) {
            format!("its address {ip} is held by the container {name}; stop that, or give the decky another")
        } else if let Some(Seen { decky: name, .. }) = seen.iter().find(other) {
            format!(
                "its address {ip} is held by the decky {name}; take that down (teardown {name}), or give this one another"
            )
        } else {
            continue;
        };
        failures.entry(decky.name.clone()).or_insert_with(|| failed(&text));
    }
    Ok(failures)
}

/// Every container of the machine by name, with its compose project.
async fn strangers(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
) -> Result<Vec<(String, String)>, AskError> {
    let format = "{{.Names}}\t{{.Label \"com.docker.compose.project\"}}";
    let args = ["ps", "--all", "--no-trunc", "--format", format];
    let answer = tool.ask(&args, settings.grace, clock).await?;
    let pair = |line: &str| {
        let (names, project) = line.split_once('\t')?;
        Some((names.split(',').next()?.to_owned(), project.trim().to_owned()))
    };
    Ok(String::from_utf8_lossy(&answer).lines().filter_map(pair).collect())
}
