//! The bundle that DECNET's master makes when a worker is enrolled, unpacked.

use std::path::{Path, PathBuf};

use decnet_lifecycle::HostId;

use crate::Complaint;

/// What such a bundle says.
pub struct Enrolment {
    /// Which host this is.
    pub host: HostId,
    /// Where the master takes beats.
    pub master: String,
    /// Where the master expects the agent.
    pub port: u16,
    /// Certificate, key and CA.
    pub identity: PathBuf,
}

impl Enrolment {
    /// Reads a bundle; none of a folder that isn't DECNET's.
    pub fn read(dir: &Path) -> Result<Option<Self>, Complaint> {
        let path = dir.join("etc/decnet/decnet.ini");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Complaint(format!("{}: {error}", path.display()))),
        };
        let wrong =
            |field: &str, what: &str| Complaint(format!("{}: [agent] {field}: {what}", path.display()));
        let needed =
            |field: &str| agent(&text, field).ok_or_else(|| wrong(field, "it is missing; enrol anew"));
        let port = |field: &str, default: u16| match agent(&text, field) {
            None => Ok(default),
            Some(port) => port.parse().map_err(|_| wrong(field, "it is no port")),
        };
        let host =
            HostId::parse(needed("host-uuid")?).map_err(|error| wrong("host-uuid", &error.to_string()))?;
        let (name, beats) = (needed("master-host")?, port("swarmctl-port", 8_770)?);
        let master = if name.contains(':') { format!("[{name}]:{beats}") } else { format!("{name}:{beats}") };
        let identity = dir.join("home/.decnet/agent");
        Ok(Some(Self { host, master, port: port("agent-port", 8_765)?, identity }))
    }
}

/// A field of the section `agent`.
fn agent<'t>(text: &'t str, field: &str) -> Option<&'t str> {
    let mut section = "";
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim();
        } else if let Some((key, value)) = line.split_once('=')
            && section == "agent"
            && key.trim() == field
        {
            return Some(value.trim()).filter(|value| !value.is_empty());
        }
    }
    None
}
