//! What a service is: the built-in catalogue, and a user's own.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::lifecycle::{DeckyName, ServiceName};

use super::text::Text;

mod env_name;
mod port;
mod setting;
mod spec;
mod volume;

pub(super) use port::{Port, Protocol};
pub(super) use setting::Effect;
pub(super) use spec::{BaseSpec, ServiceSpec, Source};
pub(super) use volume::{FolderPath, VolumeSource};

/// What each service is made of, and how each operating system's network
/// stack is imitated.
///
/// As in a compose file, a `$` is written `$$`. The built-in one has the
/// original's 28 services, each built from a folder below the templates. A
/// file of one's own adds to it, or replaces entries as a whole:
///
/// ```
/// use decnet_lifecycle::ServiceName;
/// use decnet_lifecycle::engine::compose::Catalogue;
///
/// let own = br#"{"services": {"gopher": {
///   "image": "registry.example/gopher:1",
///   "command": ["gopherd", "--port", "70"],
///   "environment": {"GOPHER_ROOT": "/srv/gopher"},
///   "settings": {"motd": "GOPHER_MOTD", "depth": {"type": "int", "variable": "GOPHER_DEPTH"}},
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
    /// Services that are no containers of a decky, and why.
    left_out: BTreeMap<ServiceName, String>,
    /// Network settings by the operating system they look like.
    systems: BTreeMap<String, BTreeMap<String, Text>>,
    /// Base containers by the operating system they look like; `null` for the
    /// decky's own image.
    bases: BTreeMap<String, Option<BaseSpec>>,
}

/// A catalogue file that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// It isn't JSON, or has a field that a catalogue doesn't have.
    #[error("not a catalogue: {0}; the README shows a whole catalogue file")]
    Syntax(serde_json::Error),
    /// It is in another encoding, has a key twice, or a list in an object's
    /// place.
    #[error("not a catalogue: {what}")]
    Form {
        /// What it is.
        what: String,
    },
    /// It is larger than any catalogue.
    #[error("the file has {len} bytes, a catalogue has at most {max}; is it the right file?")]
    TooLarge {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
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
        let form = |error: crate::fleet::FleetError| CatalogueError::Form { what: error.to_string() };
        crate::fleet::json::check(bytes).map_err(form)?;
        // First, for it says the line of what is wrong.
        let more: Self = serde_json::from_slice(bytes)?;
        if let Some(what) = list_for_an_object(&serde_json::from_slice(bytes)?) {
            return Err(CatalogueError::Form { what });
        }
        self.left_out.retain(|service, _| !more.services.contains_key(service));
        self.services.retain(|service, _| !more.left_out.contains_key(service));
        self.services.extend(more.services);
        self.left_out.extend(more.left_out);
        self.systems.extend(more.systems);
        self.bases.extend(more.bases);
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

    /// All services.
    pub(super) fn specs(&self) -> impl Iterator<Item = &ServiceSpec> {
        self.services.values()
    }

    /// A service by its name as a fleet writes it.
    pub(super) fn named(&self, service: &str) -> Option<&ServiceSpec> {
        self.services.iter().find(|(name, _)| name.as_str() == service).map(|(_, spec)| spec)
    }

    /// The name of a service's container.
    pub(super) fn container(&self, decky: &DeckyName, service: &ServiceName) -> String {
        match self.services.get(service).and_then(|spec| spec.container.as_ref()) {
            Some(part) => format!("{decky}-{}", part.as_str()),
            None => format!("{decky}-{}", service.as_str().replace('_', "-")),
        }
    }

    /// Why a service gets no container, though it may stand in a fleet.
    pub(super) fn left_out(&self, service: &ServiceName) -> Option<&str> {
        self.left_out.get(service).map(String::as_str)
    }

    /// How the base container is made, if not of the decky's own image.
    pub(super) fn base(&self, system: &str) -> Option<&BaseSpec> {
        self.bases.get(system)?.as_ref()
    }

    /// The network settings of an operating system; an unknown one looks like
    /// Linux, as in the original.
    pub(super) fn sysctls(&self, system: &str) -> BTreeMap<String, Text> {
        self.systems.get(system).or_else(|| self.systems.get("linux")).cloned().unwrap_or_default()
    }
}

/// A list where an object is wanted: it would be taken for the object's fields
/// in some order, which nobody means.
fn list_for_an_object(file: &Value) -> Option<String> {
    let of = |path: &str, value: Option<&Value>| -> Vec<(String, Value)> {
        let fields = value.and_then(Value::as_object).into_iter().flatten();
        fields.map(|(name, value)| (format!("{path}.{name}"), value.clone())).collect()
    };
    let mut objects = vec![("it".to_owned(), file.clone())];
    objects.extend(of("bases", file.get("bases")));
    for (path, service) in of("services", file.get("services")) {
        let volumes = service.get("volumes").and_then(Value::as_array).into_iter().flatten();
        objects.extend(volumes.map(|volume| (format!("{path}.volumes"), volume.clone())));
        objects.extend(of(&format!("{path}.settings"), service.get("settings")));
        objects.extend(service.get("healthcheck").map(|test| (format!("{path}.healthcheck"), test.clone())));
        objects.push((path, service));
    }
    let (path, _) = objects.into_iter().find(|(_, value)| value.is_array())?;
    Some(format!("{path} is a list, and an object is wanted"))
}

impl From<serde_json::Error> for CatalogueError {
    fn from(error: serde_json::Error) -> Self {
        Self::Syntax(error)
    }
}
