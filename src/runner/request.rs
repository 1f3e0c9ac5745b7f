use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use sha2::{Digest, Sha256};

use crate::fleet::{FleetConfig, FleetError, Problems};
use crate::lifecycle::{DeckyName, LifecycleId, RequestKey, ServiceName};
use crate::store::{KeyClaim, Overlap, StoreError};

/// A deploy to accept: of all deckies of a fleet, or of some.
///
/// An additive deploy names the new deckies with [`only`](Self::only): the
/// engine sees the whole fleet, rows are made for the named ones.
#[derive(Debug, Clone)]
pub struct DeployRequest {
    pub(super) fleet: FleetConfig,
    pub(super) only: Option<BTreeSet<DeckyName>>,
    pub(super) terms: Terms,
}

/// A mutate to accept: other services for one decky.
#[derive(Debug, Clone)]
pub struct MutateRequest {
    pub(super) fleet: FleetConfig,
    pub(super) decky: DeckyName,
    pub(super) services: Vec<ServiceName>,
    pub(super) terms: Terms,
}

/// A teardown to accept: of some deckies of a fleet.
#[derive(Debug, Clone)]
pub struct TeardownRequest {
    pub(super) fleet: FleetConfig,
    pub(super) deckies: BTreeSet<DeckyName>,
    pub(super) terms: Terms,
}

/// What every request may say besides.
#[derive(Debug, Clone, Default)]
pub(super) struct Terms {
    pub(super) overlap: Overlap,
    pub(super) key: Option<RequestKey>,
}

macro_rules! terms {
    ($request:ident) => {
        impl $request {
            /// What to do if a decky has an open row already; by default the
            /// request is refused.
            #[must_use]
            pub const fn overlap(mut self, overlap: Overlap) -> Self {
                self.terms.overlap = overlap;
                self
            }

            /// The caller's name for the request: the same request under the
            /// same key is accepted once, and answered with the same ids.
            #[must_use]
            pub fn key(mut self, key: RequestKey) -> Self {
                self.terms.key = Some(key);
                self
            }
        }
    };
}

terms!(DeployRequest);
terms!(MutateRequest);
terms!(TeardownRequest);

impl DeployRequest {
    /// Deploys every decky of the fleet.
    #[must_use]
    pub const fn new(fleet: FleetConfig) -> Self {
        Self { fleet, only: None, terms: Terms { overlap: Overlap::Reject, key: None } }
    }

    /// Deploys these deckies of the fleet.
    #[must_use]
    pub fn only(mut self, deckies: impl IntoIterator<Item = DeckyName>) -> Self {
        self.only = Some(deckies.into_iter().collect());
        self
    }
}

impl MutateRequest {
    /// Gives a decky of the fleet these services.
    #[must_use]
    pub const fn new(fleet: FleetConfig, decky: DeckyName, services: Vec<ServiceName>) -> Self {
        Self { fleet, decky, services, terms: Terms { overlap: Overlap::Reject, key: None } }
    }
}

impl TeardownRequest {
    /// Takes these deckies of the fleet down.
    pub fn new(fleet: FleetConfig, deckies: impl IntoIterator<Item = DeckyName>) -> Self {
        Self { fleet, deckies: deckies.into_iter().collect(), terms: Terms::default() }
    }
}

/// The claim on a key: the key, and a hash of all that was asked. The fleet
/// is part of what a deploy asks for, and else only what the deckies are in:
/// a mutate changes it, and is the same request when it is asked again.
pub(super) fn claim(
    key: Option<&RequestKey>,
    operation: &str,
    fleet: Option<&FleetConfig>,
    deckies: &BTreeSet<DeckyName>,
    services: &[ServiceName],
) -> Option<KeyClaim> {
    let key = key?.clone();
    let mut hash = Sha256::new();
    // Each part ends with a byte that none of them holds.
    for part in [operation, &fleet.map(FleetConfig::to_json).unwrap_or_default()] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    for name in deckies {
        hash.update(name.as_str().as_bytes());
        hash.update([0]);
    }
    hash.update([1]);
    for service in services {
        hash.update(service.as_str().as_bytes());
        hash.update([0]);
    }
    Some(KeyClaim { key, hash: hash.finalize().into() })
}

/// A request whose rows are durable.
///
/// [`ids`](Self::ids) is the answer to give; [`run`](Self::run) is the work,
/// to be spawned on the caller's runtime. Dropped without running, the rows
/// fail at the next sweep.
#[must_use = "spawn `run()` on your runtime, or the rows fail at the next sweep"]
pub struct Accepted {
    pub(super) ids: BTreeMap<DeckyName, LifecycleId>,
    pub(super) superseded: Vec<LifecycleId>,
    pub(super) work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Accepted {
    #[cfg(feature = "worker")]
    pub(crate) const fn nothing() -> Self {
        Self { ids: BTreeMap::new(), superseded: Vec::new(), work: None }
    }

    /// The row of each decky.
    #[must_use]
    pub const fn ids(&self) -> &BTreeMap<DeckyName, LifecycleId> {
        &self.ids
    }

    /// The rows that this request took over from.
    #[must_use]
    pub fn superseded(&self) -> &[LifecycleId] {
        &self.superseded
    }

    /// Whether the same request was accepted before under its key; then there
    /// is nothing left to run.
    #[must_use]
    pub const fn is_repeat(&self) -> bool {
        self.work.is_none()
    }

    /// The work: drives each row to its end, or to where a worker ends it.
    /// Every error becomes a `Failed` row, so there is nothing to return. If
    /// the future is dropped, the next sweep fails the rows it still drove.
    pub fn run(self) -> impl Future<Output = ()> + Send + 'static {
        let work = self.work;
        async move {
            if let Some(work) = work {
                work.await;
            }
        }
    }
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted")
            .field("ids", &self.ids)
            .field("superseded", &self.superseded)
            .finish_non_exhaustive()
    }
}

/// Why a request was not accepted. No row was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The fleet has no such decky.
    #[error("the fleet has no decky {decky}; it has {}", listed(known))]
    UnknownDecky {
        /// The name asked for.
        decky: DeckyName,
        /// The names there are.
        known: Vec<DeckyName>,
    },
    /// The request names no decky.
    #[error("the request names no decky; name at least one")]
    Empty,
    /// The new services don't make a fleet.
    #[error("the new services were refused: {0}")]
    Services(#[source] Box<FleetError>),
    /// The engine can't work with the fleet.
    #[error("the engine can't do this: {0}")]
    Unfit(Problems),
    /// Deckies have open rows.
    #[error("busy: {}; wait, cancel them, or ask to supersede them", busy_list(.0))]
    Busy(Vec<(DeckyName, Vec<LifecycleId>)>),
    /// The key was used before, for another request.
    #[error("the key {0} was used before, for another request; use a new key")]
    KeyTaken(RequestKey),
    /// The runner is shutting down.
    #[error("the master is shutting down and takes no new work")]
    ShuttingDown,
    /// The store could not take the rows.
    #[error("the rows were not accepted: {0}")]
    Store(#[from] StoreError),
    /// The store refused the rows for a reason that should not occur.
    #[error("the store refused the rows ({0}); ask again")]
    Refused(String),
}

fn listed(names: &[DeckyName]) -> String {
    let mut text = names.iter().take(10).map(DeckyName::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 10 {
        text.push_str(&format!(" and {} more", names.len() - 10));
    }
    text
}

fn busy_list(busy: &[(DeckyName, Vec<LifecycleId>)]) -> String {
    let one = |(decky, ids): &(DeckyName, Vec<LifecycleId>)| {
        format!("{decky} ({})", ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    };
    busy.iter().map(one).collect::<Vec<_>>().join(", ")
}
