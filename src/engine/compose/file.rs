//! The compose file on disk: written beside and renamed, private, and put back
//! if what it says didn't come about.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::lifecycle::Failure;
use crate::private_file::replace;

use super::document::ComposeFile;
use super::failed;

/// Replaces the file. What is on the disk afterwards is read back and is the
/// same document, or the file is as it was.
pub(super) fn write(path: &Path, file: &ComposeFile) -> Result<Before, Failure> {
    let io_failed = |error: io::Error| {
        let text = format!("the compose file {}: {error}; check the folder's permissions", path.display());
        failed(&text)
    };
    let dir = path.parent().unwrap_or(Path::new("."));
    make_dir(dir).map_err(io_failed)?;
    let old = match fs::read(path) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(io_failed(error)),
    };
    let text = file.to_json();
    match ComposeFile::from_json(text.as_bytes()) {
        Ok(read) if read == *file => {}
        _ => {
            let text = "the compose file does not read back as it was meant; nothing was changed";
            return Err(failed(text));
        }
    }
    replace(path, text.as_bytes()).map_err(io_failed)?;
    Ok(Before { path: path.to_owned(), old, is_kept: false })
}

/// What the file says; nothing if there is none, or one that isn't ours.
pub(super) fn read(path: &Path) -> Option<ComposeFile> {
    ComposeFile::from_json(&fs::read(path).ok()?).ok()
}

/// Makes the engine's directory, which only its owner enters.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Removes the file.
pub(super) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!(target: "decnet_lifecycle::engine", error:% = error; "the compose file could not be removed");
    }
}

/// What the file said before. Unless the new one is kept, it comes back, also
/// when the call is dropped.
pub(super) struct Before {
    path: PathBuf,
    old: Option<Vec<u8>>,
    is_kept: bool,
}

impl Before {
    pub(super) const fn keep_new(&mut self) {
        self.is_kept = true;
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let done = match &self.old {
            Some(bytes) => replace(&self.path, bytes),
            None => fs::remove_file(&self.path),
        };
        if let Err(error) = done {
            log::error!(target: "decnet_lifecycle::engine", error:% = error; "the compose file could not be put back");
        }
    }
}
