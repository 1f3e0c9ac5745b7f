//! The decoy process: listens, hands visitors on, and stops when told.

use std::io;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock::{Clock as _, SystemClock};

use super::files::{Decoy, Files};
use super::link::Upward;
use super::options::{DecoyError, DecoyOptions};
use super::visits::Visits;

/// How often a decoy that nobody calls on looks whether it is still wanted: for
/// a directory that was removed, or a master killed before it could call. Less
/// than the engine's patience.
const LOOK: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// Plays a decoy to its end, if this process was started as one (its first
/// argument is `decoy`), and gives the exit code for `main`. A program with a
/// [`ProcessEngine`](super::ProcessEngine) calls it first thing in `main`.
///
/// ```
/// use std::process::ExitCode;
///
/// fn main() -> ExitCode {
///     if let Some(end) = decnet_lifecycle::engine::process::decoy_main() {
///         return end;
///     }
///     // What the program is for.
///     ExitCode::SUCCESS
/// }
/// ```
#[must_use]
pub fn decoy_main() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != "decoy" {
        return None;
    }
    Upward::of_this_process().here();
    Some(match DecoyOptions::from_args(words).and_then(|options| run_decoy(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    })
}

/// Plays one service until the engine no longer wants it: until its `.run`
/// file is gone or holds another token. Blocks. [`decoy_main`] calls it; call
/// it yourself if the word for it isn't `decoy`.
///
/// # Errors
/// [`DecoyError`] if it can't begin.
pub fn run_decoy(options: &DecoyOptions) -> Result<(), DecoyError> {
    let mut engine = Upward::of_this_process();
    engine.here();
    let files = Files::of_base(&options.home);
    let failed = |error| DecoyError::Files { path: options.home.clone(), error };
    let token = files.token().map_err(failed)?.ok_or_else(|| DecoyError::Unwanted(options.home.clone()))?;
    let lock = files.lock().map_err(failed)?.ok_or_else(|| DecoyError::Twice(options.home.clone()))?;
    let cannot = |error| DecoyError::Listen { addr: options.listen, error };
    let listener = TcpListener::bind(options.listen).map_err(cannot)?;
    listener.set_nonblocking(true).map_err(cannot)?;
    let decoy = Decoy {
        decky: options.decky.clone(),
        service: options.service.clone(),
        addr: listener.local_addr().map_err(cannot)?,
        pid: std::process::id(),
        since: SystemClock::new().now(),
        token: token.clone(),
    };
    files.set_ready(&decoy).map_err(failed)?;
    engine.listens();
    drop(engine);
    let visits = Arc::new(Visits::new(options, decoy, files.clone()));
    loop {
        if poll(&mut [PollFd::new(&listener, PollFlags::IN)], Some(&LOOK)).is_err() {
            thread::sleep(Duration::from_millis(100));
        }
        if !matches!(files.token(), Ok(Some(now)) if now == token) {
            break;
        }
        match listener.accept() {
            Ok((stream, peer)) => Visits::take(&visits, stream, peer),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Out of descriptors, or a client that was gone again: go on.
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
    // Who called to say so is hung up on last, and then finds nothing here.
    let caller = listener.accept();
    drop(listener);
    drop(lock);
    drop(caller);
    Ok(())
}
