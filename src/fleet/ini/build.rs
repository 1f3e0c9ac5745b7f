//! What a file asks for, put together to a fleet.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::fleet::distro::Distro;
use crate::fleet::{DeckyConfig, FleetConfig, Mode, whole};
use crate::lifecycle::DeckyName;

use super::general::Network;
use super::outline::{Group, Outline, Reading, names};
use super::settings::Tables;
use super::syntax::File;
use super::told::{Place, Told};
use super::value::Budget;
use super::{IniSettings, addresses, random};

/// A decky to be, and the group that makes it.
struct Member<'o, 'f> {
    name: DeckyName,
    group: &'o Group<'f>,
}

/// The fleet of a file; none if it is told why not.
pub(super) fn fleet(file: &File, settings: &IniSettings, told: &mut Told) -> Option<FleetConfig> {
    let mut reading = Reading { file, settings, told, budget: Budget::default() };
    let outline = reading.outline();
    let network = reading.network(outline.general);
    let members = members(&outline, reading.told);
    let by_name: BTreeMap<&str, usize> =
        members.iter().enumerate().map(|(place, member)| (member.name.as_str(), place)).collect();
    let tables = reading.settings(&outline.settings, &by_name);
    let network = network?;
    let addresses = give_addresses(&members, &network, settings, told);
    let deckies = deckies(&members, &addresses, tables, settings);
    check(&deckies, &members, &network, told);
    let is_whole = told.is_clean() && deckies.len() == members.len();
    is_whole.then(|| FleetConfig {
        mode: Mode::Unihost,
        interface: network.interface,
        subnet: IpNet::V4(network.net),
        gateway: IpAddr::V4(network.gateway),
        deckies: deckies.into_iter().flatten().collect(),
        log_file: settings.log_file.clone(),
        ipvlan: false,
        mutate_interval: settings.mutate_interval,
    })
}

fn members<'o, 'f>(outline: &'o Outline<'f>, told: &mut Told) -> Vec<Member<'o, 'f>> {
    let mut members = Vec::new();
    for group in &outline.groups {
        let named = names(group, told);
        if members.len() + named.len() > FleetConfig::MAX_DECKIES {
            let what = format!("these are more than {} deckies", FleetConfig::MAX_DECKIES);
            told.problem(&group.section.place(), what, "split the fleet");
            break;
        }
        members.extend(named.into_iter().map(|name| Member { name, group }));
    }
    if outline.groups.is_empty() {
        told.problem(&Place::file(), "the file has no decky", "write a section such as [decky-01]");
    }
    members
}

/// Those of the file, and the lowest free ones for the others.
fn give_addresses(
    members: &[Member<'_, '_>],
    network: &Network,
    settings: &IniSettings,
    told: &mut Told,
) -> Vec<Option<Ipv4Addr>> {
    let mut taken: BTreeSet<Ipv4Addr> = members.iter().filter_map(|member| member.group.ip).collect();
    taken.extend(&settings.taken);
    taken.insert(network.gateway);
    let mut free = addresses::free(network.net, &taken);
    let given: Vec<Option<Ipv4Addr>> =
        members.iter().map(|member| member.group.ip.or_else(|| free.next())).collect();
    let lacking = given.iter().filter(|address| address.is_none()).count();
    if let Some((_, first)) = given.iter().zip(members).find(|(address, _)| address.is_none()) {
        let others = if lacking > 1 { format!(", and for {} more", lacking - 1) } else { String::new() };
        let what = format!("{} has no address left for {}{others}", network.net, first.name);
        let hint = "write a larger net, or fewer deckies";
        told.problem(&first.group.section.place(), what, hint);
    }
    for member in members {
        if let Some(ip) = member.group.ip.filter(|ip| settings.taken.contains(ip)) {
            let section = member.group.section;
            let place =
                section.entries.get("ip").map_or_else(|| section.place(), |entry| section.field(entry));
            told.problem(&place, format!("{ip} is taken by another"), "write a free address");
        }
    }
    given
}

fn deckies(
    members: &[Member<'_, '_>],
    addresses: &[Option<Ipv4Addr>],
    mut tables: Tables,
    settings: &IniSettings,
) -> Vec<Option<DeckyConfig>> {
    let mut hostnames = HashSet::new();
    let seconds = settings.now.as_micros() as f64 / 1e6;
    let one = |(place, (member, address)): (usize, (&Member<'_, '_>, &Option<Ipv4Addr>))| {
        let group = member.group;
        let distro = distro(group, place)?;
        let mut dice = random::dice(settings.seed, &member.name);
        let hostname = random::hostname(&mut dice, distro, &mut hostnames);
        let services = match &group.services {
            Some(services) => services.clone(),
            None => random::services(&mut dice, &settings.services),
        };
        Some(DeckyConfig {
            name: member.name.clone(),
            ip: IpAddr::V4((*address)?),
            services,
            distro: distro.slug.to_owned(),
            base_image: distro.image.to_owned(),
            build_base: distro.build_base.to_owned(),
            hostname,
            archetype: group.archetype.map(|archetype| archetype.slug.to_owned()),
            service_config: tables.remove(&place).unwrap_or_default(),
            nmap_os: group
                .nmap_os
                .clone()
                .unwrap_or_else(|| group.archetype.map_or("linux", |archetype| archetype.nmap_os).to_owned()),
            mutate_interval: group.mutate_interval.or(settings.mutate_interval),
            last_mutated: seconds,
            last_login_attempt: 0.0,
            host_uuid: None,
        })
    };
    members.iter().zip(addresses).enumerate().map(one).collect()
}

/// Deckies take turns in the distributions, by their places in the whole file.
fn distro(group: &Group<'_>, place: usize) -> Option<&'static Distro> {
    match group.archetype {
        Some(archetype) => {
            let turn = place.checked_rem(archetype.distros.len())?;
            archetype.distros.get(turn).and_then(|slug| Distro::named(slug))
        }
        None => Distro::ALL.get(place.checked_rem(Distro::ALL.len())?),
    }
}

fn check(deckies: &[Option<DeckyConfig>], members: &[Member<'_, '_>], network: &Network, told: &mut Told) {
    let section = |place: usize| members.get(place).map(|member| member.group.section);
    let called = |place| section(place).map(|section| section.place().text).unwrap_or_default();
    let net = (IpNet::V4(network.net), IpAddr::V4(network.gateway));
    whole::check(deckies, Some(net), &called, &mut |place, field, what, hint| {
        let Some(section) = section(place) else { return };
        let place = match section.entries.get(field) {
            Some(entry) => section.field(entry),
            None => section.place(),
        };
        told.problem(&place, what, hint);
    });
}
