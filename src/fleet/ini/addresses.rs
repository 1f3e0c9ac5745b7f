//! Free addresses of a network, in order.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The addresses that deckies may be given, from the lowest: neither the
/// network's own nor its broadcast address, nor any of `taken`. A network of
/// one or two addresses has none.
pub(super) fn free<'t>(net: Ipv4Net, taken: &'t BTreeSet<Ipv4Addr>) -> impl Iterator<Item = Ipv4Addr> + 't {
    let (low, high) = (u32::from(net.network()), u32::from(net.broadcast()));
    let inner = if high.saturating_sub(low) >= 3 { low + 1..high } else { 0..0 };
    inner.map(Ipv4Addr::from).filter(|address| !taken.contains(address))
}

/// A network such as `10.66.0.0/24` or `10.66.0.0/255.255.255.0`; host bits
/// are dropped.
pub(super) fn network(text: &str) -> Option<Ipv4Net> {
    let (address, length) = text.split_once('/')?;
    let address: Ipv4Addr = address.parse().ok()?;
    let net = match length.parse::<Ipv4Addr>() {
        Ok(mask) => Ipv4Net::with_netmask(address, mask).ok()?,
        Err(_) => Ipv4Net::new(address, length.parse().ok()?).ok()?,
    };
    Some(net.trunc())
}
