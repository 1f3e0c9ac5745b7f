//! The arguments of a decoy process.

use std::ffi::OsString;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use super::decoy::{DecoyError, DecoyOptions, run_decoy};
use super::limits::DecoyLimits;
use crate::lifecycle::{DeckyName, ServiceName};

const USAGE: &str = "decoy --service NAME --listen IP:PORT --decky NAME --hostname NAME --home PATH";

/// Runs a decoy as a whole process: reads the arguments that the engine gives
/// (those behind the word `decoy`), runs until told to stop, and says on
/// standard error why it couldn't. A program hosts decoys in two lines:
///
/// ```no_run
/// use std::process::ExitCode;
///
/// fn main() -> ExitCode {
///     let mut args = std::env::args_os().skip(1);
///     if args.next().is_some_and(|word| word == "decoy") {
///         return decnet_lifecycle::process::decoy_main(args);
///     }
///     // What the program does otherwise.
///     ExitCode::SUCCESS
/// }
/// ```
pub fn decoy_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match DecoyOptions::from_args(args).and_then(run_decoy) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("{err}");
            ExitCode::FAILURE
        }
    }
}

impl DecoyOptions {
    /// Reads `--service NAME --listen IP:PORT --decky NAME --hostname NAME
    /// --home PATH`, in any order, each exactly once. The limits are the
    /// usual ones.
    ///
    /// # Errors
    /// [`DecoyError::Arguments`] says which one is missing, twice there,
    /// unknown or wrong.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, DecoyError> {
        let mut given = Given::default();
        let mut args = args.into_iter();
        while let Some(flag) = args.next() {
            let Some(slot) = flag.to_str().and_then(|flag| given.slot(flag)) else {
                return Err(wrong(format!("unknown argument {flag:?}")));
            };
            let Some(value) = args.next() else {
                return Err(wrong(format!("{flag:?} needs a value")));
            };
            if slot.replace(value).is_some() {
                return Err(wrong(format!("{flag:?} is given twice")));
            }
        }
        Ok(Self {
            decky: parse::<DeckyName>("--decky", given.decky)?,
            service: parse::<ServiceName>("--service", given.service)?,
            listen: parse::<SocketAddr>("--listen", given.listen)?,
            hostname: parse::<String>("--hostname", given.hostname)?,
            home: PathBuf::from(given.home.ok_or_else(|| missing("--home"))?),
            limits: DecoyLimits::default(),
        })
    }
}

#[derive(Default)]
struct Given {
    decky: Option<OsString>,
    service: Option<OsString>,
    listen: Option<OsString>,
    hostname: Option<OsString>,
    home: Option<OsString>,
}

impl Given {
    fn slot(&mut self, flag: &str) -> Option<&mut Option<OsString>> {
        match flag {
            "--decky" => Some(&mut self.decky),
            "--service" => Some(&mut self.service),
            "--listen" => Some(&mut self.listen),
            "--hostname" => Some(&mut self.hostname),
            "--home" => Some(&mut self.home),
            _ => None,
        }
    }
}

fn parse<T: FromStr<Err: Display>>(flag: &str, value: Option<OsString>) -> Result<T, DecoyError> {
    let value = value.ok_or_else(|| missing(flag))?;
    let text = value.to_str().ok_or_else(|| wrong(format!("{flag} {value:?} is not UTF-8")))?;
    text.parse().map_err(|err| wrong(format!("{flag} {text:?}: {err}")))
}

fn missing(flag: &str) -> DecoyError {
    wrong(format!("{flag} is missing"))
}

const fn wrong(reason: String) -> DecoyError {
    DecoyError::Arguments { reason, usage: USAGE }
}
