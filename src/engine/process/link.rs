//! What a decoy says to the engine that starts it, over its stdin, which is one
//! end of a socket: that it is a decoy, and that it listens. A program that is
//! no decoy prints whatever it likes, and is not taken for one.

use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use async_io::Async;
use futures_lite::AsyncReadExt as _;

/// Set in the environment of every decoy. Where it is set, no engine starts
/// any: a program that doesn't answer `decoy` would start itself without end.
const GUARD: &str = "DECNET_LIFECYCLE_DECOY";
const HERE: u8 = b'h';
const LISTENS: u8 = b'l';

/// The variable and the value that mark a decoy's environment.
pub(super) const MARK: (&str, &str) = (GUARD, "1");

/// Whether this process was started as a decoy.
pub(super) fn is_decoy() -> bool {
    std::env::var_os(GUARD).is_some()
}

/// The decoy's end.
pub(super) struct Upward(Option<UnixStream>);

impl Upward {
    /// The end that this process was given; one that is no decoy of an engine
    /// has none.
    pub(super) fn of_this_process() -> Self {
        let inherited = || io::stdin().as_fd().try_clone_to_owned().ok().map(UnixStream::from);
        Self(if is_decoy() { inherited() } else { None })
    }

    pub(super) fn here(&mut self) {
        self.say(HERE);
    }

    pub(super) fn listens(&mut self) {
        self.say(LISTENS);
    }

    /// An engine that has gone meanwhile finds the decoy by its files.
    fn say(&mut self, word: u8) {
        if let Some(stream) = &mut self.0 {
            let _ = stream.write_all(&[word]);
        }
    }
}

/// The engine's end.
#[derive(Debug)]
pub(super) struct Link {
    stream: Async<UnixStream>,
    is_decoy: bool,
}

impl Link {
    /// A link, and what the decoy gets as its stdin.
    pub(super) fn new() -> io::Result<(Self, Stdio)> {
        let (ours, theirs) = UnixStream::pair()?;
        // Who reads its stdin finds the end of it, as in `/dev/null`.
        ours.shutdown(Shutdown::Write)?;
        Ok((Self { stream: Async::new(ours)?, is_decoy: false }, Stdio::from(OwnedFd::from(theirs))))
    }

    /// Whether the program has said that it is a decoy.
    pub(super) const fn is_decoy(&self) -> bool {
        self.is_decoy
    }

    /// Waits until the decoy listens: false if it hung up before. Cancel-safe.
    pub(super) async fn listens(&mut self) -> bool {
        let mut word = [0];
        loop {
            match self.stream.read(&mut word).await {
                Ok(1) if word == [HERE] => self.is_decoy = true,
                Ok(1) if word == [LISTENS] => return true,
                Ok(1) => {}
                _ => return false,
            }
        }
    }
}
