//! Where events go: DECNET's own bus, or NATS; and who one is to NATS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use decnet_lifecycle::bus::nats::{NatsBus, NatsSettings};
use decnet_lifecycle::bus::{Bus, unix};

use crate::Complaint;

/// Events that wait for the bus at most.
const CAPACITY: usize = 4_096;

/// The bus that `--bus` names: a URL of NATS, else the path of a socket.
pub fn bus(named: Option<PathBuf>) -> Result<Arc<dyn Bus>, Complaint> {
    if let Some(url) = named.as_deref().and_then(Path::to_str)
        && ["nats://", "tls://"].iter().any(|scheme| url.starts_with(scheme))
    {
        return Ok(Arc::new(NatsBus::new(nats(url)?, CAPACITY)));
    }
    let socket = named.unwrap_or_else(unix::default_socket);
    Ok(Arc::new(unix::UnixBus::new(socket, "decnet-lifecycle", CAPACITY)))
}

/// Reads a URL of NATS. What is secret may stand in files and in the
/// environment, by the names that NATS' own tools have: there other users of
/// the machine don't see it.
pub fn nats(url: &str) -> Result<NatsSettings, Complaint> {
    let set = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let mut settings: NatsSettings = url.parse()?;
    if let Some(ca) = set("NATS_CA") {
        settings = settings.ca(Path::new(&ca))?;
    }
    if let Some(password) = set("NATS_PASSWORD") {
        settings = settings.password(&password);
    }
    if let Some(token) = set("NATS_TOKEN") {
        settings = settings.token(&token);
    }
    if let Some(creds) = set("NATS_CREDS") {
        settings = settings.creds(Path::new(&creds))?;
    }
    Ok(settings)
}
