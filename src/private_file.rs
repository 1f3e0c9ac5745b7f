//! Files that only their owner reads, replaced as a whole or not at all; and the
//! one rule for whose they must be.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// Replaces a file; the new one is 0600 and durable.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(dir)?.sync_all()
}

#[cfg(all(unix, any(feature = "https", feature = "nats")))]
pub use rule::{NotPrivate, Secrecy, check_private};

#[cfg(all(unix, any(feature = "https", feature = "nats")))]
mod rule {
    use std::fs;
    use std::io;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::path::{Path, PathBuf};

    /// What others may do with a file.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Secrecy {
        /// Nothing: it holds a key, a token, or a password.
        Secret,
        /// Read it: it says whom to trust.
        Trusted,
    }

    /// A file that others may read or change, who must not.
    #[derive(Debug, thiserror::Error)]
    #[non_exhaustive]
    pub enum NotPrivate {
        /// It can't be looked at.
        #[error("{}: {error}", path.display())]
        Io {
            /// Which.
            path: PathBuf,
            /// Why.
            error: io::Error,
        },
        /// It is a directory, a pipe, or a device.
        #[error("{} is no regular file", path.display())]
        Kind {
            /// Which.
            path: PathBuf,
        },
        /// It is somebody else's, who may change it at will.
        #[error("{} belongs to user {owner}, neither to who runs this nor to root: chown it", path.display())]
        Owner {
            /// Which.
            path: PathBuf,
            /// Whose it is.
            owner: u32,
        },
        /// Others may read or write it.
        #[error("{} may be {} by others (mode {mode:o}): chmod 600", path.display(), if mode & 0o022 == 0 { "read" } else { "changed" })]
        Mode {
            /// Which.
            path: PathBuf,
            /// Its permissions.
            mode: u32,
        },
        /// Others may put another in its place.
        #[error("{} lies in a directory that anybody may write to (mode {mode:o}): chmod 700 that", path.display())]
        Place {
            /// Which.
            path: PathBuf,
            /// The directory's permissions.
            mode: u32,
        },
    }

    /// Whether a file is as private as it must be: a regular one, of who runs
    /// this or of root, which others may not change, nor read if it is secret,
    /// in a directory that not everybody may write to.
    ///
    /// # Errors
    /// [`NotPrivate`] says what is wrong, and how to mend it.
    ///
    /// ```
    /// use decnet_lifecycle::private_file::{NotPrivate, Secrecy, check_private};
    /// use std::os::unix::fs::PermissionsExt;
    ///
    /// let token = tempfile::NamedTempFile::new()?;
    /// check_private(token.path(), Secrecy::Secret)?;
    /// std::fs::set_permissions(token.path(), std::fs::Permissions::from_mode(0o644))?;
    /// assert!(matches!(check_private(token.path(), Secrecy::Secret), Err(NotPrivate::Mode { mode: 0o644, .. })));
    /// check_private(token.path(), Secrecy::Trusted)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn check_private(path: &Path, secrecy: Secrecy) -> Result<(), NotPrivate> {
        let owned = || path.to_owned();
        let look = |path: &Path| fs::metadata(path).map_err(|error| NotPrivate::Io { path: owned(), error });
        let found = look(path)?;
        if !found.is_file() {
            return Err(NotPrivate::Kind { path: owned() });
        }
        if found.uid() != 0 && found.uid() != rustix::process::geteuid().as_raw() {
            return Err(NotPrivate::Owner { path: owned(), owner: found.uid() });
        }
        let mode = found.permissions().mode() & 0o777;
        let forbidden = match secrecy {
            Secrecy::Secret => 0o077,
            Secrecy::Trusted => 0o022,
        };
        if mode & forbidden != 0 {
            return Err(NotPrivate::Mode { path: owned(), mode });
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mode = look(dir)?.permissions().mode() & 0o7777;
        // In one as `/tmp` is, only owners replace their files.
        let is_sticky = mode & 0o1000 != 0;
        if mode & 0o002 != 0 && !is_sticky {
            return Err(NotPrivate::Place { path: owned(), mode: mode & 0o777 });
        }
        Ok(())
    }
}
