//! The networks that this machine is on, from the kernel's table of routes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use decnet_lifecycle::fleet::HostNetwork;
use ipnet::Ipv4Net;

const UP: u32 = 1;

struct Route {
    interface: String,
    to: Ipv4Net,
    gateway: Option<Ipv4Addr>,
    metric: u32,
}

/// The network of the default route.
pub fn default() -> Option<HostNetwork> {
    let routes = routes();
    let way_out =
        routes.iter().filter(|route| route.to.prefix_len() == 0).min_by_key(|route| route.metric)?;
    let gateway = way_out.gateway?;
    let near = routes.iter().find(|route| {
        route.gateway.is_none() && route.interface == way_out.interface && route.to.contains(&gateway)
    })?;
    Some(HostNetwork { interface: way_out.interface.clone(), subnet: near.to, gateway })
}

/// This machine's addresses in the networks that it is on.
pub fn own_addresses() -> BTreeSet<Ipv4Addr> {
    routes().iter().filter(|route| route.gateway.is_none()).filter_map(|route| towards(route.to)).collect()
}

/// The address that a packet to this network would come from; none is sent.
fn towards(net: Ipv4Net) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((net.hosts().next()?, 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn routes() -> Vec<Route> {
    let table = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    table.lines().skip(1).filter_map(parse).collect()
}

/// A line: interface, destination, gateway, flags, two counts, metric, mask.
/// Addresses are numbers in the machine's order of bytes.
fn parse(line: &str) -> Option<Route> {
    let mut fields = line.split_whitespace();
    let interface = fields.next()?.to_owned();
    let mut number = || fields.next().and_then(|field| u32::from_str_radix(field, 16).ok());
    let address = |number: u32| Ipv4Addr::from(number.to_ne_bytes());
    let (to, gateway, flags) = (address(number()?), address(number()?), number()?);
    let _counts = (number()?, number()?);
    // The metric alone is in decimal.
    let metric = fields.next()?.parse().ok()?;
    let mask = address(u32::from_str_radix(fields.next()?, 16).ok()?);
    let to = Ipv4Net::with_netmask(to, mask).ok()?;
    let gateway = (!gateway.is_unspecified()).then_some(gateway);
    (flags & UP != 0).then_some(Route { interface, to, gateway, metric })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_a_route() {
        if cfg!(target_endian = "big") {
            return;
        }
        let way_out = parse("eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0").unwrap();
        assert_eq!((way_out.to.prefix_len(), way_out.metric), (0, 100));
        assert_eq!(way_out.gateway, Some(Ipv4Addr::new(192, 0, 2, 1)));
        let near = parse("eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0").unwrap();
        assert_eq!((near.to.to_string().as_str(), near.gateway), ("192.0.2.0/24", None));
        assert!(parse("eth0\t000200C0\t00000000\t0000\t0\t0\t0\t00FFFFFF\t0\t0\t0").is_none());
        assert!(parse("what is this").is_none());
    }
}
