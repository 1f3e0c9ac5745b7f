//! What could keep deckies from coming up on this machine, and what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::clock::Clock;
use crate::fleet::FleetConfig;
use crate::lifecycle::{DeckyName, Failure};

use super::catalogue::{Catalogue, Protocol, Source};
use super::composer;
use super::containers;
use super::document::ComposeFile;
use super::file;
use super::held::{self, Wanted};
use super::network;
use super::settings::ComposeSettings;
use super::tool::{AskError, Tool, Version};

/// The first compose without CVE-2025-62725: older ones can be made to write
/// outside their folders by a remote compose file.
const SAFE: Version = Version(2, 40, 2);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at, in a word or two.
    pub what: &'static str,
    /// How it is.
    pub health: Health,
    /// What was found, and what to do if it isn't well.
    pub text: String,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// As it should be.
    Good,
    /// It works, and should be looked after.
    Warning,
    /// Deckies won't come up.
    Bad,
}

impl Finding {
    fn new(what: &'static str, health: Health, text: impl Into<String>) -> Self {
        Self { what, health, text: text.into() }
    }
}

pub(super) async fn examine(
    tool: Result<Tool, Failure>,
    settings: &ComposeSettings,
    catalogue: &Catalogue,
    dir: &Path,
    clock: &Arc<dyn Clock>,
    fleet: Option<&FleetConfig>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    match tool {
        Err(failure) => findings.push(Finding::new("compose", Health::Bad, failure.message())),
        Ok(tool) => {
            findings.push(compose_tool(&tool));
            let answers = daemon(&tool, settings, clock).await;
            let is_up = answers.health != Health::Bad;
            findings.push(answers);
            if let (true, Some(fleet)) = (is_up, fleet) {
                findings.push(driver(&tool, settings, clock, fleet).await);
                findings.push(network_finding(&tool, settings, clock, fleet).await);
                if let Ok(file) = composer::compose(settings, catalogue, composer::local(fleet)) {
                    findings.push(others(&tool, settings, clock, fleet, &file.file).await);
                    findings.push(images(&tool, settings, clock, &file.file).await);
                }
            }
        }
    }
    if let Some(fleet) = fleet {
        findings.push(interface(settings, fleet));
        findings.push(services(settings, catalogue, fleet));
        findings.push(ports(catalogue, fleet));
    }
    findings.push(templates(settings, catalogue, fleet));
    findings.push(directory(dir));
    findings
}

fn compose_tool(tool: &Tool) -> Finding {
    let told = tool.describe();
    if tool.version >= SAFE {
        return Finding::new("compose", Health::Good, told);
    }
    let text =
        format!("{told} is older than {SAFE}: CVE-2025-62725; use no compose files of others, and update");
    Finding::new("compose", Health::Warning, text)
}

async fn daemon(tool: &Tool, settings: &ComposeSettings, clock: &Arc<dyn Clock>) -> Finding {
    match tool.ask(&["version", "--format", "{{.Server.Version}}"], settings.grace, clock).await {
        Ok(version) => {
            let text = format!(
                "{} answers, version {}",
                tool.engine.display(),
                String::from_utf8_lossy(&version).trim()
            );
            Finding::new("daemon", Health::Good, text)
        }
        Err(error) => {
            let said = error.to_string();
            let hint = if said.to_lowercase().contains("permission denied") {
                "join the group that owns its socket (usually docker), or run this as root"
            } else {
                "start it (systemctl start docker), or set DOCKER_HOST"
            };
            Finding::new("daemon", Health::Bad, format!("{said}; {hint}"))
        }
    }
}

async fn driver(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
    fleet: &FleetConfig,
) -> Finding {
    let driver = settings.driver_for(fleet);
    match tool.ask(&["info", "--format", "{{json .Plugins.Network}}"], settings.grace, clock).await {
        Ok(known) if String::from_utf8_lossy(&known).contains(driver.as_str()) => {
            Finding::new("driver", Health::Good, format!("the daemon has {driver}"))
        }
        Ok(_) => {
            let text = format!("the daemon has no network driver {driver}; choose another");
            Finding::new("driver", Health::Bad, text)
        }
        Err(error) => Finding::new("driver", Health::Warning, error.to_string()),
    }
}

async fn network_finding(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
    fleet: &FleetConfig,
) -> Finding {
    match network::in_the_way(tool, settings, clock, fleet).await {
        Ok(None) => {
            Finding::new("network", Health::Good, format!("nothing is in the way of {}", settings.network))
        }
        Ok(Some(why)) => Finding::new("network", Health::Bad, why),
        Err(failure) => Finding::new("network", Health::Bad, failure.message()),
    }
}

/// The names and addresses that others hold.
async fn others(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
    fleet: &FleetConfig,
    file: &ComposeFile,
) -> Finding {
    let deckies: BTreeSet<DeckyName> = composer::local(fleet).map(|(_, decky)| decky.name.clone()).collect();
    let held = async {
        let seen = containers::see(tool, settings, clock).await?;
        let there = network::look(tool, settings, clock).await?;
        let wanted = Wanted { fleet, file, deckies: &deckies, seen: &seen, network: there.as_ref() };
        held::by_others(tool, settings, clock, &wanted).await
    };
    match held.await {
        Ok(held) if held.is_empty() => {
            Finding::new("others", Health::Good, "nobody else holds a decky's name or address")
        }
        Ok(held) => {
            let told: Vec<String> =
                held.iter().map(|(decky, failure)| format!("{decky}: {}", failure.message())).collect();
            Finding::new("others", Health::Bad, told.join("\n"))
        }
        Err(error) => Finding::new("others", Health::Warning, error.to_string()),
    }
}

/// The images that a deploy has to fetch first.
async fn images(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
    file: &ComposeFile,
) -> Finding {
    let mut missing = Vec::new();
    for (image, container) in file.images() {
        let args = ["image", "inspect", "--format", "{{.Id}}", "--", image];
        match tool.ask(&args, settings.grace, clock).await {
            Ok(_) => {}
            Err(AskError::Refused { is_missing: true, .. }) => {
                missing.push(format!("{image} (of {container})"))
            }
            Err(error) => return Finding::new("images", Health::Warning, error.to_string()),
        }
    }
    if missing.is_empty() {
        return Finding::new("images", Health::Good, "all are on this machine");
    }
    let text = format!("not on this machine, so a deploy fetches them: {}", missing.join(", "));
    Finding::new("images", Health::Warning, text)
}

/// Services of one decky that want the same port; only one can have it.
fn ports(catalogue: &Catalogue, fleet: &FleetConfig) -> Finding {
    let mut clashes = Vec::new();
    for (_, decky) in composer::local(fleet) {
        let mut taken = BTreeMap::new();
        let specs = decky.services.iter().filter_map(|service| Some((service, catalogue.get(service)?)));
        for (service, port) in
            specs.flat_map(|(service, spec)| spec.ports.iter().map(move |port| (service, port)))
        {
            let (number, is_udp) = (port.number, port.protocol == Protocol::Udp);
            if let Some(first) = taken.insert((number, is_udp), service) {
                clashes.push(format!("{}: {first} and {service} both want port {number}", decky.name));
            }
        }
    }
    if clashes.is_empty() {
        return Finding::new("ports", Health::Good, "each service has its own");
    }
    Finding::new("ports", Health::Bad, format!("{}; leave one out", clashes.join("\n")))
}

fn interface(settings: &ComposeSettings, fleet: &FleetConfig) -> Finding {
    let (name, driver) = (&fleet.interface, settings.driver_for(fleet));
    if network::lacks_parent(settings, fleet) {
        let text = format!("this machine has no interface {name} for {driver}; `ip link` lists those it has");
        return Finding::new("interface", Health::Bad, text);
    }
    let text = if driver.has_parent() { format!("{name} is there") } else { format!("{driver} needs none") };
    Finding::new("interface", Health::Good, text)
}

fn services(settings: &ComposeSettings, catalogue: &Catalogue, fleet: &FleetConfig) -> Finding {
    match composer::compose(settings, catalogue, composer::local(fleet)) {
        Ok(composed) if composed.notes.is_empty() => {
            Finding::new("fleet", Health::Good, format!("it composes to {} containers", composed.file.len()))
        }
        Ok(composed) => {
            let notes: Vec<String> =
                composed.notes.iter().take(20).map(|(_, note)| note.to_string()).collect();
            let more = composed.notes.len().saturating_sub(notes.len());
            let more = if more == 0 { String::new() } else { format!("\nand {more} more") };
            let text = format!(
                "it composes to {} containers, but:\n{}{more}",
                composed.file.len(),
                notes.join("\n")
            );
            Finding::new("fleet", Health::Warning, text)
        }
        Err(problems) => Finding::new("fleet", Health::Bad, problems.to_string()),
    }
}

/// The build contexts that aren't there, of a fleet's services or of all.
fn templates(settings: &ComposeSettings, catalogue: &Catalogue, fleet: Option<&FleetConfig>) -> Finding {
    let of_fleet = |fleet: &FleetConfig| {
        composer::local(fleet).flat_map(|(_, decky)| decky.services.clone()).collect::<BTreeSet<_>>()
    };
    let wanted = fleet.map_or_else(|| catalogue.services().cloned().collect(), of_fleet);
    let is_missing =
        |service: &&crate::lifecycle::ServiceName| match catalogue.get(service).map(|spec| &spec.source) {
            Some(Source::Build { folder, .. }) => lacks(&settings.templates.join(folder)).is_some(),
            _ => false,
        };
    let missing: Vec<&str> = wanted.iter().filter(is_missing).map(|service| service.as_str()).collect();
    let place = settings.templates.display();
    if missing.is_empty() {
        return Finding::new("templates", Health::Good, format!("what has to be built is there ({place})"));
    }
    let health = if fleet.is_some() { Health::Bad } else { Health::Warning };
    let text = format!(
        "{place} lacks {}; install DECNET's templates, name their folder, or define the services in a catalogue file",
        missing.join(", ")
    );
    Finding::new("templates", health, text)
}

/// What a folder lacks to be built from.
pub(super) fn lacks(folder: &Path) -> Option<&'static str> {
    if !folder.is_dir() {
        return Some("isn't there");
    }
    match std::fs::File::open(folder.join("Dockerfile")) {
        Ok(_) => None,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Some("can't be read"),
        Err(_) => Some("has no Dockerfile"),
    }
}

fn directory(dir: &Path) -> Finding {
    match file::make_dir(dir).and_then(|()| tempfile::tempfile_in(dir)) {
        Ok(_) => Finding::new("directory", Health::Good, format!("{} can be written", dir.display())),
        Err(error) => {
            let text = format!("{}: {error}; name another, or mend its permissions", dir.display());
            Finding::new("directory", Health::Bad, text)
        }
    }
}
