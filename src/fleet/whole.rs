//! What must hold of a fleet as a whole: names and addresses stand once each,
//! and addresses are usable ones of the subnet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::DeckyConfig;

/// What keeps the network from being one: its field, what is wrong, and what to
/// write. It has room for a gateway and a decky, and the gateway is a usable
/// address of it: no container engine makes another network.
pub(super) fn unfit(subnet: &IpNet, gateway: IpAddr) -> Option<(&'static str, String, String)> {
    if subnet.max_prefix_len() - subnet.prefix_len() < 2 {
        let what = format!("{subnet} has no room for a gateway and a decky");
        let hint = format!("write a network of /{} or larger", subnet.max_prefix_len() - 2);
        return Some(("subnet", what, hint));
    }
    let what = if gateway.is_ipv4() != subnet.addr().is_ipv4() {
        format!("{gateway} is of another family than the subnet {subnet}")
    } else if !subnet.contains(&gateway) {
        format!("{gateway} lies outside the subnet {subnet}")
    } else if reserved(subnet, gateway) {
        format!("{gateway} is the network's own or its broadcast address")
    } else {
        return None;
    };
    let (first, last) = usable(subnet);
    Some(("gateway", what, format!("write the gateway's address, from {first} to {last}")))
}

/// Tells of a place in the list and a field what is wrong, and what to write.
pub(super) type Report<'r> = dyn FnMut(usize, &str, String, &str) + 'r;

/// Reports what is doubled or lies outside; deckies that couldn't be read are
/// left out.
pub(super) fn check(
    deckies: &[Option<DeckyConfig>],
    network: Option<(IpNet, IpAddr)>,
    called: &dyn Fn(usize) -> String,
    report: &mut Report<'_>,
) {
    let mut names: BTreeMap<String, (usize, &DeckyConfig)> = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    for (place, decky) in deckies.iter().enumerate() {
        let Some(decky) = decky else { continue };
        if let Some((first, other)) = names.insert(decky.name.folded(), (place, decky)) {
            let first = called(first);
            if other.name == decky.name {
                let what = format!("{} is the name of {first} as well", decky.name);
                report(place, "name", what, "give each decky a name of its own");
            } else {
                let what = format!("{} differs from {} of {first} in case alone", decky.name, other.name);
                let hint = "images, host names and some file systems don't tell them apart; rename one";
                report(place, "name", what, hint);
            }
        }
        if let Some(first) = addresses.insert(decky.ip, place) {
            let what = format!("{} is the address of {} as well", decky.ip, called(first));
            report(place, "ip", what, "give each decky an address of its own");
        }
        let Some((subnet, gateway)) = network else { continue };
        if let Some(what) = unusable(&subnet, gateway, decky.ip) {
            let (first, last) = usable(&subnet);
            report(place, "ip", what, &format!("write a free address from {first} to {last}"));
        }
    }
}

fn unusable(subnet: &IpNet, gateway: IpAddr, ip: IpAddr) -> Option<String> {
    if !subnet.contains(&ip) {
        Some(format!("{ip} lies outside the subnet {subnet}"))
    } else if ip == gateway {
        Some(format!("{ip} is the gateway's address"))
    } else if reserved(subnet, ip) {
        Some(format!("{ip} is the network's own or its broadcast address"))
    } else {
        None
    }
}

fn reserved(subnet: &IpNet, ip: IpAddr) -> bool {
    subnet.max_prefix_len() - subnet.prefix_len() >= 2 && (ip == subnet.network() || ip == subnet.broadcast())
}

fn usable(subnet: &IpNet) -> (IpAddr, IpAddr) {
    match subnet {
        IpNet::V4(v4) => {
            let (low, high) = (u32::from(v4.network()), u32::from(v4.broadcast()));
            let inner = u32::from(high - low >= 3);
            (IpAddr::V4((low + inner).into()), IpAddr::V4((high - inner).into()))
        }
        IpNet::V6(_) => (subnet.network(), subnet.broadcast()),
    }
}
