//! Whose the files are that a master or worker lives by: looked at before it
//! starts, all by one rule.

use std::path::Path;

use decnet_lifecycle::private_file::{NotPrivate, Secrecy, check_private};

use crate::Complaint;
use crate::home::Home;

/// All files of a data directory that are there. A bundle's key is looked at
/// when it is read.
pub fn check(home: &Home) -> Result<(), Complaint> {
    for (path, secrecy) in home.private_files() {
        one(&path, secrecy)?;
    }
    Ok(())
}

/// One file, if it is there.
pub fn one(path: &Path, secrecy: Secrecy) -> Result<(), Complaint> {
    match check_private(path, secrecy) {
        Err(NotPrivate::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        checked => Ok(checked?),
    }
}
