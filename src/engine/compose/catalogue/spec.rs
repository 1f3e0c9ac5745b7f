//! What a service's container, or a decky's base, is made of.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::engine::compose::document::HealthCheck;
use crate::engine::compose::text::Text;

use super::env_name::EnvName;
use super::port::Port;
use super::setting::Setting;
use super::volume::Volume;

#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "RawSpec")]
pub(crate) struct ServiceSpec {
    pub(crate) source: Source,
    /// What its container is called after the decky and a dash, if not as the
    /// service, with dashes.
    pub(crate) container: Option<ContainerPart>,
    pub(crate) environment: BTreeMap<EnvName, Text>,
    /// What each key of `service_config` does.
    pub(crate) settings: BTreeMap<String, Setting>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) capabilities: Vec<Text>,
    pub(crate) command: Vec<Text>,
    pub(crate) ports: Vec<Port>,
    pub(crate) healthcheck: Option<HealthCheck>,
}

/// Where a service's image comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Image(Text),
    Build {
        /// Absolute, or below the templates.
        folder: PathBuf,
        /// Beside `BASE_IMAGE`, which is the decky's unless it stands here.
        args: BTreeMap<EnvName, Text>,
    },
}

/// How the base container is made for a system whose network stack `sysctls`
/// alone can't imitate.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BaseSpec {
    /// Absolute, or below the templates.
    pub(crate) build: PathBuf,
    pub(crate) command: Vec<Text>,
    #[serde(default)]
    pub(crate) capabilities: Vec<Text>,
}

/// A part of a container's name.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct ContainerPart(String);

impl ContainerPart {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ContainerPart {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let good = !text.is_empty() && text.len() <= 64 && text.chars().all(plain);
        if good { Ok(Self(text)) } else { Err(format!("{text:?} can't be part of a container's name")) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpec {
    #[serde(default)]
    image: Option<Text>,
    #[serde(default)]
    build: Option<PathBuf>,
    #[serde(default)]
    build_args: BTreeMap<EnvName, Text>,
    #[serde(default)]
    container: Option<ContainerPart>,
    #[serde(default)]
    environment: BTreeMap<EnvName, Text>,
    #[serde(default)]
    settings: BTreeMap<String, Setting>,
    #[serde(default)]
    volumes: Vec<Volume>,
    #[serde(default)]
    capabilities: Vec<Text>,
    #[serde(default)]
    command: Vec<Text>,
    #[serde(default)]
    ports: Vec<Port>,
    #[serde(default)]
    healthcheck: Option<HealthCheck>,
}

impl TryFrom<RawSpec> for ServiceSpec {
    type Error = &'static str;

    fn try_from(raw: RawSpec) -> Result<Self, &'static str> {
        let source = match (raw.image, raw.build) {
            (Some(image), None) if !image.as_str().is_empty() && raw.build_args.is_empty() => {
                Source::Image(image)
            }
            (None, Some(folder)) => Source::Build { folder, args: raw.build_args },
            _ => {
                return Err(
                    "a service has either \"image\" or \"build\", and \"build_args\" only with the latter",
                );
            }
        };
        Ok(Self {
            source,
            container: raw.container,
            environment: raw.environment,
            settings: raw.settings,
            volumes: raw.volumes,
            capabilities: raw.capabilities,
            command: raw.command,
            ports: raw.ports,
            healthcheck: raw.healthcheck,
        })
    }
}
