//! DECNET's own bus: a UNIX socket, a small framing, no acknowledgements.

mod frame;
mod publisher;
mod tap;

pub use frame::{Frame, FrameError, Verb};
pub use publisher::UnixBus;
pub use tap::{Heard, TapError, UnixTap};

use std::path::PathBuf;

/// Where the bus listens: `$DECNET_BUS_SOCKET`, else the first of
/// `/run/decnet/bus.sock` and `~/.decnet/bus.sock` that is there, else the
/// former.
#[must_use]
pub fn default_socket() -> PathBuf {
    if let Some(path) = std::env::var_os("DECNET_BUS_SOCKET").filter(|path| !path.is_empty()) {
        return PathBuf::from(path);
    }
    let system = PathBuf::from("/run/decnet/bus.sock");
    let own = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".decnet/bus.sock"));
    match own {
        Some(own) if !system.exists() && own.exists() => own,
        _ => system,
    }
}
