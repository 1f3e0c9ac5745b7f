//! Subscribes to DECNET's bus.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use async_io::Async;
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use serde::Deserialize;
use serde_json::Value;

use super::frame::{Frame, FrameError, Verb};

/// Hears what others publish on DECNET's bus. A slow one loses its oldest
/// events: the server keeps 1,024 of them.
#[derive(Debug)]
pub struct UnixTap {
    path: PathBuf,
    stream: Async<UnixStream>,
    received: Vec<u8>,
}

/// An event, as a subscriber gets it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Heard {
    /// The server's id of it.
    #[serde(default)]
    pub id: String,
    /// The topic, such as `decky.decky-01.lifecycle`.
    pub topic: String,
    /// The kind of event, such as `lifecycle`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When the server took it, in seconds since the Unix epoch.
    #[serde(default)]
    pub ts: f64,
    /// What it says.
    pub payload: Value,
}

/// The bus can't be heard, or not any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// The socket can't be reached or read.
    #[error("{doing} the bus at {}: {error}; is it running, and may you use its socket?", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which socket.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
    /// The server said something that isn't a frame.
    #[error("the bus can't be understood: {0}")]
    Frame(FrameError),
    /// The server closed the connection.
    #[error("the bus closed the connection; is the pattern well-formed?")]
    Closed,
}

impl UnixTap {
    /// Connects, and asks for the topics that match a pattern: tokens split by
    /// `.`, where `*` is any one token and `>` is all the rest.
    ///
    /// # Errors
    /// [`TapError`]: no server, or a pattern that fits in no frame.
    pub async fn connect(path: impl AsRef<Path>, name: &str, pattern: &str) -> Result<Self, TapError> {
        let path = path.as_ref();
        let failed = |doing| move |error| TapError::Io { doing, path: path.to_owned(), error };
        let hello = Frame::new(Verb::Hello, name, Vec::new())?;
        let subscribe = Frame::new(Verb::Sub, pattern, Vec::new())?;
        let mut stream = Async::<UnixStream>::connect(path).await.map_err(failed("connecting to"))?;
        let both = [hello.to_bytes(), subscribe.to_bytes()].concat();
        stream.write_all(&both).await.map_err(failed("subscribing on"))?;
        Ok(Self { path: path.to_owned(), stream, received: Vec::new() })
    }

    /// The next event. What isn't one is passed over. Cancel-safe.
    ///
    /// # Errors
    /// [`TapError`]: the connection is of no more use.
    pub async fn next(&mut self) -> Result<Heard, TapError> {
        let mut buffer = vec![0; 16 << 10];
        loop {
            while let Some(frame) = Frame::take(&mut self.received)? {
                if frame.verb() == Verb::Bye {
                    return Err(TapError::Closed);
                }
                if let (Verb::Evt, Ok(heard)) = (frame.verb(), serde_json::from_slice(frame.body())) {
                    return Ok(heard);
                }
            }
            let read = self.stream.read(&mut buffer).await;
            let read = match read {
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
                Err(error) => {
                    return Err(TapError::Io { doing: "reading", path: self.path.clone(), error });
                }
                Ok(read) => read,
            };
            match buffer.get(..read).unwrap_or_default() {
                [] => return Err(TapError::Closed),
                bytes => self.received.extend_from_slice(bytes),
            }
        }
    }
}

impl From<FrameError> for TapError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}
