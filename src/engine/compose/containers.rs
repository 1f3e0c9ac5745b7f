//! The containers that really are there, found by their labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::clock::Clock;
use crate::lifecycle::{DeckyName, Failure, FailureKind, ServiceName};

use super::document::{DECKY_LABEL, SERVICE_LABEL};
use super::settings::ComposeSettings;
use super::tool::Tool;

/// A command line's length is bounded; so many containers are named at once.
const AT_ONCE: usize = 400;

/// Only what is read: `{{json .}}` would have the daemon measure each
/// container's files.
const FORMAT: &str =
    r#"{"ID":{{json .ID}},"Names":{{json .Names}},"Labels":{{json .Labels}},"State":{{json .State}}}"#;

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
    /// The daemon's word for its state, such as `running`.
    pub state: String,
}

/// Where a container stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Detail {
    pub(super) state: State,
    pub(super) started_at: String,
    pub(super) exit_code: i64,
    /// What the daemon says went wrong.
    pub(super) error: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Made or being started, or its health isn't known yet.
    Coming,
    Up,
    Unhealthy,
    Restarting,
    Ended,
}

/// The project's containers that belong to deckies.
pub(super) async fn list(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
) -> Result<Vec<Container>, Failure> {
    let filter = format!("label=com.docker.compose.project={}", settings.project);
    let args = ["ps", "--all", "--no-trunc", "--filter", &filter, "--format", FORMAT];
    let answer = tool.ask(&args, settings.grace, clock).await?;
    read_ps(&answer).ok_or_else(unverified)
}

pub(super) fn unverified() -> Failure {
    Failure::new(FailureKind::Engine, "unverified: the engine's list of containers can't be read")
}

/// Reads `ps`: one object a line, or one array of them.
pub(super) fn read_ps(bytes: &[u8]) -> Option<Vec<Container>> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let objects: Vec<Listed> = if text.starts_with('[') {
        serde_json::from_str(text).ok()?
    } else {
        text.lines().map(|line| serde_json::from_str(line).ok()).collect::<Option<_>>()?
    };
    Some(objects.into_iter().filter_map(Listed::into_container).collect())
}

/// As Docker has it, and as podman has it.
#[derive(Deserialize)]
struct Listed {
    #[serde(alias = "Id", rename = "ID")]
    id: String,
    #[serde(rename = "Names")]
    names: Value,
    #[serde(rename = "Labels")]
    labels: Value,
    #[serde(rename = "State")]
    state: String,
}

impl Listed {
    fn into_container(self) -> Option<Container> {
        let name = match &self.names {
            Value::String(name) => name.split(',').next().map(str::to_owned),
            Value::Array(names) => names.first().and_then(Value::as_str).map(str::to_owned),
            _ => None,
        }?;
        let labels: BTreeMap<String, String> = match &self.labels {
            Value::Object(labels) => labels
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
            Value::String(labels) => labels
                .split(',')
                .filter_map(|label| label.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            _ => BTreeMap::new(),
        };
        // The original's base containers have no label but compose's own.
        let decky = labels.get(DECKY_LABEL).or_else(|| labels.get("com.docker.compose.service"));
        Some(Container {
            id: self.id,
            name,
            decky: DeckyName::parse(decky?).ok()?,
            service: labels.get(SERVICE_LABEL).and_then(|name| ServiceName::parse(name).ok()),
            state: self.state,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    name: String,
    state: InspectedState,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    status: String,
    started_at: String,
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
}

/// How these containers stand; one that is gone meanwhile is left out.
pub(super) async fn inspect(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
    names: &[&str],
) -> Result<BTreeMap<String, Detail>, Failure> {
    let mut details = BTreeMap::new();
    for some in names.chunks(AT_ONCE) {
        let args: Vec<&str> =
            ["inspect", "--type", "container", "--"].into_iter().chain(some.iter().copied()).collect();
        let answer = tool.ask(&args, settings.grace, clock).await?;
        let read: Vec<Inspected> = serde_json::from_slice(&answer).map_err(|_| unverified())?;
        for one in read {
            details.insert(one.name.trim_start_matches('/').to_owned(), one.state.into());
        }
    }
    Ok(details)
}

impl From<InspectedState> for Detail {
    fn from(told: InspectedState) -> Self {
        let health = told.health.as_ref().map_or("", |health| health.status.as_str());
        let state = match (told.status.as_str(), health) {
            ("running", "unhealthy") => State::Unhealthy,
            ("running", "starting") => State::Coming,
            ("running", _) => State::Up,
            ("restarting", _) => State::Restarting,
            ("created" | "configured" | "initialized", _) => State::Coming,
            _ => State::Ended,
        };
        Self { state, started_at: told.started_at, exit_code: told.exit_code, error: told.error }
    }
}

/// Removes containers, running or not.
pub(super) async fn remove(
    tool: &Tool,
    settings: &ComposeSettings,
    clock: &Arc<dyn Clock>,
    containers: &[&Container],
) -> Result<(), Failure> {
    // Services first: their network namespace is their base's.
    let (bases, services): (Vec<&Container>, Vec<&Container>) =
        containers.iter().partition(|container| container.service.is_none());
    for some in [services, bases].iter().flat_map(|group| group.chunks(AT_ONCE)) {
        let ids = some.iter().map(|container| container.id.as_str());
        let args: Vec<&str> = ["rm", "--force", "--volumes", "--"].into_iter().chain(ids).collect();
        tool.ask(&args, settings.grace, clock).await?;
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
    let said = tool.logs(name, settings, clock).await?;
    said.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}
