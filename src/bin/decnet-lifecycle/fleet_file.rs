//! Reads a fleet file: JSON as the original's, the same in TOML, or the
//! original's INI.

use std::io::Read as _;
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

/// How a fleet is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Toml,
    Ini,
}

/// Reads a fleet from a regular file, a pipe, or from standard input (`-`). Its
/// form is that of the ending of its name, else JSON; on standard input, the
/// one that it looks like. What it says in vain is told.
pub fn read_fleet(home: &Home, path: &Path, compose: &Compose) -> Result<FleetConfig, Complaint> {
    let is_stdin = path == Path::new("-");
    let shown = if is_stdin { "on standard input".to_owned() } else { format!("file {}", path.display()) };
    let complain = |error: &dyn std::fmt::Display| Complaint(format!("fleet {shown}: {error}"));
    let most = FleetConfig::MAX_BYTES.max(FleetConfig::MAX_INI_BYTES);
    let bytes = match is_stdin {
        true => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().take(most as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
        }
        false => read_at_most(path, most),
    };
    let bytes = bytes.map_err(|error| complain(&error))?;
    let form = if is_stdin { looks_like(&bytes) } else { form_of(path) };
    match form {
        Form::Json => FleetConfig::from_json(&bytes).map_err(|error| {
            let is_other =
                matches!(error, FleetError::Syntax { .. }) && bytes.trim_ascii_start().starts_with(b"[");
            let hint = if is_other { "; a fleet in INI form has a name that ends in .ini" } else { "" };
            complain(&format_args!("{error}{hint}"))
        }),
        Form::Toml => from_toml(&bytes).map_err(|Complaint(what)| complain(&what)),
        Form::Ini => {
            let mut settings = IniSettings::new(SystemClock::new().now(), seed());
            settings.host = host_network::default();
            settings.taken = host_network::own_addresses();
            settings.services.extend(engines::catalogue(home, compose)?.services().cloned());
            let read = FleetConfig::from_ini(&bytes, &settings).map_err(|error| complain(&error))?;
            let named = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
            for note in &read.notes {
                crate::output::aside(&format!("note: {named}: {note}"));
            }
            Ok(read.fleet)
        }
    }
}

fn form_of(path: &Path) -> Form {
    let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
    match ending.as_ref().and_then(|ending| ending.to_str()) {
        Some("ini") => Form::Ini,
        Some("toml") => Form::Toml,
        _ => Form::Json,
    }
}

/// What a text without a name is: TOML has its deckies in `[[deckies]]`, INI
/// has sections or comments first.
fn looks_like(bytes: &[u8]) -> Form {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().map(str::trim);
    if text.trim_start().starts_with('{') {
        return Form::Json;
    }
    if lines.clone().any(|line| line.starts_with("[[deckies]]")) {
        return Form::Toml;
    }
    match lines.find(|line| !line.is_empty()) {
        Some(first) if first.starts_with(['[', '#', ';']) => Form::Ini,
        _ => Form::Json,
    }
}

/// The fields of the JSON form, under the same names.
fn from_toml(bytes: &[u8]) -> Result<FleetConfig, Complaint> {
    let (len, max) = (bytes.len(), FleetConfig::MAX_BYTES);
    if len > max {
        return Err(FleetError::TooLarge { len, max }.into());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Complaint("it is not UTF-8".into()))?;
    let value: serde_json::Value = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Complaint(format!("line {line} is not TOML: {}", error.message()))
    })?;
    Ok(FleetConfig::try_from(value)?)
}

/// The same at each reading on this machine, so that a second deploy changes
/// nothing; another on other machines, so that host names don't give DECNET
/// away.
pub fn seed() -> u64 {
    let machine =
        std::fs::read("/etc/machine-id").or_else(|_| std::fs::read("/etc/hostname")).unwrap_or_default();
    let digest = Sha256::new().chain_update(b"decnet-lifecycle ini").chain_update(machine).finalize();
    digest.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}
