//! Mutates, teardowns, and masters that start anew.

use crate::fleet::FleetConfig;
use crate::lifecycle::DeckyName;

use super::calls::{first, is_gone, is_up, names, outcomes, up, work};
use super::{Machine, Wrong};

/// The machine's fleet, its first decky with its other services.
fn mutated(machine: &dyn Machine) -> Result<FleetConfig, Wrong> {
    let fleet = machine.fleet();
    let services = machine.other_services();
    let decky = first(&fleet)?.name.clone();
    fleet.with_services(&decky, services).map_err(|error| Wrong(format!("the other services: {error}")))
}

pub(super) async fn mutates(machine: &dyn Machine) -> Result<(), Wrong> {
    let fleet = machine.fleet();
    up(machine, &fleet, &names(&fleet)).await?;
    let mutated = mutated(machine)?;
    let decky = first(&fleet)?.name.clone();
    let work = work(machine, &mutated, std::slice::from_ref(&decky));
    for (decky, outcome) in outcomes(&work, machine.engine().mutate(&work).await)? {
        ensure!(outcome.is_ok(), "{decky} can have these services, and the mutate failed: {outcome:?}");
    }
    for config in &mutated.deckies {
        is_up(machine, config).await?;
    }
    Ok(())
}

pub(super) async fn keeps(machine: &dyn Machine) -> Result<(), Wrong> {
    let fleet = machine.fleet();
    let decky = first(&fleet)?.name.clone();
    up(machine, &fleet, &names(&fleet)).await?;
    let Some(spoilt) = machine.spoilt(&fleet, &decky) else { return Ok(()) };
    let work = work(machine, &spoilt, std::slice::from_ref(&decky));
    for (decky, outcome) in outcomes(&work, machine.engine().mutate(&work).await)? {
        ensure!(
            outcome.is_err(),
            "{decky} can't have these services, and the mutate is said to have succeeded"
        );
    }
    for config in &fleet.deckies {
        is_up(machine, config).await?;
    }
    Ok(())
}

async fn taken_down(machine: &dyn Machine, fleet: &FleetConfig, deckies: &[DeckyName]) -> Result<(), Wrong> {
    let work = work(machine, fleet, deckies);
    for (decky, outcome) in outcomes(&work, machine.engine().teardown(&work).await)? {
        ensure!(outcome.is_ok(), "the teardown of {decky} has failed: {outcome:?}");
    }
    Ok(())
}

pub(super) async fn tears_down(machine: &dyn Machine) -> Result<(), Wrong> {
    let fleet = machine.fleet();
    let all = names(&fleet);
    // Of nothing, on a machine where nothing ever ran.
    taken_down(machine, &fleet, &all).await?;
    up(machine, &fleet, &all).await?;
    let (one, rest) = all.split_at(1);
    taken_down(machine, &fleet, one).await?;
    is_gone(machine, first(&fleet)?).await?;
    for config in fleet.deckies.iter().skip(1) {
        is_up(machine, config).await?;
    }
    taken_down(machine, &fleet, one).await?;
    taken_down(machine, &fleet, rest).await?;
    for config in &fleet.deckies {
        is_gone(machine, config).await?;
    }
    Ok(())
}

pub(super) async fn unnamed(machine: &dyn Machine) -> Result<(), Wrong> {
    let fleet = machine.fleet();
    let all = names(&fleet);
    up(machine, &fleet, &all).await?;
    let mut rest = fleet.clone();
    let gone = rest.deckies.remove(0);
    taken_down(machine, &rest, std::slice::from_ref(&gone.name)).await?;
    is_gone(machine, &gone).await?;
    for config in &rest.deckies {
        is_up(machine, config).await?;
    }
    Ok(())
}

pub(super) async fn restarts(machine: &dyn Machine) -> Result<(), Wrong> {
    let fleet = machine.fleet();
    let all = names(&fleet);
    up(machine, &fleet, &all).await?;
    let engine = machine.engine();
    let found = engine.found().await?;
    let runtime = engine.runtime(&fleet).await?;
    for config in &fleet.deckies {
        for (word, told) in [("found", &found), ("runtime", &runtime)] {
            // An engine may be one that can't look; it must not look past some.
            let Some(seen) = told.get(&config.name) else {
                ensure!(told.is_empty(), "{word} lacks {}, which runs, and has others", config.name);
                continue;
            };
            ensure!(seen.running, "{} runs, and {word} says {seen}", config.name);
        }
    }
    taken_down(machine, &fleet, &all).await?;
    for config in &fleet.deckies {
        is_gone(machine, config).await?;
    }
    let found = machine.engine().found().await?;
    let left = all.iter().find(|decky| found.get(*decky).is_some_and(|seen| !seen.services.is_empty()));
    ensure!(left.is_none(), "{left:?} is gone, and found");
    Ok(())
}
