//! What a compose engine is set to: project, network, programs, folders, times.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fleet::FleetConfig;

/// The name of a compose project or of a Docker network: 1 to 63 lowercase
/// letters, digits, `-` and `_`, and a letter or digit first.
///
/// ```
/// use decnet_lifecycle::engine::compose::DockerName;
///
/// assert_eq!(DockerName::parse("decnet_lan")?.as_str(), "decnet_lan");
/// assert!(DockerName::parse("-f").is_err());
/// # Ok::<(), decnet_lifecycle::engine::compose::DockerNameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DockerName(String);

/// A name that Docker or the compose tool would not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} can't name a project or network; write 1 to 63 lowercase letters, digits, '-' and '_', a letter or \
     digit first"
)]
pub struct DockerNameError(String);

impl DockerName {
    /// Checks the text and keeps it.
    ///
    /// # Errors
    /// [`DockerNameError`] says what a name is made of.
    pub fn parse(text: &str) -> Result<Self, DockerNameError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let good = text.len() <= 63
            && text.starts_with(plain)
            && text.chars().all(|c| plain(c) || matches!(c, '-' | '_'));
        if good { Ok(Self(text.to_owned())) } else { Err(DockerNameError(text.chars().take(80).collect())) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DockerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for DockerName {
    type Err = DockerNameError;

    fn from_str(text: &str) -> Result<Self, DockerNameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for DockerName {
    type Error = DockerNameError;

    fn try_from(text: String) -> Result<Self, DockerNameError> {
        Self::parse(&text)
    }
}

impl From<DockerName> for String {
    fn from(name: DockerName) -> Self {
        name.0
    }
}

/// How deckies' addresses are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkDriver {
    /// Each decky has a MAC address of its own on the fleet's interface.
    Macvlan,
    /// All deckies share the MAC address of the fleet's interface; for
    /// wireless and clouds.
    Ipvlan,
    /// A network inside this machine: the deckies are reached from here only.
    Bridge,
}

impl NetworkDriver {
    /// As Docker calls it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
            Self::Bridge => "bridge",
        }
    }

    /// Whether it is laid over one of the machine's own interfaces.
    #[must_use]
    pub const fn has_parent(self) -> bool {
        matches!(self, Self::Macvlan | Self::Ipvlan)
    }
}

impl fmt::Display for NetworkDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for NetworkDriver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Macvlan, Self::Ipvlan, Self::Bridge]
            .into_iter()
            .find(|driver| driver.as_str() == text)
            .ok_or_else(|| "a network is macvlan, ipvlan or bridge".to_owned())
    }
}

/// What a [`ComposeEngine`](super::ComposeEngine) works with. The defaults are
/// the original's.
///
/// ```
/// use decnet_lifecycle::engine::compose::{ComposeSettings, NetworkDriver};
///
/// let mut settings = ComposeSettings::default();
/// settings.driver = Some(NetworkDriver::Bridge);
/// assert_eq!(settings.project.as_str(), "decnet");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ComposeSettings {
    /// The compose project: `decnet`.
    pub project: DockerName,
    /// The network of the deckies: `decnet_lan`.
    pub network: DockerName,
    /// The network's driver; without one, what the fleet says: ipvlan or
    /// macvlan.
    pub driver: Option<NetworkDriver>,
    /// Where the services' build contexts lie: `/usr/lib/decnet/templates`.
    pub templates: PathBuf,
    /// Where services leave what they caught, a folder for each:
    /// `/var/lib/decnet/artifacts`.
    pub artifacts: PathBuf,
    /// Folders of this machine that a fleet's settings may show to deckies, with
    /// all below them, to be read only: `/srv/decnet`, `/usr/lib/decnet`. The
    /// settings are `files` of http and https, and `email_seed` of imap and
    /// pop3.
    pub shared: Vec<PathBuf>,
    /// The mails that imap and pop3 show where no `email_seed` is set: none.
    pub bait: Option<PathBuf>,
    /// The compose tool: `docker` with a `compose` command, or a
    /// `docker-compose`. Without one, the first of these on the `PATH`.
    pub program: Option<PathBuf>,
    /// How long a container must have stayed up before it counts: 2 seconds.
    pub settle: Duration,
    /// How long containers may take to be up and healthy: 2 minutes.
    pub patience: Duration,
    /// The wait before the second try; it doubles: 5 seconds.
    pub backoff: Duration,
    /// The longest that one `up` may take, builds and downloads included: 25
    /// minutes.
    pub up_within: Duration,
    /// What a program may take to end once it was asked to: 10 seconds.
    pub grace: Duration,
}

impl Default for ComposeSettings {
    fn default() -> Self {
        Self {
            project: DockerName("decnet".to_owned()),
            network: DockerName("decnet_lan".to_owned()),
            driver: None,
            templates: PathBuf::from("/usr/lib/decnet/templates"),
            artifacts: PathBuf::from("/var/lib/decnet/artifacts"),
            shared: vec![PathBuf::from("/srv/decnet"), PathBuf::from("/usr/lib/decnet")],
            bait: None,
            program: None,
            settle: Duration::from_secs(2),
            patience: Duration::from_secs(120),
            backoff: Duration::from_secs(5),
            up_within: Duration::from_secs(25 * 60),
            grace: Duration::from_secs(10),
        }
    }
}

impl ComposeSettings {
    pub(super) fn driver_for(&self, fleet: &FleetConfig) -> NetworkDriver {
        let asked = if fleet.ipvlan { NetworkDriver::Ipvlan } else { NetworkDriver::Macvlan };
        self.driver.unwrap_or(asked)
    }
}
