//! One call at a time on a compose project, across processes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Clock;

const STEP: Duration = Duration::from_millis(100);

/// The lock on a project. It goes with its holder, and with the holder's
/// programs: each holds the lock file as its (empty) input, so that a program
/// which outlives a killed master still keeps others out.
pub(super) struct ProjectLock {
    file: File,
    /// Who holds it, for messages.
    note: PathBuf,
}

impl ProjectLock {
    /// Waits for the lock; `waiting` hears once who has it.
    pub(super) async fn take(path: &Path, clock: &dyn Clock, waiting: impl FnOnce(&str)) -> io::Result<Self> {
        let file =
            OpenOptions::new().create(true).truncate(true).write(true).read(true).mode(0o600).open(path)?;
        let note = path.with_extension("holder");
        let mut waiting = Some(waiting);
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
            if let Some(waiting) = waiting.take() {
                waiting(&holder(&note));
            }
            clock.sleep(STEP).await;
        }
        fs::write(&note, format!("process {}", std::process::id()))?;
        Ok(Self { file, note })
    }

    /// The lock as a program's input.
    pub(super) fn held(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

impl Drop for ProjectLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.note);
    }
}

fn holder(note: &Path) -> String {
    let mut text = String::new();
    let read = File::open(note).and_then(|file| file.take(64).read_to_string(&mut text));
    match read {
        Ok(1..) => format!("{text}, or a program that it started"),
        _ => "another call".to_owned(),
    }
}
