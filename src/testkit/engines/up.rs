//! Deploys: evidence, others' failures, doing it again.

use crate::lifecycle::DeckyName;

use super::calls::{deploy, first, is_gone, is_up, names, up};
use super::{Machine, Wrong};

pub(super) async fn succeeds(machine: &dyn Machine) -> Result<(), Wrong> {
    let fleet = machine.fleet();
    ensure!(fleet.deckies.len() >= 3, "the machine's fleet has fewer than three deckies");
    ensure!(machine.engine().check(&fleet).is_ok(), "the engine refuses the machine's own fleet");
    up(machine, &fleet, &names(&fleet)).await
}

pub(super) async fn fails(machine: &dyn Machine) -> Result<(), Wrong> {
    let fleet = machine.fleet();
    let broken = first(&fleet)?.name.clone();
    let Some(fleet) = machine.spoilt(&fleet, &broken) else { return Ok(()) };
    let outcomes = deploy(machine, &fleet, &names(&fleet)).await?;
    for config in &fleet.deckies {
        let outcome = outcomes.get(&config.name);
        if config.name == broken {
            ensure!(
                outcome.is_some_and(Result::is_err),
                "{broken} can't come up, and is said to have succeeded"
            );
            is_gone(machine, config).await?;
        } else {
            ensure!(
                outcome.is_some_and(Result::is_ok),
                "{} can come up, and was held back by {broken}: {outcome:?}",
                config.name
            );
            is_up(machine, config).await?;
        }
    }
    Ok(())
}

pub(super) async fn others(machine: &dyn Machine) -> Result<(), Wrong> {
    let fleet = machine.fleet();
    let all = names(&fleet);
    let (some, rest) = all.split_at(all.len() / 2);
    up(machine, &fleet, some).await?;
    for config in fleet.deckies.iter().filter(|config| rest.contains(&config.name)) {
        let answering = machine.answering(config).await;
        ensure!(answering.is_empty(), "{} was brought up by a call about others", config.name);
    }
    let mut before = Vec::new();
    for config in fleet.deckies.iter().filter(|config| some.contains(&config.name)) {
        before.push((config, machine.answering(config).await));
    }
    up(machine, &fleet, rest).await?;
    for (config, before) in before {
        let now = machine.answering(config).await;
        ensure!(now == before, "a call about others changed {} from {before:?} to {now:?}", config.name);
    }
    Ok(())
}

pub(super) async fn again(machine: &dyn Machine) -> Result<(), Wrong> {
    let fleet = machine.fleet();
    let all = names(&fleet);
    up(machine, &fleet, &all).await?;
    let mut before = Vec::new();
    for config in &fleet.deckies {
        before.push((config, machine.answering(config).await));
    }
    up(machine, &fleet, &all).await?;
    for (config, before) in before {
        let now = machine.answering(config).await;
        ensure!(now == before, "the same deploy again made {before:?} of {} into {now:?}", config.name);
    }
    Ok(())
}

pub(super) async fn died(machine: &dyn Machine) -> Result<(), Wrong> {
    let fleet = machine.fleet();
    let all = names(&fleet);
    up(machine, &fleet, &all).await?;
    let config = first(&fleet)?;
    for config in &fleet.deckies {
        let told = machine.engine().runtime(&fleet).await?.remove(&config.name);
        ensure!(told.is_none_or(|told| told.running), "{} is up, and is told to be down", config.name);
    }
    let Some(service) = config.services.first() else { return Ok(()) };
    if !machine.kill(&config.name, service).await {
        return Ok(());
    }
    let told = machine.engine().runtime(&fleet).await?.remove(&config.name);
    let (says_up, state) =
        told.map_or((false, None), |told| (told.running, told.services.get(service.as_str()).cloned()));
    ensure!(
        !says_up && state.as_deref() != Some("running"),
        "{service} of {} was killed, and is told to be {state:?}",
        config.name
    );
    up(machine, &fleet, &all).await
}

pub(super) async fn unknown(machine: &dyn Machine) -> Result<(), Wrong> {
    let fleet = machine.fleet();
    let stranger = DeckyName::parse("nobody-knows-me").map_err(|error| Wrong(error.to_string()))?;
    let outcomes = deploy(machine, &fleet, std::slice::from_ref(&stranger)).await?;
    ensure!(
        outcomes.get(&stranger).is_some_and(Result::is_err),
        "a decky that the fleet doesn't have is said to be up"
    );
    Ok(())
}
