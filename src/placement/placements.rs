//! Placements by decky, and found by address and by home.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::lifecycle::{DeckyName, EngineName};

use super::{Home, Network, Placement};

/// What a home is to all of its deckies: one network, one engine.
pub(super) type Site = (Network, Option<EngineName>);

/// All placements of a store, or those that a decision needs.
#[derive(Debug, Clone, Default)]
pub struct Placements {
    by_decky: BTreeMap<DeckyName, Placement>,
    by_address: BTreeMap<IpAddr, BTreeSet<DeckyName>>,
    by_home: BTreeMap<Home, BTreeMap<Site, BTreeSet<DeckyName>>>,
}

impl Placements {
    /// No placements.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_decky.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_decky.is_empty()
    }

    /// The placement of a decky.
    #[must_use]
    pub fn get(&self, decky: &DeckyName) -> Option<&Placement> {
        self.by_decky.get(decky)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Placement> {
        self.by_decky.values()
    }

    /// Those that are, may be, or are to be at a home, by name.
    pub fn at(&self, home: &Home) -> impl Iterator<Item = &Placement> {
        let names: BTreeSet<&DeckyName> =
            self.by_home.get(home).into_iter().flat_map(|sites| sites.values().flatten()).collect();
        names.into_iter().filter_map(|name| self.by_decky.get(name))
    }

    /// The deckies that have, may have, or are to have an address.
    pub fn having(&self, address: IpAddr) -> impl Iterator<Item = &Placement> {
        self.by_address.get(&address).into_iter().flatten().filter_map(|name| self.by_decky.get(name))
    }

    /// The networks and engines at a home, and the deckies of each.
    pub(super) fn sites(&self, home: &Home) -> impl Iterator<Item = (&Site, &BTreeSet<DeckyName>)> {
        self.by_home.get(home).into_iter().flatten()
    }

    /// Sets a decky's placement; one that is empty goes. Gives the one before.
    pub fn set(&mut self, placement: Placement) -> Option<Placement> {
        let before = self.remove(&placement.decky);
        if !placement.is_empty() {
            for placed in placement.possibilities() {
                self.by_address.entry(placed.config.ip).or_default().insert(placement.decky.clone());
                let site = (placed.network.clone(), placed.engine.clone());
                let sites = self.by_home.entry(placed.home.clone()).or_default();
                sites.entry(site).or_default().insert(placement.decky.clone());
            }
            self.by_decky.insert(placement.decky.clone(), placement);
        }
        before
    }

    /// Removes a decky's placement, and gives it.
    pub fn remove(&mut self, decky: &DeckyName) -> Option<Placement> {
        let before = self.by_decky.remove(decky)?;
        for placed in before.possibilities() {
            if let Some(names) = self.by_address.get_mut(&placed.config.ip) {
                names.remove(decky);
                if names.is_empty() {
                    self.by_address.remove(&placed.config.ip);
                }
            }
            if let Some(sites) = self.by_home.get_mut(&placed.home) {
                sites.retain(|_, names| {
                    names.remove(decky);
                    !names.is_empty()
                });
                if sites.is_empty() {
                    self.by_home.remove(&placed.home);
                }
            }
        }
        Some(before)
    }
}

impl FromIterator<Placement> for Placements {
    fn from_iter<I: IntoIterator<Item = Placement>>(placements: I) -> Self {
        let mut all = Self::new();
        for placement in placements {
            all.set(placement);
        }
        all
    }
}
