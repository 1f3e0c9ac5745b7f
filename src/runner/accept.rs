//! Accepts: from a request to durable rows, and the work behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::decide::{Insert, KeyClaim, Refusal};
use crate::fleet::{DeckyConfig, FleetConfig, Mode};
use crate::journal::{InsertError, Inserted};
use crate::lifecycle::{
    AnyLifecycle, DeckyName, Lifecycle, LifecycleId, Operation, Pending, Phase, Record, Revision, Status,
    Timestamp,
};
use crate::master::Guard;
use crate::placement::{Aim, Home, Placement, fleet_of};
use crate::store::{PlacementQuery, Query, StoreError};
use crate::strategy::{Drive, Job};

use super::request::Terms;
use super::{AcceptError, Accepted, DeployRequest, MutateRequest, Runner, TeardownRequest};

/// A row to make.
pub(super) struct Wanted {
    pub(super) decky: DeckyName,
    pub(super) operation: Operation,
    pub(super) home: Home,
    pub(super) aim: Option<Aim>,
    /// The id that another master has given it.
    pub(super) id: Option<LifecycleId>,
    /// The revision of the placement that it was decided on, if that matters.
    pub(super) placed_at: Option<Revision>,
}

impl Runner {
    /// Accepts a deploy: the rows are durable when this returns.
    ///
    /// # Errors
    /// [`AcceptError`]; no row was made.
    ///
    /// If the future is dropped, the rows may have been made all the same; the
    /// next sweep then fails them. A key makes it safe to ask again.
    pub async fn accept_deploy(&self, request: DeployRequest) -> Result<Accepted, AcceptError> {
        let claim = request.claim();
        if let Some(repeated) = self.repeated(claim.clone()).await? {
            return Ok(repeated);
        }
        let wanted = self.wanted_by_deploy(&request).await?;
        self.accept(wanted, &request.terms, claim).await
    }

    /// Accepts a mutate: the row is durable when this returns.
    ///
    /// # Errors
    /// [`AcceptError`]; no row was made. Dropping: as for
    /// [`Runner::accept_deploy`].
    pub async fn accept_mutate(&self, request: MutateRequest) -> Result<Accepted, AcceptError> {
        let claim = request.claim();
        if let Some(repeated) = self.repeated(claim.clone()).await? {
            return Ok(repeated);
        }
        let wanted = self.wanted_by_mutate(&request).await?;
        self.accept(wanted, &request.terms, claim).await
    }

    /// Accepts a teardown: the rows are durable when this returns.
    ///
    /// # Errors
    /// [`AcceptError`]; no row was made. Dropping: as for
    /// [`Runner::accept_deploy`].
    pub async fn accept_teardown(&self, request: TeardownRequest) -> Result<Accepted, AcceptError> {
        let claim = request.claim();
        if let Some(repeated) = self.repeated(claim.clone()).await? {
            return Ok(repeated);
        }
        let wanted = self.wanted_by_teardown(&request).await?;
        self.accept(wanted, &request.terms, claim).await
    }

    pub(super) async fn wanted_by_deploy(&self, request: &DeployRequest) -> Result<Vec<Wanted>, AcceptError> {
        let plan = self.plan(request).await?;
        if !plan.clashes.is_empty() {
            return Err(AcceptError::Clash(plan.clashes));
        }
        let gone = plan.gone.into_iter().map(|(decky, home)| Wanted::gone(decky, home));
        let up = plan.up.into_iter().map(|(decky, placed)| Wanted {
            placed_at: request.placed_at.get(&decky).copied(),
            decky,
            operation: Operation::Deploy,
            home: placed.home.clone(),
            aim: Some(Aim::Up(placed)),
            id: None,
        });
        Ok(gone.chain(up).collect())
    }

    pub(super) async fn wanted_by_mutate(&self, request: &MutateRequest) -> Result<Vec<Wanted>, AcceptError> {
        let (decky, services) = (request.decky.clone(), request.services.clone());
        let placement = self.placement(&decky).await?;
        let placed = placement.as_ref().and_then(Placement::likeliest);
        let Some(placed) = placed else { return Err(self.unknown(decky).await) };
        let refused = |error| AcceptError::Services(Box::new(error));
        if let Some(fleet) = fleet_of(std::iter::once(&**placed)) {
            let mutated = fleet.with_services(&decky, services.clone()).map_err(refused)?;
            self.fits(&mutated, &BTreeSet::from([decky.clone()]))?;
        }
        let placed = Arc::new(placed.with_services(services));
        let (home, aim) = (placed.home.clone(), Some(Aim::Up(placed)));
        Ok(vec![Wanted { decky, operation: Operation::Mutate, home, aim, id: None, placed_at: None }])
    }

    pub(super) async fn wanted_by_teardown(
        &self,
        request: &TeardownRequest,
    ) -> Result<Vec<Wanted>, AcceptError> {
        let query = match &request.deckies {
            Some(deckies) => PlacementQuery::Of(deckies.iter().cloned().collect()),
            None => PlacementQuery::All,
        };
        let placements = self.placements(&query).await?;
        let mut wanted: Vec<Wanted> = placements.iter().filter_map(Wanted::gone_from).collect();
        let known: BTreeSet<DeckyName> = wanted.iter().map(|wanted| wanted.decky.clone()).collect();
        let unknown: Vec<DeckyName> =
            request.deckies.iter().flatten().filter(|decky| !known.contains(*decky)).cloned().collect();
        if !unknown.is_empty() {
            let mut found = self.unplaced().await;
            for decky in unknown {
                let home = match found.remove(&decky) {
                    Some(home) => Some(home),
                    None => self.failed_at(&decky).await?,
                };
                match home {
                    Some(home) => wanted.push(Wanted::gone(decky, home)),
                    None => return Err(self.unknown(decky).await),
                }
            }
        }
        Ok(wanted)
    }

    async fn placement(&self, decky: &DeckyName) -> Result<Option<Placement>, StoreError> {
        Ok(self.placements(&PlacementQuery::Of(vec![decky.clone()])).await?.pop())
    }

    /// Where a decky of which nothing is known any more last failed: what that
    /// has left there nobody may be able to see.
    async fn failed_at(&self, decky: &DeckyName) -> Result<Option<Home>, StoreError> {
        let newest = self.list(&Query::new().decky(decky.clone()).limit(1)).await?.records.pop();
        let failed = newest.filter(|row| row.status() == Status::Failed);
        Ok(failed.map(|row| row.host.map_or_else(|| Home::Master(row.owner.master), Home::Host)))
    }

    async fn unknown(&self, decky: DeckyName) -> AcceptError {
        match self.placements(&PlacementQuery::All).await {
            Ok(all) => {
                let known = all.into_iter().map(|placement| placement.decky).collect();
                AcceptError::UnknownDecky { decky, known }
            }
            Err(error) => AcceptError::Store(error),
        }
    }

    /// Whether the engine can work with those of the deckies that are the
    /// master's own.
    pub(super) fn fits(&self, fleet: &FleetConfig, deckies: &BTreeSet<DeckyName>) -> Result<(), AcceptError> {
        let is_remote = |decky: &DeckyConfig| fleet.mode == Mode::Swarm && decky.host_uuid.is_some();
        if fleet.deckies.iter().any(|decky| deckies.contains(&decky.name) && !is_remote(decky)) {
            self.shared.master.local.engine.check(fleet).map_err(AcceptError::Unfit)?;
        }
        Ok(())
    }

    /// The rows of the same request, if it was accepted before under its key.
    /// Asked first: what it asks for may be done by now, and then would not
    /// be accepted any more.
    pub(super) async fn repeated(&self, claim: Option<KeyClaim>) -> Result<Option<Accepted>, AcceptError> {
        if self.shared.master.active.is_closing() {
            return Err(AcceptError::ShuttingDown);
        }
        let Some(claim) = claim else { return Ok(None) };
        match self.shared.master.journal.known_key(claim).await.map_err(not_accepted)? {
            Some(ids) => self.known(&ids).await.map(Some),
            None => Ok(None),
        }
    }

    /// Rows that were accepted before, as that request's answer.
    pub(super) async fn known(&self, ids: &[LifecycleId]) -> Result<Accepted, AcceptError> {
        Ok(Self::answer_of(self.get(ids).await?))
    }

    /// Rows as the answer to the request that made them.
    pub(super) fn answer_of(rows: Vec<Record>) -> Accepted {
        let is_deploy = rows.iter().any(|row| row.operation == Operation::Deploy);
        let mut known =
            Accepted { ids: BTreeMap::new(), first: BTreeMap::new(), superseded: Vec::new(), work: None };
        for row in rows {
            let is_first = is_deploy && row.operation == Operation::Teardown;
            let place = if is_first { &mut known.first } else { &mut known.ids };
            place.insert(row.decky, row.id);
        }
        known
    }

    pub(super) async fn accept(
        &self,
        wanted: Vec<Wanted>,
        terms: &Terms,
        claim: Option<KeyClaim>,
    ) -> Result<Accepted, AcceptError> {
        let master = &self.shared.master;
        if wanted.is_empty() {
            return Err(AcceptError::Empty);
        }
        let now = master.time.deadline_base();
        let inserts: Vec<Insert> =
            wanted.into_iter().map(|wanted| self.insert_of(wanted, now, terms)).collect();
        // From here on a dropped future leaves its rows to the sweep.
        let guard = master.active.drive(inserts.iter().map(|insert| insert.record.id));
        match master.journal.insert(inserts, claim).await {
            Ok(Inserted::New { rows, superseded }) => {
                tell(&rows, &superseded);
                Ok(self.accepted(rows, superseded, Job::Do, guard))
            }
            Ok(Inserted::Repeated(ids)) => {
                guard.finish();
                self.known(&ids).await
            }
            Err(error) => {
                let error = not_accepted(error);
                // An insert of unknown fate may have left rows; the dropped
                // guard hands them to the sweep.
                if !matches!(&error, AcceptError::Store(error) if !error.is_unchanged()) {
                    guard.finish();
                }
                Err(error)
            }
        }
    }

    /// Durable rows, and the future that drives them.
    pub(super) fn accepted(
        &self,
        rows: Vec<Lifecycle<Pending>>,
        superseded: Vec<LifecycleId>,
        job: Job,
        guard: Guard,
    ) -> Accepted {
        let is_deploy = rows.iter().any(|row| row.operation() == Operation::Deploy);
        let (mut ids, mut first) = (BTreeMap::new(), BTreeMap::new());
        for row in &rows {
            let is_first = is_deploy && row.operation() == Operation::Teardown;
            let place = if is_first { &mut first } else { &mut ids };
            place.insert(row.decky().clone(), row.id());
        }
        let (master, strategies) = (Arc::clone(&self.shared.master), Arc::clone(&self.shared.strategies));
        let work = Drive { master, strategies, job, rows, guard };
        Accepted { ids, first, superseded, work: Some(work) }
    }

    /// Rows of an earlier start that were accepted and never begun, as the
    /// requests that they came with.
    pub(super) fn again(&self, pending: Vec<Record>) -> Vec<Accepted> {
        let mut requests: BTreeMap<(Timestamp, u64), Vec<Lifecycle<Pending>>> = BTreeMap::new();
        for record in pending {
            let request = (record.created_at, record.owner.epoch);
            if let AnyLifecycle::Pending(row) = AnyLifecycle::from_record(record) {
                requests.entry(request).or_default().push(row);
            }
        }
        let mut accepted = Vec::new();
        for mut rows in requests.into_values() {
            rows.sort_by_key(Lifecycle::id);
            let guard = self.shared.master.active.drive(rows.iter().map(Lifecycle::id));
            accepted.push(self.accepted(rows, Vec::new(), Job::Again, guard));
        }
        accepted
    }

    pub(super) fn insert_of(&self, wanted: Wanted, now: Timestamp, terms: &Terms) -> Insert {
        let record = Record {
            id: wanted.id.unwrap_or_else(|| self.shared.ids.next(now)),
            decky: wanted.decky,
            host: wanted.home.host().cloned(),
            operation: wanted.operation,
            phase: Phase::Pending { deadline: now.plus(self.shared.master.time.deadlines.queue) },
            owner: self.shared.owner.clone(),
            created_at: now,
            updated_at: now,
            cancel_requested_at: None,
            claimed_completion: None,
            key: terms.key.clone(),
            revision: Revision::ZERO,
        };
        Insert { record, overlap: terms.overlap, aim: wanted.aim, placed_at: wanted.placed_at }
    }
}

/// One line for each request.
pub(super) fn tell(rows: &[Lifecycle<Pending>], superseded: &[LifecycleId]) {
    let Some(first) = rows.iter().min_by_key(|row| row.id()) else { return };
    let operation = if rows.iter().any(|row| row.operation() == Operation::Deploy) {
        Operation::Deploy
    } else {
        first.operation()
    };
    log::info!(
        target: "decnet_lifecycle::runner",
        operation:% = operation,
        rows = rows.len(),
        first:% = first.id(),
        decky:% = first.decky(),
        superseded = superseded.len();
        "accepted"
    );
}

impl Wanted {
    pub(super) const fn gone(decky: DeckyName, home: Home) -> Self {
        Self { decky, operation: Operation::Teardown, home, aim: Some(Aim::Gone), id: None, placed_at: None }
    }

    /// The teardown of a decky where it is, or may be.
    fn gone_from(placement: &Placement) -> Option<Self> {
        let placed = placement.likeliest()?;
        Some(Self::gone(placement.decky.clone(), placed.home.clone()))
    }
}

pub(super) fn not_accepted(error: InsertError) -> AcceptError {
    match error {
        InsertError::Store(error) => AcceptError::Store(error),
        InsertError::Refused(refusals) => why_refused(refusals),
    }
}

pub(super) fn why_refused(refusals: Vec<Refusal>) -> AcceptError {
    let mut busy = BTreeMap::new();
    let mut clashes = Vec::new();
    let mut other = None;
    for refusal in refusals {
        match refusal {
            Refusal::Busy { decky, open } => {
                busy.insert(decky, open);
            }
            Refusal::KeyTaken(key) => return AcceptError::KeyTaken(key),
            Refusal::Clash(found) => clashes.extend(found),
            Refusal::Together => {}
            refusal => other = Some(refusal.to_string()),
        }
    }
    match other {
        _ if !clashes.is_empty() => AcceptError::Clash(clashes),
        Some(other) if busy.is_empty() => AcceptError::Refused(other),
        _ => AcceptError::Busy(busy.into_iter().collect()),
    }
}
