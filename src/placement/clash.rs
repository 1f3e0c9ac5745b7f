//! What of a request can't be, given what is placed. Asked when a plan is made
//! and again inside the transaction that accepts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crate::lifecycle::{DeckyName, EngineName};

use super::{Home, Network, Placed, Placements};

/// Why a decky can't be placed as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clash {
    /// Another decky has the address, or may have it.
    Address {
        /// The decky asked for.
        decky: DeckyName,
        /// The address.
        ip: IpAddr,
        /// Who has it.
        holder: DeckyName,
    },
    /// Deckies that stay at the home are in another network.
    Network {
        /// The decky asked for.
        decky: DeckyName,
        /// Where.
        home: Home,
        /// The network asked for.
        asked: Box<Network>,
        /// The network there is.
        there: Box<Network>,
        /// One of those that stay.
        stays: DeckyName,
    },
    /// The decky is, or may be, somewhere else.
    Elsewhere {
        /// The decky asked for.
        decky: DeckyName,
        /// Where it is.
        at: Home,
        /// Where it was asked for.
        asked: Home,
    },
    /// Deckies at the home run under another engine.
    Engine {
        /// The decky asked for.
        decky: DeckyName,
        /// The engine asked for.
        asked: EngineName,
        /// The engine there is.
        there: EngineName,
        /// One of those that it runs.
        runs: DeckyName,
    },
}

impl Clash {
    /// The decky asked for.
    #[must_use]
    pub const fn decky(&self) -> &DeckyName {
        match self {
            Self::Address { decky, .. }
            | Self::Network { decky, .. }
            | Self::Elsewhere { decky, .. }
            | Self::Engine { decky, .. } => decky,
        }
    }
}

impl Clash {
    /// All of them as one text, with this between them.
    pub(crate) fn list(clashes: &[Self], between: &str) -> String {
        clashes.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
    }
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { decky, ip, holder } => write!(
                f,
                "{decky}: {ip} is {holder}'s, which is placed; take {holder} down first, or give {decky} another address"
            ),
            Self::Network { decky, home, asked, there, stays } => write!(
                f,
                "{decky}: the network {asked} is asked for, and {stays}, which stays on {home}, is in {there}; deploy all deckies of {home} at once, or take {stays} down first"
            ),
            Self::Elsewhere { decky, at, asked } => write!(
                f,
                "{decky}: it is placed on {at}, and was asked for on {asked}; move it, which takes it down there first"
            ),
            Self::Engine { decky, asked, there, runs } => write!(
                f,
                "{decky}: the engine {asked} was asked, and {runs} runs under {there}; take down first what {there} runs"
            ),
        }
    }
}

/// What a request is to make of deckies.
#[derive(Debug, Default)]
pub(crate) struct Asked<'a> {
    /// These shall be up like this, or, where there is more than one, like one
    /// of these.
    pub(crate) up: BTreeMap<&'a DeckyName, Vec<&'a Placed>>,
    /// These shall be gone, before any other comes up.
    pub(crate) gone: BTreeSet<&'a DeckyName>,
}

impl<'a> Asked<'a> {
    /// Asks for a decky to be up.
    pub(crate) fn up(&mut self, decky: &'a DeckyName, placed: &'a Placed) {
        self.up.entry(decky).or_default().push(placed);
    }

    fn all(&self) -> impl Iterator<Item = (&'a DeckyName, &'a Placed)> {
        self.up.iter().flat_map(|(decky, all)| all.iter().map(|placed| (*decky, *placed)))
    }

    /// Whether the decky stays as it is, whatever else is done.
    fn stays(&self, decky: &DeckyName) -> bool {
        !self.gone.contains(decky) && !self.up.contains_key(decky)
    }
}

/// All that stands in a request's way.
pub(crate) fn clashes(asked: &Asked<'_>, placements: &Placements) -> Vec<Clash> {
    let mut found = Vec::new();
    let mut sites = BTreeSet::new();
    among_themselves(asked, &mut found);
    for (decky, placed) in asked.all() {
        address(asked, placements, decky, placed, &mut found);
        elsewhere(asked, placements, decky, placed, &mut found);
        // Once for all deckies that ask for the same: what is in the way of one
        // is in the way of all.
        if sites.insert((&placed.home, &placed.network, &placed.engine)) {
            site(asked, placements, decky, placed, &mut found);
        }
    }
    found
}

/// A fleet's own rules see to these; a request need not come of a fleet.
fn among_themselves(asked: &Asked<'_>, found: &mut Vec<Clash>) {
    let mut addresses = BTreeMap::new();
    let mut homes = BTreeMap::new();
    for (decky, placed) in asked.all() {
        let ip = placed.config.ip;
        let holder = *addresses.entry(ip).or_insert(decky);
        if holder != decky {
            found.push(Clash::Address { decky: decky.clone(), ip, holder: holder.clone() });
        }
        let (stays, first) = *homes.entry(&placed.home).or_insert((decky, placed));
        if stays != decky && first.network != placed.network {
            found.push(Clash::Network {
                decky: decky.clone(),
                home: placed.home.clone(),
                asked: Box::new(placed.network.clone()),
                there: Box::new(first.network.clone()),
                stays: stays.clone(),
            });
        }
        if let (Some(there), Some(wanted)) = (&first.engine, &placed.engine)
            && stays != decky
            && there != wanted
        {
            found.push(Clash::Engine {
                decky: decky.clone(),
                asked: wanted.clone(),
                there: there.clone(),
                runs: stays.clone(),
            });
        }
    }
}

fn address(
    asked: &Asked<'_>,
    placements: &Placements,
    decky: &DeckyName,
    placed: &Placed,
    found: &mut Vec<Clash>,
) {
    let ip = placed.config.ip;
    // Deckies of the same request change their addresses together.
    let holder =
        placements.having(ip).map(|other| &other.decky).find(|other| *other != decky && asked.stays(other));
    if let Some(holder) = holder {
        found.push(Clash::Address { decky: decky.clone(), ip, holder: holder.clone() });
    }
}

fn elsewhere(
    asked: &Asked<'_>,
    placements: &Placements,
    decky: &DeckyName,
    placed: &Placed,
    found: &mut Vec<Clash>,
) {
    let Some(placement) = placements.get(decky).filter(|_| !asked.gone.contains(decky)) else { return };
    if let Some(other) = placement.possibilities().find(|other| other.home != placed.home) {
        let (at, asked) = (other.home.clone(), placed.home.clone());
        found.push(Clash::Elsewhere { decky: decky.clone(), at, asked });
    }
}

fn site(
    asked: &Asked<'_>,
    placements: &Placements,
    decky: &DeckyName,
    placed: &Placed,
    found: &mut Vec<Clash>,
) {
    for ((network, engine), names) in placements.sites(&placed.home) {
        // A network changes with all of its deckies or not at all; an engine
        // hands over nothing.
        if *network != placed.network {
            let stays = names.iter().find(|name| asked.stays(name));
            if let Some(stays) = stays {
                found.push(Clash::Network {
                    decky: decky.clone(),
                    home: placed.home.clone(),
                    asked: Box::new(placed.network.clone()),
                    there: Box::new(network.clone()),
                    stays: stays.clone(),
                });
            }
        }
        if let (Some(there), Some(wanted)) = (engine, &placed.engine)
            && there != wanted
            && let Some(runs) = names.iter().find(|name| !asked.gone.contains(name))
        {
            found.push(Clash::Engine {
                decky: decky.clone(),
                asked: wanted.clone(),
                there: there.clone(),
                runs: runs.clone(),
            });
        }
    }
}
