//! The network of a fleet: as the file says, else as the machine has it.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::fleet::shown;

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
        let net = match net {
            Some((text, at)) => {
                let net = addresses::network(&text);
                if net.is_none() {
                    let what = format!("{} is no IPv4 network", shown(&text));
                    self.told.problem(&at, what, "write such as 10.66.0.0/24");
                }
                net
            }
            None => {
                if host.is_none() {
                    self.missing(&place, "net", "10.66.0.0/24");
                }
                host.map(|host| host.subnet.trunc())
            }
        };
        let (gateway, at) = match gateway {
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
                (host.map(|host| host.gateway), Place { text: format!("{}: gw", place.text), ..place })
            }
        };
        let (interface, net, gateway) = (interface?, net?, gateway?);
        if !net.contains(&gateway) {
            let what = format!("the gateway {gateway} lies outside {net}");
            self.told.problem(&at, what, "write gw = an address of the network");
        }
        Some(Network { interface, net, gateway })
    }

    fn missing(&mut self, place: &Place, key: &str, such_as: &str) {
        let what = format!("{key} is missing, and nothing is known of this machine's network");
        self.told.problem(place, what, format!("write [general] with {key} = {such_as}"));
    }
}
