//! What a service is: the built-in catalogue, and a user's own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use crate::lifecycle::ServiceName;

use super::document::HealthCheck;
use super::text::Text;

/// What each service is made of, and how each operating system's network
/// stack is imitated.
///
/// As in a compose file, a `$` is written `$$`. The built-in one has the original's 28 services, each built from a folder
/// of its name below the templates. A file of one's own adds to it, or
/// replaces entries as a whole:
///
/// ```
/// use decnet_lifecycle::ServiceName;
/// use decnet_lifecycle::compose::Catalogue;
///
/// let own = br#"{"services": {"gopher": {
///   "image": "registry.example/gopher:1",
///   "command": ["gopherd", "--port", "70"],
///   "environment": {"GOPHER_ROOT": "/srv/gopher"},
///   "settings": {"motd": "GOPHER_MOTD"},
///   "volumes": [{"from": "artifacts", "to": "/var/log/gopher"}],
///   "capabilities": ["NET_BIND_SERVICE"],
///   "ports": ["70/tcp"],
///   "healthcheck": {"test": ["CMD", "gopher", "-t", "localhost"], "interval": "5s", "retries": 3}
/// }}}"#;
/// let catalogue = Catalogue::builtin().with_json(own)?;
/// assert!(catalogue.knows(&ServiceName::parse("gopher")?));
/// assert!(catalogue.knows(&ServiceName::parse("ssh")?));
/// assert_eq!(catalogue.nearest("sssh").as_deref(), Some("ssh"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Catalogue {
    services: BTreeMap<ServiceName, ServiceSpec>,
    /// Network settings by the operating system they look like.
    systems: BTreeMap<String, BTreeMap<String, Text>>,
}

/// A catalogue file that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// It isn't JSON, or has a field that a catalogue doesn't have.
    #[error("not a catalogue: {0}; the README shows a whole catalogue file")]
    Syntax(#[from] serde_json::Error),
    /// It is larger than any catalogue.
    #[error("the file has {len} bytes, a catalogue has at most {max}; is it the right file?")]
    TooLarge {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "RawSpec")]
pub(super) struct ServiceSpec {
    pub(super) source: Source,
    pub(super) environment: BTreeMap<EnvName, Text>,
    /// Which key of `service_config` sets which variable.
    pub(super) settings: BTreeMap<String, EnvName>,
    pub(super) volumes: Vec<Volume>,
    pub(super) capabilities: Vec<Text>,
    pub(super) command: Vec<Text>,
    pub(super) ports: Vec<Port>,
    pub(super) healthcheck: Option<HealthCheck>,
}

/// Where a service's image comes from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Image(Text),
    /// A folder, absolute or below the templates.
    Build(PathBuf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpec {
    #[serde(default)]
    image: Option<Text>,
    #[serde(default)]
    build: Option<PathBuf>,
    #[serde(default)]
    environment: BTreeMap<EnvName, Text>,
    #[serde(default)]
    settings: BTreeMap<String, EnvName>,
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
            (Some(image), None) if !image.as_str().is_empty() => Source::Image(image),
            (None, Some(folder)) => Source::Build(folder),
            _ => return Err("a service has either \"image\" or \"build\""),
        };
        Ok(Self {
            source,
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

/// A folder of the machine that a service sees.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Volume {
    pub(super) from: VolumeSource,
    pub(super) to: FolderPath,
    #[serde(default)]
    pub(super) mode: VolumeMode,
}

#[derive(Debug, Clone)]
pub(super) enum VolumeSource {
    /// The service's own folder below the artifacts.
    Artifacts,
    Folder(FolderPath),
}

impl<'de> Deserialize<'de> for VolumeSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "artifacts" {
            return Ok(Self::Artifacts);
        }
        FolderPath::try_from(text).map(Self::Folder).map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum VolumeMode {
    #[default]
    Rw,
    Ro,
}

impl VolumeMode {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Rw => "rw",
            Self::Ro => "ro",
        }
    }
}

/// An absolute path that can stand in `from:to:mode`.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct FolderPath(String);

impl FolderPath {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FolderPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let steps_up = text.split('/').any(|part| part == "..");
        if !text.starts_with('/') || text.contains(':') || steps_up || Text::new(text.as_str()).is_none() {
            return Err(format!(
                "{text:?} is no folder to share; write an absolute path without ':' and '..'"
            ));
        }
        Ok(Self(text))
    }
}

/// The name of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct EnvName(String);

impl EnvName {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The variable of a setting that the catalogue doesn't name:
    /// `http` and `server-header` make `HTTP_SERVER_HEADER`.
    pub(super) fn of_setting(service: &ServiceName, key: &str) -> Result<Self, String> {
        let name = format!("{service}_{key}").to_ascii_uppercase().replace('-', "_");
        Self::try_from(name).map_err(|_| "letters, digits, '-' and '_' make a setting's name".to_owned())
    }
}

impl TryFrom<String> for EnvName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let good = text.len() <= 256
            && text.starts_with(first)
            && text.chars().all(|c| first(c) || c.is_ascii_digit());
        if good { Ok(Self(text)) } else { Err(format!("{text:?} can't name an environment variable")) }
    }
}

/// A port that a service should answer on, such as `22/tcp`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Port {
    pub(super) number: u16,
    pub(super) protocol: Protocol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

impl TryFrom<String> for Port {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no port; write such as \"22/tcp\" or \"161/udp\"");
        let (number, protocol) = text.split_once('/').ok_or_else(wrong)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(wrong()),
        };
        match number.parse() {
            Ok(number @ 1..) => Ok(Self { number, protocol }),
            _ => Err(wrong()),
        }
    }
}

const BUILTIN: &str = include_str!("builtin.json");

impl Catalogue {
    /// The largest catalogue file that is read: 1 MiB.
    pub const MAX_BYTES: usize = 1 << 20;

    /// The original's services, with its template layout.
    #[must_use]
    pub fn builtin() -> Self {
        // A test reads it; it can't be malformed.
        Self::default().with_json(BUILTIN.as_bytes()).unwrap_or_default()
    }

    /// This catalogue, with the entries of a file added or in place of its
    /// own.
    ///
    /// # Errors
    /// [`CatalogueError`] says what is wrong where.
    pub fn with_json(mut self, bytes: &[u8]) -> Result<Self, CatalogueError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(CatalogueError::TooLarge { len: bytes.len(), max: Self::MAX_BYTES });
        }
        let more: Self = serde_json::from_slice(bytes)?;
        self.services.extend(more.services);
        self.systems.extend(more.systems);
        Ok(self)
    }

    /// Whether a service is defined.
    #[must_use]
    pub fn knows(&self, service: &ServiceName) -> bool {
        self.services.contains_key(service)
    }

    /// The names of the services that are defined.
    pub fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.services.keys()
    }

    /// The defined service whose name is nearest, if one is near.
    #[must_use]
    pub fn nearest(&self, written: &str) -> Option<String> {
        let known: Vec<&str> = self.services.keys().map(ServiceName::as_str).collect();
        crate::fleet::nearest(written, &known)
    }

    pub(super) fn get(&self, service: &ServiceName) -> Option<&ServiceSpec> {
        self.services.get(service)
    }

    /// The network settings of an operating system; an unknown one looks like
    /// Linux, as in the original.
    pub(super) fn sysctls(&self, system: &str) -> BTreeMap<String, Text> {
        self.systems.get(system).or_else(|| self.systems.get("linux")).cloned().unwrap_or_default()
    }
}
