//! Calls that are cancelled, and calls that are dropped.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use crate::lifecycle::FailureKind;

use super::calls::{first, is_gone, is_up, names, outcomes, up, work};
use super::{Machine, Wrong};

/// Polls a future so many times, each time that it can go on; none if it has
/// not ended then.
async fn polled<T>(future: impl Future<Output = T>, times: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|cx| {
        let Some(less) = left.checked_sub(1) else { return Poll::Ready(None) };
        left = less;
        match future.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

pub(super) async fn cancelled(machine: &dyn Machine) -> Result<(), Wrong> {
    let fleet = machine.fleet();
    let cancelled = &first(&fleet)?.name;
    let work = work(machine, &fleet, &names(&fleet));
    if let Some(task) = work.deckies.get(cancelled) {
        task.cancel.cancel();
    }
    let outcomes = outcomes(&work, machine.engine().deploy(&work).await)?;
    for config in &fleet.deckies {
        let outcome = outcomes.get(&config.name);
        if config.name == *cancelled {
            let kind = outcome.and_then(|outcome| outcome.as_ref().err()).map(|failure| failure.kind());
            ensure!(
                kind == Some(FailureKind::Cancelled),
                "{cancelled} was cancelled, and ended as {outcome:?}"
            );
            is_gone(machine, config).await?;
        } else {
            ensure!(
                outcome.is_some_and(Result::is_ok),
                "{} was not cancelled, and ended as {outcome:?}",
                config.name
            );
            is_up(machine, config).await?;
        }
    }
    Ok(())
}

pub(super) async fn on_its_way(machine: &dyn Machine) -> Result<(), Wrong> {
    let fleet = machine.fleet();
    let cancelled = &first(&fleet)?.name;
    for polls in (1..=machine.drops()).map(spread) {
        machine.clean().await;
        let engine = machine.engine();
        let work = work(machine, &fleet, &names(&fleet));
        let mut call = engine.deploy(&work);
        let early = polled(&mut call, polls).await;
        let is_over = early.is_some();
        let report = match early {
            Some(report) => report,
            None => {
                if let Some(task) = work.deckies.get(cancelled) {
                    task.cancel.cancel();
                }
                call.await
            }
        };
        let outcomes = outcomes(&work, report)?;
        for config in &fleet.deckies {
            match outcomes.get(&config.name) {
                Some(Ok(())) => is_up(machine, config).await?,
                Some(Err(failure)) if config.name == *cancelled => {
                    ensure!(
                        failure.kind() == FailureKind::Cancelled,
                        "{cancelled} was cancelled after {polls} polls, and ended as {failure}"
                    );
                    is_gone(machine, config).await?;
                }
                other => {
                    return Err(Wrong(format!("{} was not cancelled, and ended as {other:?}", config.name)));
                }
            }
        }
        if is_over {
            return Ok(());
        }
    }
    Ok(())
}

pub(super) async fn dropped(machine: &dyn Machine) -> Result<(), Wrong> {
    let fleet = machine.fleet();
    let all = names(&fleet);
    for polls in (1..=machine.drops()).map(spread) {
        machine.clean().await;
        let dropped = work(machine, &fleet, &all);
        let engine = machine.engine();
        let deployed = polled(engine.deploy(&dropped), polls).await.is_some();
        drop(engine);
        up(machine, &fleet, &all).await.map_err(|Wrong(what)| {
            Wrong(format!("after a deploy that was dropped after {polls} polls: {what}"))
        })?;
        let engine = machine.engine();
        let torn = polled(engine.teardown(&dropped), polls).await.is_some();
        drop(engine);
        let again = work(machine, &fleet, &all);
        for (decky, outcome) in outcomes(&again, machine.engine().teardown(&again).await)? {
            ensure!(
                outcome.is_ok(),
                "after a teardown that was dropped after {polls} polls, the next one of {decky} failed: {outcome:?}"
            );
        }
        for config in &fleet.deckies {
            is_gone(machine, config).await?;
        }
        if deployed && torn {
            return Ok(());
        }
    }
    Ok(())
}

/// One more poll each time at first, then ever longer steps: what lasts long
/// waits for much the same most of the time.
const fn spread(number: usize) -> usize {
    if number <= 16 { number } else { number + (number - 16) * (number - 16) }
}
