//! Reads a fleet file, in either of the original's forms.

use std::path::Path;

use decnet_lifecycle::{
    FleetConfig,
    clock::{Clock as _, SystemClock},
    fleet::{FleetError, IniSettings},
};
use sha2::{Digest as _, Sha256};

use crate::Complaint;
use crate::args::Compose;
use crate::files::read_at_most;
use crate::home::Home;
use crate::{engines, host_network};

/// Reads a fleet from a regular file or a pipe: INI if the name ends in
/// `.ini`, else JSON. What it says in vain is told.
pub fn read_fleet(home: &Home, path: &Path, compose: &Compose) -> Result<FleetConfig, Complaint> {
    let complain =
        |error: &dyn std::fmt::Display| Complaint(format!("fleet file {}: {error}", path.display()));
    let is_ini = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("ini"));
    if !is_ini {
        let bytes = read_at_most(path, FleetConfig::MAX_BYTES).map_err(|error| complain(&error))?;
        return FleetConfig::from_json(&bytes).map_err(|error| {
            let is_other =
                matches!(error, FleetError::Syntax { .. }) && bytes.trim_ascii_start().starts_with(b"[");
            let hint = if is_other { "; a fleet in INI form has a name that ends in .ini" } else { "" };
            complain(&format_args!("{error}{hint}"))
        });
    }
    let bytes = read_at_most(path, FleetConfig::MAX_INI_BYTES).map_err(|error| complain(&error))?;
    let mut settings = IniSettings::new(SystemClock::new().now(), seed());
    settings.host = host_network::default();
    settings.taken = host_network::own_addresses();
    settings.services.extend(engines::catalogue(home, compose)?.services().cloned());
    let read = FleetConfig::from_ini(&bytes, &settings).map_err(|error| complain(&error))?;
    for note in &read.notes {
        crate::output::aside(&format!("note: {}: {note}", path.display()));
    }
    Ok(read.fleet)
}

/// The same at each reading on this machine, so that a second deploy changes
/// nothing; another on other machines, so that host names don't give DECNET
/// away.
fn seed() -> u64 {
    let machine =
        std::fs::read("/etc/machine-id").or_else(|_| std::fs::read("/etc/hostname")).unwrap_or_default();
    let digest = Sha256::new().chain_update(b"decnet-lifecycle ini").chain_update(machine).finalize();
    digest.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}
