//! Sockets that need no runtime, in the form that the client wants.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::Async;
use futures_lite::io::{AsyncRead as _, AsyncWrite as _};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection that nobody encrypts yet.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(Async<TcpStream>),
    Unix(Async<UnixStream>),
}

/// After so long without a word the kernel asks whether the other is there.
const QUIET: Duration = Duration::from_secs(30);
const ASKS: u32 = 3;
const BETWEEN: Duration = Duration::from_secs(10);

impl Socket {
    pub(super) async fn tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = Async::<TcpStream>::connect(address).await?;
        let socket = stream.get_ref();
        socket.set_nodelay(true)?;
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, QUIET)?;
        sockopt::set_tcp_keepintvl(socket, BETWEEN)?;
        sockopt::set_tcp_keepcnt(socket, ASKS)?;
        Ok(Self::Tcp(stream))
    }

    pub(super) async fn unix(path: &Path) -> io::Result<Self> {
        Ok(Self::Unix(Async::<UnixStream>::connect(path).await?))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let unfilled = buffer.initialize_unfilled();
        let read = match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, unfilled),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, unfilled),
        };
        read.map_ok(|count| buffer.advance(count))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_close(cx),
            Self::Unix(stream) => Pin::new(stream).poll_close(cx),
        }
    }
}
