//! The network of a fleet: as the file says, else as the machine has it.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::fleet::{shown, whole};

use super::addresses;
use super::outline::Reading;
use super::syntax::Section;
use super::told::Place;

const KEYS: [&str; 3] = ["net", "gw", "interface"];

#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) interface: String,
    pub(super) net: Ipv4Net,
    pub(super) gateway: Ipv4Addr,
}

impl<'f> Reading<'f, '_> {
    pub(super) fn network(&mut self, general: Option<&'f Section>) -> Option<Network> {
        let host = self.settings.host.as_ref();
        let mut written = |key: &str| general.and_then(|section| self.text(section, key));
        let (interface, net, gateway) = (written("interface"), written("net"), written("gw"));
        if let Some(section) = general {
            self.unread(section, &KEYS);
        }
        let place = general.map_or_else(Place::file, Section::place);
        let interface = interface.map(|(text, _)| text).or_else(|| Some(host?.interface.clone()));
        if interface.is_none() {
            self.missing(&place, "interface", "eth0");
        }
        let here = |key: &str| Place { text: format!("{}: {key}", place.text), ..place.clone() };
        let (net, net_at) = match net {
            Some((text, at)) => {
                let net = addresses::network(&text);
                if net.is_none() {
                    let what = format!("{} is no IPv4 network", shown(&text));
                    self.told.problem(&at, what, "write such as 10.66.0.0/24");
                }
                (net, at)
            }
            None => {
                if host.is_none() {
                    self.missing(&place, "net", "10.66.0.0/24");
                }
                (host.map(|host| host.subnet.trunc()), here("net"))
            }
        };
        let (gateway, gateway_at) = match gateway {
            Some((text, at)) => {
                let gateway = text.parse().ok();
                if gateway.is_none() {
                    let what = format!("{} is no IPv4 address", shown(&text));
                    self.told.problem(&at, what, "write such as 10.66.0.1");
                }
                (gateway, at)
            }
            None => {
                if host.is_none() {
                    self.missing(&place, "gw", "10.66.0.1");
                }
                (host.map(|host| host.gateway), here("gw"))
            }
        };
        let (interface, net, gateway) = (interface?, net?, gateway?);
        if let Some((field, what, hint)) = whole::unfit(&IpNet::V4(net), IpAddr::V4(gateway)) {
            // Without room no decky has an address, which is the same once more.
            let room = field != "subnet";
            self.told.problem(if room { &gateway_at } else { &net_at }, what, hint);
            if !room {
                return None;
            }
        }
        Some(Network { interface, net, gateway })
    }

    fn missing(&mut self, place: &Place, key: &str, such_as: &str) {
        let what = format!("{key} is missing, and nothing is known of this machine's network");
        self.told.problem(place, what, format!("write [general] with {key} = {such_as}"));
    }
}
