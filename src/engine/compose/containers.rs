//! The containers that really are there, found by their labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use crate::clock::Clock;
use crate::lifecycle::{DeckyName, ServiceName};

use super::document::{DECKY_LABEL, SERVICE_LABEL};
use super::settings::ComposeSettings;
use super::tool::{AskError, Tool};

/// A command line's length is bounded; so many containers are named at once.
const AT_ONCE: usize = 400;

/// Only what is read: `{{json .}}` would have the daemon measure each
/// container's files.
const FORMAT: &str = r#"{"ID":{{json .ID}},"Names":{{json .Names}},"Labels":{{json .Labels}}}"#;

/// A container of a decky, as the daemon has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Container {
    /// Docker's id of it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The decky that it belongs to.
    pub decky: DeckyName,
    /// The service that it plays; none for a base container.
    pub service: Option<ServiceName>,
    /// How it is, in a word or a few: `running`, `cut off` (it runs in a
    /// network namespace that its base has left, or that is on no network),
    /// `exited with code 1`,
    /// `restarting, ended 3 times`, `unhealthy`, `starting`, `paused`.
    pub state: String,
}

impl Container {
    /// Whether it is up and can be reached.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state == UP
    }
}

const UP: &str = "running";

/// A container of the project, and how it is.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) decky: DeckyName,
    pub(super) service: Option<ServiceName>,
    pub(super) detail: Detail,
}

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Detail {
    pub(super) id: String,
    pub(super) state: State,
    pub(super) started_at: Timestamp,
    pub(super) exit_code: i64,
    /// How often it ended by itself since somebody started it.
    pub(super) restarts: u64,
    /// What the daemon says went wrong.
    pub(super) error: String,
    pub(super) pid: i32,
    /// The id of the container whose network namespace it was made for.
    pub(super) joins: Option<String>,
    /// When the daemon starts it again by itself.
    pub(super) policy: String,
    pub(super) networks: BTreeMap<String, Attached>,
}

/// A container's place on a network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Attached {
    #[serde(rename = "NetworkID", default)]
    pub(super) network: String,
    #[serde(rename = "IPAddress", default)]
    pub(super) v4: String,
    #[serde(rename = "GlobalIPv6Address", default)]
    pub(super) v6: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Made or being started, or its health isn't known yet.
    Coming,
    Up,
    Unhealthy,
    Paused,
    Restarting,
    Ended,
}

/// Why a service that runs can't be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cut {
    /// Its base was started after it: a restart joins the base again.
    Left,
    /// It was made for a base that is gone: it must be made anew.
    Orphaned,
}

impl Detail {
    /// Whether this service is outside of its base's present network
    /// namespace.
    pub(super) fn cut_from(&self, base: Option<&Self>) -> Option<Cut> {
        let Some(base) = base else { return Some(Cut::Orphaned) };
        if self.joins.as_deref() != Some(base.id.as_str()) {
            return Some(Cut::Orphaned);
        }
        let runs = matches!(self.state, State::Up | State::Unhealthy | State::Coming | State::Paused);
        (runs && self.started_at < base.started_at && self.started_at > Timestamp::UNIX_EPOCH)
            .then_some(Cut::Left)
    }

    /// Whether this base is on any network: one that runs can be taken off it.
    fn has_address(&self) -> bool {
        self.networks.values().any(|at| !(at.v4.is_empty() && at.v6.is_empty()))
    }

    fn word(&self) -> String {
        let ended = |times: u64| if times == 1 { "once".to_owned() } else { format!("{times} times") };
        match self.state {
            State::Coming => "starting".to_owned(),
            State::Up => UP.to_owned(),
            State::Unhealthy => "unhealthy".to_owned(),
            State::Paused => "paused".to_owned(),
            State::Restarting => format!("restarting, ended {}", ended(self.restarts)),
            State::Ended => format!("exited with code {}", self.exit_code),
        }
    }
}

/// The project's containers that belong to deckies.
pub(super) async fn see(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
) -> Result<Vec<Seen>, AskError> {
    let listed = list(tool, settings, clock).await?;
    let names: Vec<&str> = listed.iter().map(|one| one.name.as_str()).collect();
    let mut details = inspect(tool, settings, clock, &names).await?;
    let seen = |one: Named| {
        let detail = details.remove(&one.name)?;
        Some(Seen { id: one.id, name: one.name, decky: one.decky, service: one.service, detail })
    };
    Ok(listed.into_iter().filter_map(seen).collect())
}

/// The base of each decky that has one.
pub(super) fn bases(seen: &[Seen]) -> BTreeMap<&DeckyName, &Detail> {
    seen.iter().filter(|one| one.service.is_none()).map(|one| (&one.decky, &one.detail)).collect()
}

/// What is seen, in words.
pub(super) fn told(seen: Vec<Seen>) -> Vec<Container> {
    let words: Vec<String> = {
        let bases = bases(&seen);
        let word = |one: &Seen| {
            let base = bases.get(&one.decky);
            let runs = matches!(one.detail.state, State::Up | State::Unhealthy | State::Coming);
            let stands = |base: &&&Detail| {
                matches!(base.state, State::Up | State::Unhealthy | State::Coming) && base.has_address()
            };
            let is_cut = match one.service {
                Some(_) => base.filter(stands).is_none() || one.detail.cut_from(base.copied()).is_some(),
                None => one.detail.state == State::Up && !one.detail.has_address(),
            };
            if runs && is_cut { "cut off".to_owned() } else { one.detail.word() }
        };
        seen.iter().map(word).collect()
    };
    let container = |(one, state): (Seen, String)| Container {
        id: one.id,
        name: one.name,
        decky: one.decky,
        service: one.service,
        state,
    };
    seen.into_iter().zip(words).map(container).collect()
}

struct Named {
    id: String,
    name: String,
    decky: DeckyName,
    service: Option<ServiceName>,
}

async fn list(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
) -> Result<Vec<Named>, AskError> {
    let filter = format!("label=com.docker.compose.project={}", settings.project);
    let args = ["ps", "--all", "--no-trunc", "--filter", &filter, "--format", FORMAT];
    let answer = tool.ask(&args, settings.grace, clock).await?;
    read_ps(&answer).ok_or(AskError::Unreadable("list of containers"))
}

/// Reads `ps`: one object a line.
fn read_ps(bytes: &[u8]) -> Option<Vec<Named>> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let objects: Option<Vec<Listed>> = text.lines().map(|line| serde_json::from_str(line).ok()).collect();
    Some(objects?.into_iter().filter_map(Listed::into_named).collect())
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Names")]
    names: String,
    #[serde(rename = "Labels")]
    labels: String,
}

impl Listed {
    fn into_named(self) -> Option<Named> {
        let name = self.names.split(',').next()?.to_owned();
        let labels: BTreeMap<&str, &str> =
            self.labels.split(',').filter_map(|label| label.split_once('=')).collect();
        // The original's base containers have no label but compose's own.
        let decky = labels.get(DECKY_LABEL).or_else(|| labels.get("com.docker.compose.service"))?;
        let decky = DeckyName::parse(decky).ok()?;
        let service = labels.get(SERVICE_LABEL).and_then(|name| ServiceName::parse(name).ok());
        Some(Named { id: self.id, name, decky, service })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    name: String,
    #[serde(default)]
    restart_count: u64,
    state: InspectedState,
    host_config: InspectedHost,
    network_settings: InspectedNetworks,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    status: String,
    started_at: String,
    #[serde(default)]
    pid: i32,
    #[serde(default)]
    exit_code: i64,
    #[serde(default)]
    error: String,
    #[serde(default)]
    health: Option<InspectedHealth>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedHealth {
    status: String,
    #[serde(default)]
    log: Option<Vec<InspectedTest>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedTest {
    #[serde(default)]
    output: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedHost {
    network_mode: String,
    #[serde(default)]
    restart_policy: InspectedPolicy,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct InspectedPolicy {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedNetworks {
    #[serde(default)]
    networks: Option<BTreeMap<String, Attached>>,
}

/// How these containers stand; one that is gone meanwhile is left out.
async fn inspect(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
    names: &[&str],
) -> Result<BTreeMap<String, Detail>, AskError> {
    let mut details = BTreeMap::new();
    for some in names.chunks(AT_ONCE) {
        let args: Vec<&str> =
            ["inspect", "--type", "container", "--"].into_iter().chain(some.iter().copied()).collect();
        let answer = match tool.ask(&args, settings.grace, clock).await {
            Ok(answer) => answer,
            // The others' answers stand on stdout all the same.
            Err(AskError::Refused { is_missing: true, stdout, .. }) => stdout,
            Err(error) => return Err(error),
        };
        let unreadable = |_| AskError::Unreadable("words on containers");
        let read: Vec<Inspected> = serde_json::from_slice(&answer).map_err(unreadable)?;
        for one in read {
            details.insert(one.name.trim_start_matches('/').to_owned(), one.into());
        }
    }
    Ok(details)
}

impl From<Inspected> for Detail {
    fn from(told: Inspected) -> Self {
        let health = told.state.health.as_ref().map_or("", |health| health.status.as_str());
        let state = match (told.state.status.as_str(), health) {
            ("running", "unhealthy") => State::Unhealthy,
            ("running", "starting") => State::Coming,
            ("running", _) => State::Up,
            ("restarting", _) => State::Restarting,
            ("created", _) => State::Coming,
            ("paused", _) => State::Paused,
            _ => State::Ended,
        };
        let tested = told.state.health.as_ref().and_then(|health| health.log.as_ref()?.last());
        let error = match (state, tested) {
            (State::Unhealthy, Some(test)) => last_line(&test.output).unwrap_or_default(),
            _ => told.state.error,
        };
        Self {
            id: told.id,
            state,
            started_at: told.state.started_at.parse().unwrap_or(Timestamp::MIN),
            exit_code: told.state.exit_code,
            restarts: told.restart_count,
            error,
            pid: told.state.pid,
            joins: told.host_config.network_mode.strip_prefix("container:").map(str::to_owned),
            policy: told.host_config.restart_policy.name,
            networks: told.network_settings.networks.unwrap_or_default(),
        }
    }
}

/// Orders `docker VERB ..` for containers, many at once.
pub(super) async fn order(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
    verb: &[&str],
    ids: &[&str],
) -> Result<(), AskError> {
    for some in ids.chunks(AT_ONCE) {
        let args: Vec<&str> = verb.iter().copied().chain(["--"]).chain(some.iter().copied()).collect();
        match tool.ask(&args, settings.grace, clock).await {
            // What is gone needs no order.
            Ok(_) | Err(AskError::Refused { is_missing: true, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes containers, running or not.
pub(super) async fn remove(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
    containers: &[&Seen],
) -> Result<(), AskError> {
    // Services first: their network namespace is their base's.
    let (bases, services): (Vec<&Seen>, Vec<&Seen>) =
        containers.iter().partition(|container| container.service.is_none());
    for group in [services, bases] {
        let ids: Vec<&str> = group.iter().map(|container| container.id.as_str()).collect();
        order(tool, settings, clock, &["rm", "--force", "--volumes"], &ids).await?;
    }
    Ok(())
}

/// The last thing that a container said.
pub(super) async fn last_words(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
    name: &str,
) -> Option<String> {
    last_line(&tool.logs(name, settings, clock).await?)
}

fn last_line(text: &str) -> Option<String> {
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}
