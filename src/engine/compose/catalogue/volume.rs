//! A folder of the machine that a service sees.

use serde::{Deserialize, Deserializer};

use crate::engine::compose::text::Text;
use crate::lifecycle::ServiceName;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Volume {
    pub(crate) from: VolumeSource,
    pub(crate) to: FolderPath,
    #[serde(default)]
    pub(crate) mode: VolumeMode,
}

#[derive(Debug, Clone)]
pub(crate) enum VolumeSource {
    /// A folder below the decky's artifacts: the service's own, or that of a
    /// service whose catch lies with it.
    Artifacts(Option<ServiceName>),
    Folder(FolderPath),
}

impl<'de> Deserialize<'de> for VolumeSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "artifacts" {
            return Ok(Self::Artifacts(None));
        }
        if let Some(service) = text.strip_prefix("artifacts/") {
            let name = ServiceName::parse(service).map_err(serde::de::Error::custom)?;
            return Ok(Self::Artifacts(Some(name)));
        }
        FolderPath::try_from(text).map(Self::Folder).map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum VolumeMode {
    #[default]
    Rw,
    Ro,
}

impl VolumeMode {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Rw => "rw",
            Self::Ro => "ro",
        }
    }
}

/// An absolute path that can stand in `from:to:mode`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct FolderPath(String);

impl FolderPath {
    pub(crate) fn as_str(&self) -> &str {
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
