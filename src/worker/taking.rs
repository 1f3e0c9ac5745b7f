//! Takes what a master dispatches: durable rows of this worker's own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::fleet::{FleetConfig, Mode};
use crate::lifecycle::{DeckyName, Failure, FailureKind, LifecycleId, MasterName, Operation};
use crate::placement::{Aim, Placed, Placement, fleet_of};
use crate::runner::{AcceptError, Accepted, Taking};
use crate::store::{PlacementQuery, StoreError};
use crate::strategy::Job;

use super::{DeployDispatch, DryRun, MutateDispatch, Shared, TeardownDispatch};

pub(super) async fn deploy(shared: &Arc<Shared>, dispatch: DeployDispatch) -> Result<Accepted, AcceptError> {
    let mut fleet = dispatch.config;
    // Here all of them are this host's own.
    fleet.mode = Mode::Unihost;
    shared.engine.check(&fleet).map_err(AcceptError::Unfit)?;
    if dispatch.dry_run == DryRun::Yes {
        return Ok(Accepted::nothing());
    }
    let named = dispatch.lifecycle_ids;
    let master =
        MasterName::parse(shared.host.as_str()).map_err(|error| AcceptError::Refused(error.to_string()))?;
    let engine = shared.engine.name();
    let wanted = fleet.deckies.iter().filter(|config| named.is_empty() || named.contains_key(&config.name));
    let rows = wanted.map(|config| {
        let aim = Aim::Up(Arc::new(Placed::new(&fleet, config, &master, engine.as_ref())));
        (config.name.clone(), (Some(aim), named.get(&config.name).copied()))
    });
    let rows = rows.collect();
    // A master that names no rows sends all that the host is to have.
    let gone = if named.is_empty() { not_in(shared, &fleet).await? } else { BTreeSet::new() };
    take(shared, Taking { job: Job::Do, operation: Operation::Deploy, rows, gone }).await
}

/// What this worker has, or is about to have, that the fleet does not name.
async fn not_in(shared: &Shared, fleet: &FleetConfig) -> Result<BTreeSet<DeckyName>, StoreError> {
    let placements = shared.store.placements(&PlacementQuery::All).await?;
    let others = placements.into_iter().map(|placement| placement.decky);
    Ok(others.filter(|decky| fleet.decky(decky).is_none()).collect())
}

pub(super) async fn mutate(shared: &Arc<Shared>, dispatch: MutateDispatch) -> Result<Accepted, AcceptError> {
    let MutateDispatch { decky, services, lifecycle_id, dry_run } = dispatch;
    let placement = shared.store.placements(&PlacementQuery::Of(vec![decky.clone()])).await?.pop();
    // One that is only coming up is not to be stopped for this.
    let placed = placement.as_ref().and_then(Placement::now);
    let mutated = placed.and_then(|placed| {
        let fleet = fleet_of(std::iter::once(&**placed))?.with_services(&decky, services.clone());
        Some((placed.with_services(services), fleet))
    });
    let (job, aim) = match mutated {
        Some((placed, Ok(fleet))) => {
            shared.engine.check(&fleet).map_err(AcceptError::Unfit)?;
            (Job::Do, Some(Aim::Up(Arc::new(placed))))
        }
        Some((_, Err(error))) => (fail(&error.to_string()), None),
        None => (fail(&format!("decky '{decky}' not found in worker state; deploy it first")), None),
    };
    if dry_run == DryRun::Yes {
        // What would fail is told, as it can't be later.
        return match aim {
            Some(_) => Ok(Accepted::nothing()),
            None if placed.is_some() => {
                Err(AcceptError::Refused("its new services are none that fit".to_owned()))
            }
            None => {
                let all = shared.store.placements(&PlacementQuery::All).await?;
                let known = all.into_iter().map(|placement| placement.decky).collect();
                Err(AcceptError::UnknownDecky { decky, known })
            }
        };
    }
    let rows = BTreeMap::from([(decky, (aim, lifecycle_id))]);
    take(shared, Taking { job, operation: Operation::Mutate, rows, gone: BTreeSet::new() }).await
}

pub(super) async fn teardown(
    shared: &Arc<Shared>,
    dispatch: TeardownDispatch,
) -> Result<Accepted, AcceptError> {
    let TeardownDispatch { decky, lifecycle_ids } = dispatch;
    let deckies: Vec<DeckyName> = match decky {
        Some(decky) => vec![decky],
        None => {
            let all = shared.store.placements(&PlacementQuery::All).await?;
            all.into_iter().map(|placement| placement.decky).chain(lifecycle_ids.keys().cloned()).collect()
        }
    };
    let row = |decky: DeckyName| {
        let id: Option<LifecycleId> = lifecycle_ids.get(&decky).copied();
        (decky, (Some(Aim::Gone), id))
    };
    let rows = deckies.into_iter().map(row).collect();
    take(shared, Taking { job: Job::Do, operation: Operation::Teardown, rows, gone: BTreeSet::new() }).await
}

async fn take(shared: &Arc<Shared>, taking: Taking) -> Result<Accepted, AcceptError> {
    let _turn = shared.taking.lock().await;
    shared.runner.take(taking).await
}

/// What this worker keeps deployed, as one fleet; none if it keeps nothing.
pub(super) async fn deployed(shared: &Shared) -> Result<Option<FleetConfig>, StoreError> {
    let placements = shared.store.placements(&PlacementQuery::All).await?;
    Ok(Placement::fleet(&placements))
}

fn fail(why: &str) -> Job {
    Job::Fail(Failure::new(FailureKind::Engine, why))
}
