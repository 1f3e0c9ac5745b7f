//! Accepts inside a transaction of the caller's own: its tables and our rows
//! become durable together, or neither does.

use crate::decide::{Batch, Change, Insert, KeyClaim, Outcome};
use crate::lifecycle::{AnyLifecycle, LifecycleId};
use crate::store::StoreError;
use crate::strategy::Job;

use super::accept::{Wanted, why_refused};
use super::request::Terms;
use super::{AcceptError, Accepted, DeployRequest, MutateRequest, Runner, TeardownRequest};

/// A request that can be made durable in a transaction of the caller's own.
///
/// ```
/// # #[cfg(feature = "redb")] {
/// use std::sync::Arc;
/// use decnet_lifecycle::redb::{Database, TableDefinition};
/// use decnet_lifecycle::{DeployRequest, FleetConfig, Runner, store::RedbStore};
/// # use decnet_lifecycle::testkit::FakeEngine as MyEngine;
///
/// const ORDERS: TableDefinition<u64, &str> = TableDefinition::new("orders");
///
/// # futures_lite::future::block_on(async {
/// let dir = tempfile::tempdir()?;
/// let db = Arc::new(Database::create(dir.path().join("my.redb"))?);
/// let store = Arc::new(RedbStore::in_database(Arc::clone(&db))?);
/// let (runner, _) = Runner::builder(store, Arc::new(MyEngine::new())).build()?.recover().await?;
///
/// let fleet = FleetConfig::from_json(include_bytes!("../../examples/fleet.json"))?;
/// let prepared = runner.prepare_deploy(DeployRequest::new(fleet)).await?;
/// let txn = db.begin_write()?;
/// txn.open_table(ORDERS)?.insert(1, "six deckies")?;
/// let enlisted = prepared.enlisted(RedbStore::enlist(&txn, prepared.batch())?)?;
/// txn.commit()?; // the order and the rows, or neither
///
/// let accepted = runner.start(enlisted).await?;
/// assert_eq!(accepted.ids().len(), 6);
/// accepted.run().await; // or spawn it
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "enlist its batch in your transaction"]
pub struct Prepared {
    batch: Batch,
}

/// Rows that are durable once the caller's transaction is.
///
/// It is no proof of that: [`Runner::start`] looks. Dropped, its rows are left
/// to the next start of the master, which takes them up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "commit your transaction, then hand it to `Runner::start`"]
pub struct Enlisted {
    ids: Vec<LifecycleId>,
    superseded: Vec<LifecycleId>,
}

/// Enlisted rows can't be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// They are not in the store.
    #[error("row {id} is not in the store: the transaction that it was enlisted in was not committed")]
    NotThere {
        /// One of them.
        id: LifecycleId,
    },
    /// They can't be read.
    #[error("the rows can't be read: {0}")]
    Store(StoreError),
}

impl Prepared {
    /// What to enlist: with [`RedbStore::enlist`](crate::store::RedbStore::enlist), or
    /// in a store of one's own by [`decide`](crate::decide::decide).
    #[must_use]
    pub const fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The rows, once the store has said what becomes of the batch. May be
    /// asked more than once, for a transaction that is tried again.
    ///
    /// # Errors
    /// [`AcceptError`] why it was refused: abort the transaction.
    pub fn enlisted(&self, outcomes: Vec<Outcome>) -> Result<Enlisted, AcceptError> {
        let mut enlisted = Enlisted { ids: Vec::new(), superseded: Vec::new() };
        let mut refusals = Vec::new();
        for outcome in outcomes {
            match outcome {
                Outcome::Applied { record, superseded } => {
                    enlisted.ids.push(record.id);
                    enlisted.superseded.extend(superseded.iter().map(|row| row.id));
                }
                Outcome::Repeated(id) => enlisted.ids.push(id),
                Outcome::Refused(refusal) => refusals.push(refusal),
                Outcome::Placed(_) => {}
            }
        }
        if refusals.is_empty() { Ok(enlisted) } else { Err(why_refused(refusals)) }
    }
}

impl Enlisted {
    /// Its rows, oldest first.
    #[must_use]
    pub fn ids(&self) -> &[LifecycleId] {
        &self.ids
    }
}

impl Runner {
    /// Prepares a deploy, to be made durable in a transaction of the caller's
    /// own. Nothing is written. Cancel-safe.
    ///
    /// # Errors
    /// As [`Runner::accept_deploy`]; what is placed is looked at again when the
    /// batch is enlisted.
    pub async fn prepare_deploy(&self, request: DeployRequest) -> Result<Prepared, AcceptError> {
        let claim = request.claim();
        if let Some(repeated) = self.prepared_before(claim.as_ref()).await? {
            return Ok(repeated);
        }
        let wanted = self.wanted_by_deploy(&request).await?;
        self.prepare(wanted, &request.terms, claim)
    }

    /// Prepares a mutate; see [`Runner::prepare_deploy`].
    ///
    /// # Errors
    /// As [`Runner::accept_mutate`].
    pub async fn prepare_mutate(&self, request: MutateRequest) -> Result<Prepared, AcceptError> {
        let claim = request.claim();
        if let Some(repeated) = self.prepared_before(claim.as_ref()).await? {
            return Ok(repeated);
        }
        let wanted = self.wanted_by_mutate(&request).await?;
        self.prepare(wanted, &request.terms, claim)
    }

    /// Prepares a teardown; see [`Runner::prepare_deploy`].
    ///
    /// # Errors
    /// As [`Runner::accept_teardown`].
    pub async fn prepare_teardown(&self, request: TeardownRequest) -> Result<Prepared, AcceptError> {
        let claim = request.claim();
        if let Some(repeated) = self.prepared_before(claim.as_ref()).await? {
            return Ok(repeated);
        }
        let wanted = self.wanted_by_teardown(&request).await?;
        self.prepare(wanted, &request.terms, claim)
    }

    /// A request whose key is known is told its first rows when its batch is
    /// enlisted: what it asks for may be done by now, and would be refused.
    async fn prepared_before(&self, claim: Option<&KeyClaim>) -> Result<Option<Prepared>, AcceptError> {
        let repeated = self.repeated(claim.cloned()).await?.is_some();
        Ok(repeated.then(|| Prepared { batch: Batch::all_or_none(Vec::new()).with_key(claim.cloned()) }))
    }

    fn prepare(
        &self,
        wanted: Vec<Wanted>,
        terms: &Terms,
        claim: Option<KeyClaim>,
    ) -> Result<Prepared, AcceptError> {
        if self.shared.master.active.is_closing() {
            return Err(AcceptError::ShuttingDown);
        }
        if wanted.is_empty() {
            return Err(AcceptError::Empty);
        }
        let now = self.shared.master.time.deadline_base();
        let inserts = wanted.into_iter().map(|wanted| {
            let insert: Insert = self.insert_of(wanted, now, terms);
            Change::Insert(Box::new(insert))
        });
        let batch = Batch::all_or_none(inserts.collect()).with_key(claim);
        self.shared.master.discretion.learn(&batch);
        Ok(Prepared { batch })
    }

    /// Reads enlisted rows back and gives their work, as an accept does. Rows
    /// that have begun or ended by now are left as they are.
    ///
    /// If the future is dropped, the rows wait for the next start of the
    /// master, or their deadline.
    ///
    /// # Errors
    /// [`StartError::NotThere`] if the transaction was not committed.
    pub async fn start(&self, enlisted: Enlisted) -> Result<Accepted, StartError> {
        let master = &self.shared.master;
        let rows = self.get(&enlisted.ids).await?;
        if let Some(id) = enlisted.ids.iter().find(|id| !rows.iter().any(|row| row.id == **id)) {
            return Err(StartError::NotThere { id: *id });
        }
        // Others wait for what this transaction has changed.
        master.journal.others_committed();
        for id in &enlisted.superseded {
            master.active.cancel(*id);
        }
        let mut pending = Vec::new();
        for row in rows.iter().filter(|row| master.active.stage(row.id).is_none()) {
            if let AnyLifecycle::Pending(row) = AnyLifecycle::from_record(row.clone()) {
                pending.push(row);
            }
        }
        let guard = master.active.drive(pending.iter().map(crate::lifecycle::Lifecycle::id));
        let is_repeat = pending.is_empty();
        let accepted = self.accepted(pending, enlisted.superseded, Job::Do, guard);
        let known = Self::answer_of(rows);
        let work = if is_repeat { None } else { accepted.work };
        Ok(Accepted { superseded: accepted.superseded, work, ..known })
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
