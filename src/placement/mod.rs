//! What a decky is now, where, and what open rows are to make of it. Pure.
//!
//! A row says what became of one operation; a placement says what all of them
//! came to. Both change in one commit, by the rule in `Placement::end`:
//!
//! | row | the placement |
//! |---|---|
//! | accepted | notes what the row is to bring about |
//! | running | notes that it was begun |
//! | succeeded | is as tried; a torn-down decky has none |
//! | failed, [as before](Leaves::AsBefore) | is as it was |
//! | failed, [nobody knows](Leaves::Unknown) | is unsure: as before or as tried |

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::fleet::{DeckyConfig, FleetConfig, Mode};
use crate::lifecycle::{DeckyName, EngineName, HostId, Leaves, LifecycleId, MasterName, Revision};

mod clash;
mod placements;
mod plan;

pub use clash::Clash;
pub(crate) use clash::{Asked, clashes};
pub use placements::Placements;
pub use plan::{Plan, PlanStep};
pub(crate) use plan::{PlanTerms, plan};

/// The machine that a decky runs on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Home {
    /// The master of this name: its own engine runs the decky.
    Master(MasterName),
    /// A worker host.
    Host(HostId),
}

impl Home {
    /// The worker host, if it is one.
    #[must_use]
    pub const fn host(&self) -> Option<&HostId> {
        match self {
            Self::Master(_) => None,
            Self::Host(host) => Some(host),
        }
    }

    /// As a key in a store: `master/NAME` or `host/ID`.
    ///
    /// ```
    /// use decnet_lifecycle::placement::Home;
    /// use decnet_lifecycle::HostId;
    ///
    /// let home = Home::Host(HostId::parse("w1")?);
    /// assert_eq!(home.key(), "host/w1");
    /// assert_eq!(Home::from_key("host/w1"), Some(home));
    /// assert_eq!(Home::from_key("w1"), None);
    /// # Ok::<(), decnet_lifecycle::lifecycle::NameError>(())
    /// ```
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Master(name) => format!("master/{name}"),
            Self::Host(id) => format!("host/{id}"),
        }
    }

    /// Reads a key back.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        match key.split_once('/')? {
            ("master", name) => MasterName::parse(name).ok().map(Self::Master),
            ("host", id) => HostId::parse(id).ok().map(Self::Host),
            _ => None,
        }
    }
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master(name) => write!(f, "{name}"),
            Self::Host(id) => write!(f, "{id}"),
        }
    }
}

/// The network of a home that its deckies' addresses lie in. All deckies of one
/// home are in one network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// The home's network interface.
    pub interface: String,
    /// The network itself.
    pub subnet: IpNet,
    /// Its gateway.
    pub gateway: IpAddr,
    /// Whether it is ipvlan; else macvlan.
    pub ipvlan: bool,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.ipvlan { ", ipvlan" } else { "" };
        write!(f, "{} on {}, gateway {}{kind}", self.subnet, self.interface, self.gateway)
    }
}

/// A decky as it is up somewhere, or as a row tries to have it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Placed {
    /// The decky, in the original's schema.
    pub config: DeckyConfig,
    /// The network it is in.
    pub network: Network,
    /// Where it runs.
    pub home: Home,
    /// Which engine runs it, where that is this master's own.
    pub engine: Option<EngineName>,
    /// Where its fleet's file says that the original logs to.
    pub log_file: Option<String>,
    /// Its fleet's minutes between the original's own mutations.
    pub mutate_interval: Option<i64>,
}

impl Placed {
    /// A decky of a fleet, as this master would have it: on the host that the
    /// fleet names, or on the master itself by this engine.
    #[must_use]
    pub fn new(
        fleet: &FleetConfig,
        config: &DeckyConfig,
        master: &MasterName,
        engine: Option<&EngineName>,
    ) -> Self {
        let home = match (&config.host_uuid, fleet.mode) {
            (Some(host), Mode::Swarm) => Home::Host(host.clone()),
            _ => Home::Master(master.clone()),
        };
        let network = Network {
            interface: fleet.interface.clone(),
            subnet: fleet.subnet,
            gateway: fleet.gateway,
            ipvlan: fleet.ipvlan,
        };
        Self {
            config: config.clone(),
            network,
            engine: engine.filter(|_| home.host().is_none()).cloned(),
            home,
            log_file: fleet.log_file.clone(),
            mutate_interval: fleet.mutate_interval,
        }
    }

    /// The same, with other services.
    #[must_use]
    pub(crate) fn with_services(&self, services: Vec<crate::lifecycle::ServiceName>) -> Self {
        let mut placed = self.clone();
        placed.config.services = services;
        placed
    }
}

/// Several deckies of one home as the fleet that its engine or agent is given;
/// none of no deckies.
pub(crate) fn fleet_of<'p>(deckies: impl Iterator<Item = &'p Placed>) -> Option<FleetConfig> {
    let mut deckies = deckies.peekable();
    let first = *deckies.peek()?;
    Some(FleetConfig {
        mode: if first.home.host().is_some() { Mode::Swarm } else { Mode::Unihost },
        interface: first.network.interface.clone(),
        subnet: first.network.subnet,
        gateway: first.network.gateway,
        ipvlan: first.network.ipvlan,
        log_file: first.log_file.clone(),
        mutate_interval: first.mutate_interval,
        deckies: deckies.map(|placed| placed.config.clone()).collect(),
    })
}

/// What is known of a decky.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// Nothing is there: its first row is still open.
    Nothing,
    /// It is up like this, on evidence.
    Up {
        /// As what.
        placed: Arc<Placed>,
        /// The row that brought it about; none of one that was taken over.
        row: Option<LifecycleId>,
    },
    /// A row ended without evidence of what it left.
    Unsure {
        /// What may be there, oldest first; perhaps nothing. Its addresses
        /// stay taken.
        perhaps: Vec<Arc<Placed>>,
        /// The row that ended so.
        row: LifecycleId,
    },
}

/// What an open row is to make of its decky.
#[derive(Debug, Clone, PartialEq)]
pub enum Aim {
    /// It shall be up like this.
    Up(Arc<Placed>),
    /// It shall be gone.
    Gone,
}

/// What an open row is to bring about, and how far it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    /// What.
    pub aim: Aim,
    /// Whether the row is running: the engine or the worker may have begun.
    pub begun: bool,
}

/// One decky: what is known of it, and what its open rows are to bring about.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Placement {
    /// Which decky.
    pub decky: DeckyName,
    /// What is known of it.
    pub standing: Standing,
    /// Its open rows, and what each is to bring about.
    pub tried: BTreeMap<LifecycleId, Tried>,
    /// The change of a row that last changed this.
    pub revision: Revision,
}

impl Placement {
    /// The most possibilities that are kept of a decky that nobody is sure of.
    pub const MAX_PERHAPS: usize = 16;

    /// A decky of which nothing is there.
    #[must_use]
    pub const fn nothing(decky: DeckyName) -> Self {
        Self { decky, standing: Standing::Nothing, tried: BTreeMap::new(), revision: Revision::ZERO }
    }

    /// A decky that is up, and that no row of ours brought up.
    #[must_use]
    pub fn taken_over(placed: Placed) -> Self {
        let decky = placed.config.name.clone();
        let standing = Standing::Up { placed: Arc::new(placed), row: None };
        Self { standing, ..Self::nothing(decky) }
    }

    /// A placement of these parts, for stores that read it back.
    #[must_use]
    pub const fn from_parts(
        decky: DeckyName,
        standing: Standing,
        tried: BTreeMap<LifecycleId, Tried>,
        revision: Revision,
    ) -> Self {
        Self { decky, standing, tried, revision }
    }

    /// The decky as it most probably is: as up, or of one that nobody is sure
    /// of, as the last row tried.
    #[must_use]
    pub fn now(&self) -> Option<&Arc<Placed>> {
        match &self.standing {
            Standing::Nothing => None,
            Standing::Up { placed, .. } => Some(placed),
            Standing::Unsure { perhaps, .. } => perhaps.last(),
        }
    }

    /// The decky as it most probably is, or of one that has never been up, as
    /// its newest row is to bring it up.
    #[must_use]
    pub fn likeliest(&self) -> Option<&Arc<Placed>> {
        self.now().or_else(|| self.possibilities().last())
    }

    /// The decky as whoever replaces all that a home runs has to send it: as a
    /// running row has told the home already, else as it is.
    pub(crate) fn as_told(&self) -> Option<&Arc<Placed>> {
        let told = self.tried.values().rev().find(|tried| tried.begun);
        match told.map(|tried| &tried.aim) {
            Some(Aim::Up(placed)) => Some(placed),
            Some(Aim::Gone) => None,
            None => self.now(),
        }
    }

    /// All that is there, may be there, or is to be there.
    pub fn possibilities(&self) -> impl Iterator<Item = &Arc<Placed>> {
        let tried = self.tried.values().filter_map(|tried| match &tried.aim {
            Aim::Up(placed) => Some(placed),
            Aim::Gone => None,
        });
        self.standing_possibilities().iter().chain(tried)
    }

    /// The name of a possibility that is another decky's.
    pub(crate) fn named_otherwise(&self) -> Option<&DeckyName> {
        self.possibilities().map(|placed| &placed.config.name).find(|name| **name != self.decky)
    }

    /// What is there or may be there, without what open rows are to bring.
    pub fn standing_possibilities(&self) -> &[Arc<Placed>] {
        match &self.standing {
            Standing::Nothing => &[],
            Standing::Up { placed, .. } => std::slice::from_ref(placed),
            Standing::Unsure { perhaps, .. } => perhaps,
        }
    }

    /// Deckies of one home as one fleet, each as it most probably is; none of
    /// no deckies.
    #[must_use]
    pub fn fleet(placements: &[Self]) -> Option<FleetConfig> {
        fleet_of(placements.iter().filter_map(Self::now).map(|placed| &**placed))
    }

    /// The rows that it names.
    pub fn rows(&self) -> impl Iterator<Item = LifecycleId> {
        let standing = match &self.standing {
            Standing::Nothing | Standing::Up { row: None, .. } => None,
            Standing::Up { row, .. } => *row,
            Standing::Unsure { row, .. } => Some(*row),
        };
        standing.into_iter().chain(self.tried.keys().copied())
    }

    /// Whether nothing is there and nobody is at work on it: such a placement
    /// is not kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self.standing, Standing::Nothing) && self.tried.is_empty()
    }

    /// An open row is to bring this about.
    pub(crate) fn note(&mut self, row: LifecycleId, aim: Aim) {
        self.tried.insert(row, Tried { aim, begun: false });
    }

    /// The row is running; whether that changed anything.
    pub(crate) fn begin(&mut self, row: LifecycleId) -> bool {
        match self.tried.get_mut(&row) {
            Some(tried) => !std::mem::replace(&mut tried.begun, true),
            None => false,
        }
    }

    /// The row has ended and leaves this; whether that changed anything. A row
    /// that noted nothing changes nothing.
    pub(crate) fn end(&mut self, row: LifecycleId, leaves: Leaves) -> bool {
        let Some(tried) = self.tried.remove(&row) else { return false };
        match (leaves, tried.aim) {
            (Leaves::AsBefore, _) => {}
            (Leaves::AsTried, Aim::Up(placed)) => self.standing = Standing::Up { placed, row: Some(row) },
            (Leaves::AsTried, Aim::Gone) => self.standing = Standing::Nothing,
            (Leaves::Unknown, aim) => {
                let mut perhaps = self.standing_possibilities().to_vec();
                if let Aim::Up(placed) = aim {
                    perhaps.retain(|known| *known != placed);
                    perhaps.push(placed);
                }
                let surplus = perhaps.len().saturating_sub(Self::MAX_PERHAPS);
                perhaps.drain(..surplus);
                // Of a teardown of what nobody knows, nothing is known either.
                if !perhaps.is_empty() {
                    self.standing = Standing::Unsure { perhaps, row };
                }
            }
        }
        true
    }
}
