//! What a process engine is set to, and what it shares between its calls.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_lock::Semaphore;

use crate::fleet::{DeckyConfig, nearest};
use crate::lifecycle::{Failure, FailureKind, ServiceName};

use super::banners;

/// How long a decoy may take to listen, and to stop.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
pub(super) const STEP: Duration = Duration::from_millis(25);
/// Decoys that are started, and stopped, at the same time.
const STARTS: usize = 16;
const STOPS: usize = 64;

#[derive(Debug)]
pub(super) struct Setup {
    pub(super) settings: Settings,
    /// Turns to start decoys, and to stop them.
    pub(super) starts: Semaphore,
    pub(super) stops: Semaphore,
}

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) dir: PathBuf,
    pub(super) program: Result<PathBuf, String>,
    pub(super) leading: Vec<OsString>,
    pub(super) bind: IpAddr,
    /// The caller's own services, and what each says first.
    pub(super) own: BTreeMap<ServiceName, Vec<u8>>,
}

impl Setup {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, starts: Semaphore::new(STARTS), stops: Semaphore::new(STOPS) }
    }

    /// What to say of a service that nobody has defined.
    pub(super) fn unknown(&self, service: &ServiceName) -> Option<(String, String)> {
        let mut known: Vec<&str> = banners::names().collect();
        known.extend(self.settings.own.keys().map(ServiceName::as_str));
        if known.contains(&service.as_str()) {
            return None;
        }
        let hint = match nearest(service.as_str(), &known) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("the process engine has {}", known.join(", ")),
        };
        Some((format!("nobody has defined the service {service}"), hint))
    }

    pub(super) fn failed(&self, error: &io::Error) -> Failure {
        let dir = self.settings.dir.display();
        engine_failure(format!("the engine's directory {dir}: {error}; check its permissions"))
    }
}

/// The port that the fleet gives a service; 0 if it gives none.
pub(super) fn port(config: &DeckyConfig, service: &ServiceName) -> Result<u16, Failure> {
    let settings: BTreeMap<_, _> =
        config.service_config.iter().map(|(name, set)| (name.as_str(), set)).collect();
    match settings.get(service.as_str()).and_then(|settings| settings.get("port")) {
        None => Ok(0),
        Some(port) => {
            port.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).ok_or_else(
                || {
                    engine_failure(format!(
                        "{}: service_config.{service}.port is no port; write 1 to 65535",
                        config.name
                    ))
                },
            )
        }
    }
}

pub(super) fn engine_failure(message: impl AsRef<str>) -> Failure {
    Failure::new(FailureKind::Engine, message.as_ref())
}
