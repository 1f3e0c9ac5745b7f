//! Files that are read bounded, and written as a whole.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::Complaint;

/// Reads a file, and of one that is too large one byte too many.
pub fn read_at_most(path: &Path, bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut read = Vec::new();
    fs::File::open(path)?.take(bytes as u64 + 1).read_to_end(&mut read)?;
    Ok(read)
}

/// Replaces a file as a whole; the new one is 0600.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Complaint> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

/// Writes a file that must not be there yet.
pub fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Complaint> {
    let complain = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Complaint(format!(
            "{} is there already, and nothing is overwritten; move it away first",
            path.display()
        )),
        _ => Complaint(format!("{}: {error}", path.display())),
    };
    let file = fs::OpenOptions::new().create_new(true).write(true).mode(mode).open(path);
    let mut file = file.map_err(complain)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(complain)
}
