//! The original's INI fleets: read as it reads them, and refused where it
//! would silently do something else than what is written.
//!
//! ```text
//! text ──syntax──▶ sections ──outline──▶ deckies wanted, settings ──build──▶ FleetConfig
//! ```

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::lifecycle::{ServiceName, Timestamp};

use super::{FleetConfig, FleetError, Problem, Problems};

mod addresses;
mod build;
mod general;
mod outline;
mod random;
mod services;
mod settings;
mod syntax;
mod told;
mod value;

/// What an INI fleet leaves to the machine that reads it.
///
/// ```
/// use decnet_lifecycle::{FleetConfig, Timestamp, fleet::IniSettings};
///
/// let text = b"[general]\nnet = 10.66.0.0/24\ngw = 10.66.0.1\ninterface = eth0\n\n\
///              [corp]\narchetype = windows-workstation\namount = 2\n\n[corp.smb]\nshare = x\n";
/// let read = FleetConfig::from_ini(text, &IniSettings::new(Timestamp::from_micros(0), 7))?;
/// let names: Vec<&str> = read.fleet.names().map(|name| name.as_str()).collect();
/// assert_eq!(names, ["corp-01", "corp-02"]);
/// assert_eq!(read.fleet.deckies[1].ip.to_string(), "10.66.0.3");
/// # Ok::<(), decnet_lifecycle::fleet::FleetError>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IniSettings {
    /// The network that this machine is on, for a file that doesn't name one.
    pub host: Option<HostNetwork>,
    /// Addresses that no decky may have: this machine's own, and those of
    /// others.
    pub taken: BTreeSet<Ipv4Addr>,
    /// The services that a file may ask for, and that are drawn from for
    /// deckies that name none: the original's 28.
    pub services: BTreeSet<ServiceName>,
    /// Where the original logs to: `/var/log/decnet/decnet.log`.
    pub log_file: Option<String>,
    /// Minutes between mutations, of the fleet and of deckies that don't say:
    /// 30.
    pub mutate_interval: Option<i64>,
    /// When the file is read.
    pub now: Timestamp,
    /// What host names, and services where none are named, are drawn from. A
    /// decky of the same name gets the same from the same seed.
    pub seed: u64,
}

/// A network that a machine is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostNetwork {
    /// The machine's interface.
    pub interface: String,
    /// The network.
    pub subnet: Ipv4Net,
    /// The way out of it.
    pub gateway: Ipv4Addr,
}

/// An INI fleet that was read.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct IniFleet {
    /// The fleet.
    pub fleet: FleetConfig,
    /// What stands in the file and does nothing.
    pub notes: Vec<Problem>,
}

impl IniSettings {
    /// Settings of a machine of which nothing is known.
    #[must_use]
    pub fn new(now: Timestamp, seed: u64) -> Self {
        Self {
            host: None,
            taken: BTreeSet::new(),
            services: services::ORIGINAL.iter().filter_map(|name| ServiceName::parse(name).ok()).collect(),
            log_file: Some("/var/log/decnet/decnet.log".to_owned()),
            mutate_interval: Some(30),
            now,
            seed,
        }
    }
}

impl FleetConfig {
    /// The largest INI file that is read: 2 MiB.
    pub const MAX_INI_BYTES: usize = 2 << 20;

    /// Reads a fleet in the original's INI form. Everything that is wrong in
    /// it is listed at once, with its line.
    ///
    /// What the original swallows is refused, or done as it was meant:
    ///
    /// | in the file | the original | here |
    /// |---|---|---|
    /// | a section or key that is indented below a key | becomes part of that key's value | refused |
    /// | text after `[name]` | is dropped | refused, unless it is a comment |
    /// | `b64:..` in a longer setting | stays as it is | decoded |
    /// | an address twice, outside the net, the gateway's | is taken | refused |
    /// | names twice, also by `amount`; dots in names | are taken | refused |
    /// | a service twice, `[decky.htpp]` | is taken; is a decky | refused |
    /// | `gw` without `net`, a gateway outside the net | is dropped; is taken | kept; refused |
    /// | `[g-01.ssh]` and `[g.ssh]` | the later one alone | both, the decky's own over the group's |
    /// | a decky's `mutate_interval` | is overruled by 30 | kept |
    /// | `[custom-x]` | known to one process | refused, unless a catalogue defines the service |
    /// | a UTF-8 byte order mark | refused | taken |
    ///
    /// # Errors
    /// [`FleetError`] says what is wrong on which line, and what to write
    /// instead.
    pub fn from_ini(bytes: &[u8], settings: &IniSettings) -> Result<IniFleet, FleetError> {
        if bytes.len() > Self::MAX_INI_BYTES {
            return Err(FleetError::TooLarge { len: bytes.len(), max: Self::MAX_INI_BYTES });
        }
        let mut told = told::Told::default();
        let fleet = syntax::read(bytes, &mut told).and_then(|file| build::fleet(&file, settings, &mut told));
        match (fleet, told.finish()) {
            (Some(fleet), (problems, notes)) if problems.is_empty() => Ok(IniFleet { fleet, notes }),
            (_, (problems, _)) => Err(FleetError::Invalid(Problems::new(problems))),
        }
    }
}
