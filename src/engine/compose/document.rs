//! The compose file as a typed document.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::lifecycle::DeckyName;

use super::text::Text;

pub(super) const DECKY_LABEL: &str = "decnet.fleet.decky";
pub(super) const SERVICE_LABEL: &str = "decnet.fleet.service_name";
pub(super) const IS_SERVICE_LABEL: &str = "decnet.fleet.service";

/// A compose file: what the tool is given, and nothing else.
///
/// It is written as JSON, which is YAML too; no text is ever pasted together.
/// [`ComposeEngine::compose`](super::ComposeEngine::compose) makes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComposeFile {
    pub(super) services: BTreeMap<String, Service>,
    pub(super) networks: BTreeMap<String, Network>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) image: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) build: Option<Build>,
    pub(super) container_name: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) hostname: Option<Text>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(super) command: Vec<Text>,
    pub(super) restart: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub(super) networks: BTreeMap<String, Attachment>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) network_mode: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(super) depends_on: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub(super) sysctls: BTreeMap<String, Text>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(super) cap_add: Vec<Text>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub(super) environment: BTreeMap<String, Text>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(super) volumes: Vec<Text>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) healthcheck: Option<HealthCheck>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) logging: Option<Logging>,
    pub(super) labels: BTreeMap<String, Text>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Build {
    pub(super) context: Text,
    pub(super) args: BTreeMap<String, Text>,
}

/// An address of a container on the network: one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attachment {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) ipv4_address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) ipv6_address: Option<IpAddr>,
}

/// A test that says whether a container is healthy, as in a compose file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HealthCheck {
    pub(super) test: Vec<Text>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) interval: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) timeout: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) start_period: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) retries: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Logging {
    pub(super) driver: String,
    pub(super) options: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Network {
    pub(super) external: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) name: Option<String>,
}

/// Text that isn't a compose file as this crate writes them.
#[derive(Debug, thiserror::Error)]
#[error("not a compose file of this engine: {0}; deploy again to write it anew")]
pub struct ComposeFileError(#[from] serde_json::Error);

impl ComposeFile {
    /// Reads a file that [`to_json`](Self::to_json) wrote; strict.
    ///
    /// # Errors
    /// [`ComposeFileError`] says where it differs from one.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ComposeFileError> {
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The file as JSON, which is YAML too.
    ///
    /// ```
    /// use decnet_lifecycle::FleetConfig;
    /// use decnet_lifecycle::engine::compose::{ComposeEngine, ComposeFile};
    ///
    /// let fleet = FleetConfig::from_json(include_bytes!("../../../examples/fleet.json"))?;
    /// let file = ComposeEngine::new("/srv/decnet").compose(&fleet)?;
    /// assert_eq!(ComposeFile::from_json(file.to_json().as_bytes())?, file);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn to_json(&self) -> String {
        // Every map has text keys, so this can't fail.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The names of the containers of a decky, its base's first.
    pub fn containers<'f>(&'f self, decky: &'f DeckyName) -> impl Iterator<Item = &'f str> {
        self.parts(decky).map(|(_, part)| part.container_name.as_str())
    }

    /// What a compose tool calls the containers of a decky: their keys in the
    /// file, the base's first.
    pub(super) fn keys<'f>(&'f self, decky: &'f DeckyName) -> impl Iterator<Item = &'f str> {
        self.parts(decky).map(|(key, _)| key)
    }

    fn parts<'f>(&'f self, decky: &'f DeckyName) -> impl Iterator<Item = (&'f str, &'f Service)> {
        let base = self.services.get(decky.as_str()).map(|base| (decky.as_str(), base));
        base.into_iter().chain(self.of_decky(decky).filter(|(_, service)| service.is_service()))
    }

    /// How many containers the file describes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.services.len()
    }

    /// Whether it describes none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Whether the file describes a container, by its own name or by what a
    /// compose tool calls it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.named(name).is_some()
    }

    fn named(&self, name: &str) -> Option<&Service> {
        let by_container = || self.services.values().find(|service| service.container_name == name);
        self.services.get(name).or_else(by_container)
    }

    /// The folders that a decky's images are built from.
    pub(super) fn build_contexts<'f>(&'f self, decky: &'f DeckyName) -> impl Iterator<Item = &'f str> {
        self.of_decky(decky).filter_map(|(_, service)| Some(service.build.as_ref()?.context.as_str()))
    }

    /// Takes a decky out.
    pub(super) fn remove(&mut self, decky: &DeckyName) {
        self.services.retain(|_, service| service.decky() != Some(decky.as_str()));
    }

    /// Leaves these deckies only.
    pub(super) fn cut_to(&mut self, deckies: &BTreeSet<DeckyName>) {
        let names: BTreeSet<&str> = deckies.iter().map(DeckyName::as_str).collect();
        self.services.retain(|_, service| service.decky().is_some_and(|decky| names.contains(decky)));
    }

    /// The decky that a container is of.
    pub(super) fn decky_of(&self, container: &str) -> Option<DeckyName> {
        DeckyName::parse(self.named(container)?.decky()?).ok()
    }

    /// The image that a container is made of, unless it is built.
    pub(super) fn image(&self, container: &str) -> Option<&str> {
        self.named(container)?.pulled().map(Text::as_str)
    }

    /// The images that containers are made of or built on, each with the name
    /// of one of its containers.
    pub(super) fn images(&self) -> BTreeMap<&str, &str> {
        fn of(service: &Service) -> Option<&str> {
            let base = service.build.as_ref().and_then(|build| build.args.get("BASE_IMAGE"));
            service.pulled().or(base).map(Text::as_str)
        }
        self.services
            .values()
            .filter_map(|service| Some((of(service)?, service.container_name.as_str())))
            .collect()
    }

    /// The one container whose image a text names.
    pub(super) fn with_image_in(&self, text: &str) -> Option<&str> {
        let words: BTreeSet<&str> = text
            .split(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | ','))
            .map(|word| word.trim_end_matches(':'))
            .collect();
        let names = |service: &&Service| service.pulled().is_some_and(|image| words.contains(image.as_str()));
        let mut all = self.services.values().filter(names);
        let one = all.next()?;
        all.next().is_none().then_some(one.container_name.as_str())
    }

    /// The address that a base container has on the network.
    pub(super) fn address(&self, container: &str) -> Option<IpAddr> {
        let place = self.named(container)?.networks.values().next()?;
        place.ipv4_address.or(place.ipv6_address)
    }

    pub(super) fn of_decky<'f>(
        &'f self,
        decky: &'f DeckyName,
    ) -> impl Iterator<Item = (&'f str, &'f Service)> {
        // The keys of a decky's containers start with its name, so they lie together.
        self.services
            .range(decky.as_str().to_owned()..)
            .take_while(|(name, _)| name.starts_with(decky.as_str()))
            .filter(|(_, service)| service.decky() == Some(decky.as_str()))
            .map(|(name, service)| (name.as_str(), service))
    }
}

impl Service {
    pub(super) fn decky(&self) -> Option<&str> {
        self.labels.get(DECKY_LABEL).map(Text::as_str)
    }

    /// The image that it is made of, unless that is built.
    fn pulled(&self) -> Option<&Text> {
        self.image.as_ref().filter(|_| self.build.is_none())
    }

    fn is_service(&self) -> bool {
        self.labels.contains_key(IS_SERVICE_LABEL)
    }
}
