use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fleet::{FleetConfig, Mode};
use crate::lifecycle::{DeckyName, Failure, FailureKind, LifecycleId, Operation};
use crate::runner::{AcceptError, Accepted, Taking};
use crate::strategy::Job;

use super::{DeployDispatch, DryRun, MutateDispatch, Shared, TeardownDispatch};

pub(super) async fn deploy(shared: &Arc<Shared>, dispatch: DeployDispatch) -> Result<Accepted, AcceptError> {
    let mut fleet = dispatch.config;
    // Here all of them are this host's own.
    fleet.mode = Mode::Unihost;
    let named = dispatch.lifecycle_ids;
    let rows: BTreeMap<DeckyName, Option<LifecycleId>> = if named.is_empty() {
        fleet.names().map(|decky| (decky.clone(), None)).collect()
    } else {
        named.into_iter().map(|(decky, id)| (decky, Some(id))).collect()
    };
    shared.engine.check(&fleet).map_err(AcceptError::Unfit)?;
    if dispatch.dry_run == DryRun::Yes {
        return Ok(Accepted::nothing());
    }
    take(shared, Taking { job: Job::Deploy, operation: Operation::Deploy, fleet, rows }).await
}

pub(super) async fn mutate(shared: &Arc<Shared>, dispatch: MutateDispatch) -> Result<Accepted, AcceptError> {
    let MutateDispatch { decky, services, lifecycle_id, dry_run } = dispatch;
    let deployed = deployed(shared).await;
    let job = match &deployed {
        Ok(Some(fleet)) if fleet.decky(&decky).is_some() => {
            if let Ok(mutated) = fleet.with_services(&decky, services.clone()) {
                shared.engine.check(&mutated).map_err(AcceptError::Unfit)?;
            }
            Job::Mutate { services }
        }
        Ok(_) => fail(&format!("decky '{decky}' not found in worker state; deploy it first")),
        Err(failure) => Job::Fail(failure.clone()),
    };
    if dry_run == DryRun::Yes {
        return Ok(Accepted::nothing());
    }
    let fleet = deployed.ok().flatten().unwrap_or_else(FleetConfig::nothing);
    let rows = BTreeMap::from([(decky, lifecycle_id)]);
    take(shared, Taking { job, operation: Operation::Mutate, fleet, rows }).await
}

pub(super) async fn teardown(
    shared: &Arc<Shared>,
    dispatch: TeardownDispatch,
) -> Result<Accepted, AcceptError> {
    let TeardownDispatch { decky, lifecycle_ids } = dispatch;
    let deployed = deployed(shared).await;
    let job = match &deployed {
        Ok(_) => Job::Teardown,
        Err(failure) => Job::Fail(failure.clone()),
    };
    let fleet = deployed.ok().flatten().unwrap_or_else(FleetConfig::nothing);
    let deckies: Vec<DeckyName> = match decky {
        Some(decky) => vec![decky],
        None => fleet.names().chain(lifecycle_ids.keys()).cloned().collect(),
    };
    let rows = deckies.into_iter().map(|decky| (decky.clone(), lifecycle_ids.get(&decky).copied())).collect();
    take(shared, Taking { job, operation: Operation::Teardown, fleet, rows }).await
}

async fn take(shared: &Arc<Shared>, taking: Taking) -> Result<Accepted, AcceptError> {
    let _turn = shared.taking.lock().await;
    shared.runner.take(taking).await
}

async fn deployed(shared: &Shared) -> Result<Option<FleetConfig>, Failure> {
    let loaded = shared.fleet_state.load().await;
    loaded.map_err(|error| Failure::new(FailureKind::Engine, &error.to_string()))
}

fn fail(why: &str) -> Job {
    Job::Fail(Failure::new(FailureKind::Engine, why))
}
