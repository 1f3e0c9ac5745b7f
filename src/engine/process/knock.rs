//! How an engine calls on a decoy: by its port like any visitor, but with the
//! decoy's token for a first line, by which the decoy knows whose call it is
//! and keeps it out of its log.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};

use async_io::Async;
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};

/// What a decoy answers last, after whatever it greets with.
pub(super) const ANSWER: &[u8] = b"decoy\n";
/// More than any greeting.
const MAX_BYTES: u64 = 64 << 10;

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// The decoy itself answered.
    Itself,
    /// Somebody hung up without a word: as a decoy does that has all the
    /// visitors it takes.
    Nothing,
    /// Something else was said.
    Other,
}

/// The line that is called with.
pub(super) fn line(token: &str) -> Vec<u8> {
    format!("{token}\n").into_bytes()
}

/// Calls on a decoy and hears it out. Cancel-safe; waits for ever on one that
/// neither speaks nor hangs up.
pub(super) async fn call(addr: SocketAddr, token: &str) -> io::Result<Heard> {
    let mut stream = Async::<TcpStream>::connect(within_reach(addr)).await?;
    let mut said = Vec::new();
    // Who hangs up at once may do so before it is spoken to.
    let _ = stream.write_all(&line(token)).await;
    let _ = (&mut stream).take(MAX_BYTES).read_to_end(&mut said).await;
    Ok(match said.as_slice() {
        [] => Heard::Nothing,
        said if said.ends_with(ANSWER) => Heard::Itself,
        _ => Heard::Other,
    })
}

/// Wakes a decoy, so that it finds that it is no longer wanted, and waits until
/// it has hung up. Cancel-safe.
pub(super) async fn wake(addr: SocketAddr) {
    if let Ok(mut stream) = Async::<TcpStream>::connect(within_reach(addr)).await {
        let _ = (&mut stream).take(MAX_BYTES).read_to_end(&mut Vec::new()).await;
    }
}

/// Where a listener on all addresses is reached from its own machine.
fn within_reach(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}
