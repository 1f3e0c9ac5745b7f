//! How calls are made, and what is told while they last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_lite::future::zip;

use crate::engine::{CancelToken, Progress, Report, Task, Turns, Work};
use crate::fleet::{DeckyConfig, FleetConfig};
use crate::lifecycle::{DeckyName, Failure, LifecycleId, ServiceName};

use super::{Machine, Wrong};

/// What is told of a call before its end.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Vec<(DeckyName, Result<(), Failure>)>>);

impl Progress for Told {
    fn note(&self, _decky: &DeckyName, _text: &str) {}

    fn ended(&self, decky: &DeckyName, outcome: &Result<(), Failure>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((decky.clone(), outcome.clone()));
    }
}

/// A call about these deckies of a fleet, and the tokens that stop it.
pub(super) fn work(machine: &dyn Machine, fleet: &FleetConfig, deckies: &[DeckyName]) -> Work {
    let task = |number: usize| Task {
        id: LifecycleId::from_u128(u128::try_from(number).unwrap_or(0) + 1),
        cancel: CancelToken::new(),
    };
    Work {
        fleet: Arc::new(fleet.clone()),
        deckies: deckies.iter().enumerate().map(|(number, decky)| (decky.clone(), task(number))).collect(),
        clock: machine.clock(),
        progress: Arc::new(Told::default()),
    }
}

pub(super) fn names(fleet: &FleetConfig) -> Vec<DeckyName> {
    fleet.names().cloned().collect()
}

pub(super) fn first(fleet: &FleetConfig) -> Result<&DeckyConfig, Wrong> {
    fleet.deckies.first().ok_or_else(|| Wrong("the machine's fleet has no decky".to_owned()))
}

/// How a call that must name every decky of it ended.
pub(super) fn outcomes(
    work: &Work,
    report: Result<Report, Failure>,
) -> Result<BTreeMap<DeckyName, Result<(), Failure>>, Wrong> {
    let report = match report {
        Ok(report) => report,
        Err(failure) => {
            return Ok(work.deckies.keys().map(|decky| (decky.clone(), Err(failure.clone()))).collect());
        }
    };
    let mut outcomes = BTreeMap::new();
    for decky in work.deckies.keys() {
        let outcome = report.outcome(decky);
        ensure!(outcome != Report::new().outcome(decky), "the report doesn't name {decky}");
        outcomes.insert(decky.clone(), outcome);
    }
    Ok(outcomes)
}

pub(super) async fn deploy(
    machine: &dyn Machine,
    fleet: &FleetConfig,
    deckies: &[DeckyName],
) -> Result<BTreeMap<DeckyName, Result<(), Failure>>, Wrong> {
    let work = work(machine, fleet, deckies);
    outcomes(&work, machine.engine().deploy(&work).await)
}

/// A deploy that must succeed, and must be up.
pub(super) async fn up(
    machine: &dyn Machine,
    fleet: &FleetConfig,
    deckies: &[DeckyName],
) -> Result<(), Wrong> {
    for (decky, outcome) in deploy(machine, fleet, deckies).await? {
        ensure!(outcome.is_ok(), "{decky} can come up, and did not: {outcome:?}");
    }
    for config in fleet.deckies.iter().filter(|config| deckies.contains(&config.name)) {
        is_up(machine, config).await?;
    }
    Ok(())
}

/// That each service of a decky answers, and no other.
pub(super) async fn is_up(machine: &dyn Machine, config: &DeckyConfig) -> Result<(), Wrong> {
    let answering = machine.answering(config).await;
    let mut wanted = config.services.clone();
    wanted.sort();
    let answer: Vec<ServiceName> = answering.into_keys().collect();
    ensure!(answer == wanted, "{} is said to be up with {wanted:?}; what answers is {answer:?}", config.name);
    Ok(())
}

pub(super) async fn is_gone(machine: &dyn Machine, config: &DeckyConfig) -> Result<(), Wrong> {
    let answering = machine.answering(config).await;
    ensure!(answering.is_empty(), "{} is said to be down; what answers is {answering:?}", config.name);
    Ok(())
}

pub(super) async fn told(machine: &dyn Machine) -> Result<(), Wrong> {
    let fleet = machine.fleet();
    let told = Arc::new(Told::default());
    let spoilt = first(&fleet).ok().and_then(|first| machine.spoilt(&fleet, &first.name));
    let fleet = spoilt.unwrap_or(fleet);
    let work = Work { progress: told.clone(), ..work(machine, &fleet, &names(&fleet)) };
    let outcomes = outcomes(&work, machine.engine().deploy(&work).await)?;
    let told = told.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (decky, early) in told {
        let Some(late) = outcomes.get(&decky) else {
            return Err(Wrong(format!("{decky} was told of, which the call is not about")));
        };
        ensure!(early.is_ok() == late.is_ok(), "of {decky} {early:?} was told, and {late:?} reported");
    }
    Ok(())
}

pub(super) async fn turns(machine: &dyn Machine) -> Result<(), Wrong> {
    let fleet = machine.fleet();
    let engine = machine.engine();
    let all = names(&fleet);
    // Calls about one decky never meet; those about others do, if the engine
    // says that they may.
    if engine.turns() == Turns::OneCall || all.len() < 3 {
        return Ok(());
    }
    let (one, others) = all.split_at(1);
    up(machine, &fleet, one).await?;
    let lacking = |left: &[DeckyName]| {
        let mut fleet = fleet.clone();
        fleet.deckies.retain(|config| !left.contains(&config.name));
        fleet
    };
    // Each knows nothing of what the other brings up.
    let (second, third) = others.split_at(1);
    let down = work(machine, &fleet, one);
    let (left, right) = (work(machine, &lacking(third), second), work(machine, &lacking(second), third));
    let (torn, (left_said, right_said)) =
        zip(engine.teardown(&down), zip(engine.deploy(&left), engine.deploy(&right))).await;
    for (work, said) in [(&down, torn), (&left, left_said), (&right, right_said)] {
        for (decky, outcome) in outcomes(work, said)? {
            ensure!(outcome.is_ok(), "beside other calls {decky} has failed: {outcome:?}");
        }
    }
    is_gone(machine, first(&fleet)?).await?;
    for config in fleet.deckies.iter().skip(1) {
        is_up(machine, config).await?;
    }
    Ok(())
}
