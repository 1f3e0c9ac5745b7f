//! Puts right what a compose tool's `up` leaves as it is: containers that are
//! paused, that were made for a network or a base which is gone, or that
//! nobody starts again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;

use crate::engine::Work;
use crate::lifecycle::{DeckyName, Failure};

use super::composer::RESTART;
use super::containers::{self, Cut, Detail, Seen, State};
use super::document::ComposeFile;
use super::held::{self, Wanted};
use super::network::There;
use super::settings::ComposeSettings;
use super::tool::{AskError, Tool};

/// What mending works with.
pub(super) struct Mender<'m> {
    pub(super) tool: &'m Tool,
    pub(super) settings: &'m ComposeSettings,
    pub(super) work: &'m Work,
    pub(super) file: &'m ComposeFile,
}

impl Mender<'_> {
    /// Before `up`: what is there of the deckies, made fit for it. Answers
    /// with those that others keep from coming up.
    pub(super) async fn prepare(
        &self,
        deckies: &BTreeSet<DeckyName>,
        seen: &[Seen],
        network: &There,
    ) -> Result<BTreeMap<DeckyName, Failure>, Failure> {
        let wanted =
            Wanted { fleet: &self.work.fleet, file: self.file, deckies, seen, network: Some(network) };
        let failures = held::by_others(self.tool, self.settings, &self.work.clock, &wanted).await?;
        let mine: Vec<&Seen> = seen
            .iter()
            .filter(|one| deckies.contains(&one.decky) && !failures.contains_key(&one.decky))
            .collect();
        let paused: Vec<&str> =
            mine.iter().filter(|one| one.detail.state == State::Paused).map(|one| one.id.as_str()).collect();
        self.order(&["unpause"], &paused).await?;
        let bases = containers::bases(seen);
        let addresses: BTreeMap<&DeckyName, IpAddr> =
            self.work.fleet.deckies.iter().map(|decky| (&decky.name, decky.ip)).collect();
        let lost = |decky: &DeckyName| {
            let base = bases.get(decky)?;
            addresses.get(decky).filter(|ip| !self.is_placed(base, network, **ip))
        };
        let doomed: Vec<&Seen> = mine
            .iter()
            .copied()
            .filter(|one| {
                let is_orphan = one.service.is_some()
                    && one.detail.cut_from(bases.get(&one.decky).copied()) == Some(Cut::Orphaned);
                is_orphan || lost(&one.decky).is_some()
            })
            .collect();
        let told: BTreeSet<&DeckyName> = doomed.iter().map(|one| &one.decky).collect();
        for decky in told {
            let why = if lost(decky).is_some() {
                "its place on the network is gone"
            } else {
                "its base is another"
            };
            super::note(self.work, decky, &format!("made anew: {why}"));
        }
        containers::remove(self.tool, self.settings, &self.work.clock, &doomed).await?;
        let gone: BTreeSet<&str> = doomed.iter().map(|one| one.id.as_str()).collect();
        let unkept: Vec<&str> = mine
            .iter()
            .filter(|one| !gone.contains(one.id.as_str()))
            .filter(|one| !one.detail.policy.is_empty() && one.detail.policy != RESTART)
            .map(|one| one.id.as_str())
            .collect();
        self.order(&["update", "--restart", RESTART], &unkept).await?;
        Ok(failures)
    }

    /// After `up`: the services that were made for a base which it has
    /// replaced are removed. Answers with their deckies.
    pub(super) async fn orphans(
        &self,
        deckies: &BTreeSet<DeckyName>,
    ) -> Result<BTreeSet<DeckyName>, Failure> {
        let seen = containers::see(self.tool, self.settings, &self.work.clock).await?;
        let bases = containers::bases(&seen);
        let is_orphan = |one: &&Seen| {
            one.service.is_some()
                && deckies.contains(&one.decky)
                && self.file.has(&one.name)
                && one.detail.cut_from(bases.get(&one.decky).copied()) == Some(Cut::Orphaned)
        };
        let orphans: Vec<&Seen> = seen.iter().filter(is_orphan).collect();
        containers::remove(self.tool, self.settings, &self.work.clock, &orphans).await?;
        Ok(orphans.into_iter().map(|one| one.decky.clone()).collect())
    }

    /// Whether a base can be started, or runs, where the fleet has it.
    fn is_placed(&self, base: &Detail, network: &There, ip: IpAddr) -> bool {
        // One that was made and never started may be made for what is gone.
        if base.started_at <= Timestamp::UNIX_EPOCH {
            return false;
        }
        let Some(place) = base.networks.get(self.settings.network.as_str()) else { return false };
        if !place.network.is_empty() && place.network != network.id {
            return false;
        }
        let at = if ip.is_ipv4() { &place.v4 } else { &place.v6 };
        at.is_empty() || at.parse() == Ok(ip)
    }

    async fn order(&self, verb: &[&str], ids: &[&str]) -> Result<(), AskError> {
        containers::order(self.tool, self.settings, &self.work.clock, verb, ids).await
    }
}
