//! `serve.json`: where a running master is, true for as long as the file is locked.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Complaint;

/// The longest file that is read.
const MAX_BYTES: u64 = 4_096;

/// Where a running master is, for the commands beside it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Running {
    pub pid: u32,
    pub api: SocketAddr,
    pub swarm: Option<SocketAddr>,
}

/// The file that says so, locked for as long as it is true: one that a killed
/// master has left is not, whoever listens at its address now.
pub struct Sign {
    path: PathBuf,
    _locked: File,
}

impl Running {
    pub fn put_up(&self, path: &Path) -> Result<Sign, Complaint> {
        let complain = |error: std::io::Error| Complaint(format!("{}: {error}", path.display()));
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
        let mut file = file.map_err(complain)?;
        // Who looks at it just now lets go at once.
        file.lock().map_err(complain)?;
        file.set_len(0).map_err(complain)?;
        file.write_all(&serde_json::to_vec(self)?).map_err(complain)?;
        Ok(Sign { path: path.to_owned(), _locked: file })
    }

    /// What the file says, if it is true.
    pub fn find(path: &Path) -> Result<Option<Self>, Complaint> {
        let complain = |error: std::io::Error| Complaint(format!("{}: {error}", path.display()));
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(complain(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(complain(error)),
        }
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(complain)?;
        // One that is only being written says nothing yet.
        Ok(serde_json::from_str(&text).ok())
    }
}

impl Drop for Sign {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
