//! What a runner is asked, what it gives, and why it refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;

use sha2::{Digest, Sha256};

use crate::decide::{KeyClaim, Overlap};
use crate::fleet::{FleetConfig, FleetError, Problems};
use crate::lifecycle::{DeckyName, LifecycleId, Pending, RequestKey, Revision, ServiceName};
use crate::placement::{Clash, PlanTerms};
use crate::store::StoreError;
use crate::strategy::{Drive, Rows};

/// A deploy to accept: of all deckies of a fleet, or of some.
///
/// Deckies that are placed and that the fleet doesn't name stay as they are,
/// unless it is asked to [prune](Self::prune) them.
#[derive(Debug, Clone)]
pub struct DeployRequest {
    pub(super) fleet: FleetConfig,
    pub(super) only: Option<BTreeSet<DeckyName>>,
    pub(super) plan: PlanTerms,
    pub(super) terms: Terms,
    /// What was decided on the placement as it is at this revision.
    pub(super) placed_at: BTreeMap<DeckyName, Revision>,
}

/// A mutate to accept: other services for one decky that is placed.
#[derive(Debug, Clone)]
pub struct MutateRequest {
    pub(super) decky: DeckyName,
    pub(super) services: Vec<ServiceName>,
    pub(super) terms: Terms,
}

/// A teardown to accept: of some deckies, or of all that are placed.
///
/// A decky that is not placed is looked for: in what the engine finds, and in
/// what workers have said in their beats. So what nobody names any more can be
/// taken down too.
#[derive(Debug, Clone)]
pub struct TeardownRequest {
    pub(super) deckies: Option<BTreeSet<DeckyName>>,
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
        Self {
            fleet,
            only: None,
            plan: PlanTerms { relocate: false, prune: false },
            terms: Terms { overlap: Overlap::Reject, key: None },
            placed_at: BTreeMap::new(),
        }
    }

    /// Deploys these deckies of the fleet.
    #[must_use]
    pub fn only(mut self, deckies: impl IntoIterator<Item = DeckyName>) -> Self {
        self.only = Some(deckies.into_iter().collect());
        self
    }

    /// Takes a decky that is placed on another machine down there first, with
    /// a row of its own. Without, such a request is refused.
    #[must_use]
    pub const fn relocate(mut self, relocate: bool) -> Self {
        self.plan.relocate = relocate;
        self
    }

    /// Takes down what is placed and what the fleet doesn't name, with a row
    /// for each decky. Without, those stay.
    #[must_use]
    pub const fn prune(mut self, prune: bool) -> Self {
        self.plan.prune = prune;
        self
    }

    /// The deckies that it is about.
    pub(super) fn deckies(&self) -> BTreeSet<DeckyName> {
        self.only.clone().unwrap_or_else(|| self.fleet.names().cloned().collect())
    }

    pub(super) fn claim(&self) -> Option<KeyClaim> {
        let mut terms = String::from("deploy");
        for (word, is_said) in [(" relocate", self.plan.relocate), (" prune", self.plan.prune)] {
            if is_said {
                terms.push_str(word);
            }
        }
        claim(self.terms.key.as_ref(), &terms, &self.fleet.to_json(), &self.deckies(), &[])
    }
}

impl MutateRequest {
    /// Gives a decky these services.
    #[must_use]
    pub const fn new(decky: DeckyName, services: Vec<ServiceName>) -> Self {
        Self { decky, services, terms: Terms { overlap: Overlap::Reject, key: None } }
    }

    pub(super) fn claim(&self) -> Option<KeyClaim> {
        let deckies = BTreeSet::from([self.decky.clone()]);
        claim(self.terms.key.as_ref(), "mutate", "", &deckies, &self.services)
    }
}

impl TeardownRequest {
    /// Takes these deckies down.
    pub fn new(deckies: impl IntoIterator<Item = DeckyName>) -> Self {
        Self { deckies: Some(deckies.into_iter().collect()), terms: Terms::default() }
    }

    /// Takes all down that is placed.
    #[must_use]
    pub fn all() -> Self {
        Self { deckies: None, terms: Terms::default() }
    }

    pub(super) fn claim(&self) -> Option<KeyClaim> {
        let what = if self.deckies.is_some() { "teardown" } else { "teardown all" };
        claim(self.terms.key.as_ref(), what, "", &self.deckies.clone().unwrap_or_default(), &[])
    }
}

/// The claim on a key: the key, and a hash of all that was asked, which is
/// never what was placed at the time: the same request is the same when it is
/// asked again after it was done.
fn claim(
    key: Option<&RequestKey>,
    operation: &str,
    fleet: &str,
    deckies: &BTreeSet<DeckyName>,
    services: &[ServiceName],
) -> Option<KeyClaim> {
    let key = key?.clone();
    let mut hash = Sha256::new();
    // Each part ends with a byte that none of them holds.
    for part in [operation, fleet] {
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
    pub(super) first: BTreeMap<DeckyName, LifecycleId>,
    pub(super) superseded: Vec<LifecycleId>,
    pub(super) work: Option<Drive>,
}

impl Accepted {
    #[cfg(feature = "worker")]
    pub(crate) const fn nothing() -> Self {
        Self { ids: BTreeMap::new(), first: BTreeMap::new(), superseded: Vec::new(), work: None }
    }

    /// The row of each decky that the request is about.
    #[must_use]
    pub const fn ids(&self) -> &BTreeMap<DeckyName, LifecycleId> {
        &self.ids
    }

    /// The rows of what is taken down first: deckies that move, and deckies
    /// that are pruned.
    #[must_use]
    pub const fn first(&self) -> &BTreeMap<DeckyName, LifecycleId> {
        &self.first
    }

    /// All rows of the request, oldest first.
    pub fn all_ids(&self) -> impl Iterator<Item = LifecycleId> {
        let mut all: Vec<LifecycleId> = self.ids.values().chain(self.first.values()).copied().collect();
        all.sort_unstable();
        all.into_iter()
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
                work.run().await;
            }
        }
    }

    /// The rows as typed handles, for a caller that drives them itself, with
    /// [`Runner::journal`](super::Runner::journal). From now on nobody else
    /// does: a row that is forgotten fails at its deadline.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use decnet_lifecycle::{DeployRequest, FleetConfig, Runner, Status};
    /// # use decnet_lifecycle::{store::MemoryStore, testkit::FakeEngine};
    /// # futures_lite::future::block_on(async {
    /// # let store = Arc::new(MemoryStore::new());
    /// # let (runner, _) = Runner::builder(store, Arc::new(FakeEngine::new())).build()?.recover().await?;
    /// # let fleet = FleetConfig::from_json(include_bytes!("../../examples/fleet.json"))?;
    /// # let now = decnet_lifecycle::Timestamp::from_micros(1_700_000_000_000_000);
    /// let accepted = runner.accept_deploy(DeployRequest::new(fleet)).await?;
    /// for (decky, row) in accepted.into_rows() {
    ///     let running = runner.journal().commit(row.start(now, now)).await?;
    ///     // .. bring the decky up in a way of one's own ..
    ///     let succeeded = runner.journal().commit(running.succeed(now)).await?;
    ///     assert_eq!(*succeeded.decky(), decky);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn into_rows(self) -> Rows<Pending> {
        self.work.map(Drive::into_rows).unwrap_or_default()
    }
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted")
            .field("ids", &self.ids)
            .field("first", &self.first)
            .field("superseded", &self.superseded)
            .finish_non_exhaustive()
    }
}

/// Why a request was not accepted. No row was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// There is no such decky, in the fleet or placed.
    #[error("there is no decky {decky}; {}", listed(known))]
    UnknownDecky {
        /// The name asked for.
        decky: DeckyName,
        /// The names there are.
        known: Vec<DeckyName>,
    },
    /// The request names no decky, or nothing is placed.
    #[error("the request is about no decky: none was named, or nothing is placed; deploy a fleet first")]
    Empty,
    /// The new services don't make a fleet.
    #[error("the new services were refused: {0}")]
    Services(Box<FleetError>),
    /// The engine can't work with the fleet.
    #[error("the engine can't do this: {0}")]
    Unfit(Problems),
    /// What is placed stands in the way.
    #[error("what is placed stands in the way:\n{}", Clash::list(.0, "\n"))]
    Clash(Vec<Clash>),
    /// Deckies have open rows.
    #[error("busy: {}; wait, cancel them, or ask to supersede them", busy_list(.0))]
    Busy(Vec<(DeckyName, Vec<LifecycleId>)>),
    /// The key was used before, for another request.
    #[error("the key {0} was used before, for another request; use a new key")]
    KeyTaken(RequestKey),
    /// The runner can't start work itself.
    #[error("this runner was built without a spawner; give it one, or accept and run in two steps")]
    NoSpawner,
    /// The runner is shutting down.
    #[error("the master is shutting down and takes no new work")]
    ShuttingDown,
    /// The store could not take the rows.
    #[error("the rows were not accepted: {0}")]
    Store(StoreError),
    /// The store refused the rows for a reason that should not occur.
    #[error("the store refused the rows ({0}); ask again")]
    Refused(String),
}

impl AcceptError {
    /// The status code of an HTTP answer that says so: 409 where what there is
    /// stands in the way, 422 where the request is wrong, 503 where another try
    /// may do.
    ///
    /// ```
    /// assert_eq!(decnet_lifecycle::AcceptError::Empty.http_status(), 422);
    /// ```
    #[must_use]
    pub const fn http_status(&self) -> u16 {
        match self {
            Self::Busy(_) | Self::KeyTaken(_) | Self::Clash(_) => 409,
            Self::ShuttingDown | Self::Store(_) | Self::Refused(_) => 503,
            Self::UnknownDecky { .. } | Self::Empty | Self::Services(_) | Self::Unfit(_) => 422,
            Self::NoSpawner => 500,
        }
    }
}

fn listed(names: &[DeckyName]) -> String {
    if names.is_empty() {
        return "nothing is placed, deploy a fleet first".to_owned();
    }
    let mut text = names.iter().take(10).map(DeckyName::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 10 {
        text.push_str(&format!(" and {} more", names.len() - 10));
    }
    format!("there is {text}")
}

fn busy_list(busy: &[(DeckyName, Vec<LifecycleId>)]) -> String {
    let one = |(decky, ids): &(DeckyName, Vec<LifecycleId>)| {
        format!("{decky} ({})", ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    };
    busy.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl From<StoreError> for AcceptError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
