//! What a deploy would change, given what is placed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::fleet::{DeckyConfig, FleetConfig};
use crate::lifecycle::{DeckyName, EngineName, MasterName};

use super::{Asked, Clash, Home, Placed, Placements, Standing, clashes};

/// What a deploy would do, step by step, and what stands in its way.
///
/// What a plan says is what the deploy does: the same function is asked again
/// inside the transaction that accepts.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Plan {
    /// One step for each decky that the request is about, by name.
    pub steps: Vec<PlanStep>,
    /// Deckies that are placed and that the fleet doesn't name; they stay.
    pub unnamed: Vec<(DeckyName, Home)>,
    /// What stands in the way; with any of these nothing is accepted.
    pub clashes: Vec<Clash>,
    pub(crate) up: BTreeMap<DeckyName, Arc<Placed>>,
    pub(crate) gone: BTreeMap<DeckyName, Home>,
}

/// What happens to one decky.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanStep {
    /// It is not placed yet.
    New {
        /// Which decky.
        decky: DeckyName,
        /// Where it comes up.
        home: Home,
    },
    /// It is placed, and becomes another.
    Change {
        /// Which decky.
        decky: DeckyName,
        /// Where it is.
        home: Home,
        /// What becomes different, such as `services -ftp +redis`; values of
        /// settings are never told.
        differences: Vec<String>,
    },
    /// It is placed just so, and is brought up again where it isn't up.
    Same {
        /// Which decky.
        decky: DeckyName,
        /// Where it is.
        home: Home,
    },
    /// Nobody is sure how it stands; it is brought up anew.
    Settle {
        /// Which decky.
        decky: DeckyName,
        /// Where it comes up.
        home: Home,
    },
    /// It is taken down where it is, and then comes up elsewhere.
    Move {
        /// Which decky.
        decky: DeckyName,
        /// Where it is.
        from: Home,
        /// Where it comes up.
        to: Home,
    },
    /// It is taken down, for the fleet doesn't name it.
    Remove {
        /// Which decky.
        decky: DeckyName,
        /// Where it is.
        home: Home,
    },
}

impl PlanStep {
    /// Which decky.
    #[must_use]
    pub const fn decky(&self) -> &DeckyName {
        match self {
            Self::New { decky, .. }
            | Self::Change { decky, .. }
            | Self::Same { decky, .. }
            | Self::Settle { decky, .. }
            | Self::Move { decky, .. }
            | Self::Remove { decky, .. } => decky,
        }
    }
}

impl fmt::Display for PlanStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New { decky, home } => write!(f, "+ {decky} new on {home}"),
            Self::Change { decky, differences, .. } => write!(f, "~ {decky} {}", differences.join(", ")),
            Self::Same { decky, .. } => write!(f, "= {decky} as it is"),
            Self::Settle { decky, home } => {
                write!(f, "~ {decky} on {home}, where nobody is sure how it stands")
            }
            Self::Move { decky, from, to } => write!(f, "> {decky} moves {from} -> {to}"),
            Self::Remove { decky, home } => write!(f, "- {decky} on {home}, which this fleet does not name"),
        }
    }
}

impl Plan {
    /// Whether the deploy would leave every decky as it is now.
    #[must_use]
    pub fn changes_nothing(&self) -> bool {
        self.clashes.is_empty() && self.steps.iter().all(|step| matches!(step, PlanStep::Same { .. }))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<String> = self.steps.iter().map(ToString::to_string).collect();
        let unnamed = self.unnamed.iter();
        lines.extend(unnamed.map(|(decky, home)| {
            format!("- {decky} runs on {home} and this fleet does not name it: it stays")
        }));
        lines.extend(self.clashes.iter().map(|clash| format!("! {clash}")));
        f.write_str(&lines.join("\n"))
    }
}

/// What a deploy may do besides.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PlanTerms {
    /// Take down elsewhere what is placed elsewhere.
    pub(crate) relocate: bool,
    /// Take down what the fleet doesn't name.
    pub(crate) prune: bool,
}

/// What a deploy of these deckies of a fleet would do.
pub(crate) fn plan(
    fleet: &FleetConfig,
    deckies: &BTreeSet<DeckyName>,
    terms: PlanTerms,
    master: &MasterName,
    engine: Option<&EngineName>,
    placements: &Placements,
) -> Plan {
    let mut plan = Plan::default();
    for config in fleet.deckies.iter().filter(|config| deckies.contains(&config.name)) {
        let placed = Placed::new(fleet, config, master, engine);
        let step = step(&placed, terms, placements);
        if let PlanStep::Move { decky, from, .. } = &step {
            plan.gone.insert(decky.clone(), from.clone());
        }
        plan.steps.push(step);
        plan.up.insert(config.name.clone(), Arc::new(placed));
    }
    let named: BTreeSet<&DeckyName> = fleet.names().collect();
    for placement in placements.iter().filter(|placement| !named.contains(&placement.decky)) {
        let home = placement.likeliest().map(|placed| placed.home.clone());
        let Some(home) = home else { continue };
        let decky = placement.decky.clone();
        if terms.prune {
            plan.steps.push(PlanStep::Remove { decky: decky.clone(), home: home.clone() });
            plan.gone.insert(decky, home);
        } else {
            plan.unnamed.push((decky, home));
        }
    }
    plan.steps.sort_by(|a, b| a.decky().cmp(b.decky()));
    let mut asked = Asked { gone: plan.gone.keys().collect(), ..Asked::default() };
    plan.up.iter().for_each(|(decky, placed)| asked.up(decky, placed));
    plan.clashes = clashes(&asked, placements);
    plan
}

fn step(placed: &Placed, terms: PlanTerms, placements: &Placements) -> PlanStep {
    let (decky, home) = (placed.config.name.clone(), placed.home.clone());
    let Some(placement) = placements.get(&decky) else { return PlanStep::New { decky, home } };
    let is_away = |there: &&Arc<Placed>| there.home != home;
    let stands = placement.standing_possibilities().iter().rev().find(is_away);
    // What an open row has begun elsewhere may be there by now.
    let away = stands.or_else(|| placement.possibilities().filter(is_away).last());
    if let (Some(there), true) = (away, terms.relocate) {
        return PlanStep::Move { decky, from: there.home.clone(), to: home };
    }
    match &placement.standing {
        Standing::Nothing => PlanStep::New { decky, home },
        Standing::Unsure { .. } => PlanStep::Settle { decky, home },
        Standing::Up { placed: there, .. } => {
            let differences = differences(there, placed);
            if differences.is_empty() {
                PlanStep::Same { decky, home }
            } else {
                PlanStep::Change { decky, home, differences }
            }
        }
    }
}

/// What is different, in a few words each. Values of settings may be secrets.
fn differences(old: &Placed, new: &Placed) -> Vec<String> {
    let mut all = Vec::new();
    let (before, after): (&DeckyConfig, &DeckyConfig) = (&old.config, &new.config);
    let gone = before.services.iter().filter(|service| !after.services.contains(service));
    let come = after.services.iter().filter(|service| !before.services.contains(service));
    let services: Vec<String> =
        gone.map(|service| format!("-{service}")).chain(come.map(|service| format!("+{service}"))).collect();
    if !services.is_empty() {
        all.push(format!("services {}", services.join(" ")));
    }
    let mut text = |what: &str, old: String, new: String| {
        if old != new {
            all.push(format!("{what} {old} -> {new}"));
        }
    };
    text("address", before.ip.to_string(), after.ip.to_string());
    text("network", old.network.to_string(), new.network.to_string());
    text("image", before.base_image.clone(), after.base_image.clone());
    text("build base", before.build_base.clone(), after.build_base.clone());
    text("distro", before.distro.clone(), after.distro.clone());
    text("hostname", before.hostname.clone(), after.hostname.clone());
    text("system", before.nmap_os.clone(), after.nmap_os.clone());
    let archetype = |config: &DeckyConfig| config.archetype.clone().unwrap_or_else(|| "none".to_owned());
    text("archetype", archetype(before), archetype(after));
    let services: BTreeSet<&String> =
        before.service_config.keys().chain(after.service_config.keys()).collect();
    for service in services {
        if before.service_config.get(service) != after.service_config.get(service) {
            all.push(format!("settings of {service}"));
        }
    }
    all
}
