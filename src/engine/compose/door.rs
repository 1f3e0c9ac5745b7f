//! Whether services answer at their TCP ports.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use ipnet::IpNet;

use super::containers::Detail;
use super::settings::NetworkDriver;

/// One try; a port nobody listens at refuses at once.
const TRY: Duration = Duration::from_secs(1);
/// The state of a socket that listens, in the kernel's table.
const LISTENS: &str = "0A";

/// A decky as its ports are tried.
#[derive(Debug, Clone)]
pub(super) struct House {
    /// The base container's id, and the first process of it.
    base: String,
    pid: i32,
    driver: NetworkDriver,
    subnet: IpNet,
}

impl House {
    pub(super) fn new(base: &Detail, driver: NetworkDriver, subnet: IpNet) -> Self {
        Self { base: base.id.clone(), pid: base.pid, driver, subnet }
    }

    /// The addresses of these that nothing answers at.
    ///
    /// On a bridge of this machine a connection is made from the machine
    /// itself, as a visitor's would be. Where the machine can't reach its own
    /// deckies (macvlan, ipvlan), it is made inside of the decky's network
    /// namespace, to the decky's own address; that takes root. Who isn't root
    /// looks at the kernel's list of listening sockets instead. Where the
    /// containers run on another machine, none of these can tell, and every
    /// port counts as answering.
    ///
    /// A connection is closed as soon as it stands and nothing is sent; a
    /// service sees one visitor, from the gateway or from its own address.
    pub(super) async fn closed(self, doors: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let (sender, receiver) = async_channel::bounded(1);
        // A thread of its own: one that has entered a namespace is not used again.
        let knocking = doors.clone();
        let knock = move || {
            let _ = sender.try_send(self.knock(knocking));
        };
        match std::thread::Builder::new().name("decnet-door".to_owned()).spawn(knock) {
            Ok(_) => receiver.recv().await.unwrap_or(doors),
            Err(_) => doors,
        }
    }

    fn knock(&self, doors: Vec<SocketAddr>) -> Vec<SocketAddr> {
        if !self.is_here() {
            return Vec::new();
        }
        let is_near =
            doors.first().is_some_and(|door| self.driver == NetworkDriver::Bridge && self.is_near(door));
        if is_near || self.enter().is_ok() {
            return doors.into_iter().filter(|door| TcpStream::connect_timeout(door, TRY).is_err()).collect();
        }
        let Some(listening) = self.listening() else { return Vec::new() };
        doors.into_iter().filter(|door| !listening.contains(&door.port())).collect()
    }

    /// Whether the process of that number is the base, and not another
    /// machine's.
    fn is_here(&self) -> bool {
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).unwrap_or_default();
        !self.base.is_empty() && groups.contains(&self.base)
    }

    /// Whether this machine is on the deckies' network itself.
    fn is_near(&self, door: &SocketAddr) -> bool {
        let any: IpAddr = match door {
            SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        // Nothing is sent: the kernel only chooses a way.
        let from = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect(door)?;
            socket.local_addr()
        });
        from.is_ok_and(|from| self.subnet.contains(&from.ip()))
    }

    /// Moves this thread into the decky's network namespace.
    #[cfg(target_os = "linux")]
    fn enter(&self) -> io::Result<()> {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        use std::os::fd::AsFd as _;

        let namespace = fs::File::open(format!("/proc/{}/ns/net", self.pid))?;
        Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    #[cfg(not(target_os = "linux"))]
    fn enter(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The ports that somebody listens at inside, for others than the decky
    /// itself.
    fn listening(&self) -> Option<Vec<u16>> {
        let table = |name: &str| fs::read_to_string(format!("/proc/{}/net/{name}", self.pid));
        let v4 = table("tcp").ok()?;
        let v6 = table("tcp6").unwrap_or_default();
        Some(v4.lines().chain(v6.lines()).filter_map(listener).collect())
    }
}

/// The port of a line of the kernel's table, if it is of a socket that
/// listens for all.
fn listener(line: &str) -> Option<u16> {
    let mut words = line.split_whitespace().skip(1);
    let (address, port) = words.next()?.split_once(':')?;
    let is_open = words.nth(1)? == LISTENS;
    // 127.0.0.1, as a little-endian machine writes it, and ::1.
    let is_own =
        (address.len() == 8 && address.ends_with("7F")) || address == "00000000000000000000000001000000";
    if is_open && !is_own { u16::from_str_radix(port, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::listener;

    #[test]
    fn only_sockets_that_listen_for_all_count() {
        for (line, port) in [
            ("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when", None),
            ("   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000", Some(22)),
            ("   1: 0A011DAC:0050 00000000:0000 0A 00000000:00000000 00:00000000", Some(80)),
            ("   2: 0B00007F:8A11 00000000:0000 0A 00000000:00000000 00:00000000", None),
            ("   3: 0A011DAC:0050 01011DAC:D2F0 01 00000000:00000000 00:00000000", None),
            (
                "   0: 00000000000000000000000000000000:18EB 00000000000000000000000000000000:0000 0A",
                Some(6379),
            ),
            ("   0: 00000000000000000000000001000000:18EB 00000000000000000000000000000000:0000 0A", None),
            ("   0: 00000000", None),
        ] {
            assert_eq!(listener(line), port, "{line}");
        }
    }
}
