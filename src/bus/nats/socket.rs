//! A connection's bytes, in the clear or encrypted.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::settings::Server;

/// A connection to a server.
#[derive(Debug)]
pub(super) enum Socket {
    Clear(TcpStream),
    Encrypted(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// How long a read waits.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wait {
    /// Not at all.
    No,
    /// Until something comes, at most until then.
    Until(Instant),
}

impl Socket {
    /// Connects to one of the host's addresses.
    pub(super) fn connect(server: &Server, patience: Duration) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
        for address in (server.host.as_str(), server.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, patience) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_write_timeout(Some(patience))?;
                    return Ok(Self::Clear(stream));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn stream(&self) -> &TcpStream {
        match self {
            Self::Clear(stream) => stream,
            Self::Encrypted(tls) => &tls.sock,
        }
    }

    /// Where it leads.
    pub(super) fn peer(&self) -> io::Result<IpAddr> {
        Ok(self.stream().peer_addr()?.ip().to_canonical())
    }

    /// Shakes hands, if that hasn't been done.
    pub(super) fn encrypted(self, name: &str, config: Arc<ClientConfig>, end: Instant) -> io::Result<Self> {
        let Self::Clear(mut stream) = self else { return Ok(self) };
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let mut client = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while client.is_handshaking() {
            stream.set_read_timeout(Some(left(end)?))?;
            client.complete_io(&mut stream).map_err(late)?;
        }
        Ok(Self::Encrypted(Box::new(StreamOwned::new(client, stream))))
    }

    /// Reads what there is; none if there is nothing within the wait.
    ///
    /// # Errors
    /// The other side has closed, or can't be heard.
    pub(super) fn read(&mut self, buffer: &mut [u8], wait: Wait) -> io::Result<Option<usize>> {
        match wait {
            Wait::No => self.stream().set_nonblocking(true)?,
            Wait::Until(end) => match left(end) {
                Ok(left) => self.stream().set_read_timeout(Some(left))?,
                Err(_) => return Ok(None),
            },
        }
        let read = match self {
            Self::Clear(stream) => stream.read(buffer),
            Self::Encrypted(tls) => tls.read(buffer),
        };
        self.stream().set_nonblocking(false)?;
        match read {
            Ok(0) => Err(io::ErrorKind::ConnectionAborted.into()),
            Ok(read) => Ok(Some(read)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Ok(None),
                // Closed without a word of it: no more than closed.
                io::ErrorKind::UnexpectedEof => Err(io::ErrorKind::ConnectionAborted.into()),
                _ => Err(error),
            },
        }
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Clear(stream) => stream.write_all(bytes),
            Self::Encrypted(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        }
        .map_err(late)
    }
}

/// How long there still is.
fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A system says of a time that is up that something would block.
fn late(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}
