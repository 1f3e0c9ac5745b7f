//! What must hold of placements, and of rows and placements together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::lifecycle::{DeckyName, LifecycleId, Record, Status};
use crate::placement::{Aim, Placement, Standing, Tried};
use crate::store::{Entry, PlacementQuery, Store};

use super::Breach;
use super::breach::hold;

/// What placements are compared with.
pub(super) struct Standings<'r> {
    /// All rows.
    pub(super) rows: &'r [Record],
    /// The feed since the last check.
    pub(super) steps: &'r [Entry],
    /// Whether deckies may share addresses, and be forgotten between checks.
    pub(super) any_batch: bool,
}

/// The placements as the last check saw them.
#[derive(Debug, Default)]
pub(super) struct PlacementsSeen(BTreeMap<DeckyName, Placement>);

impl PlacementsSeen {
    pub(super) async fn check(&mut self, store: &dyn Store, now: &Standings<'_>) -> Result<(), Breach> {
        let all = store.placements(&PlacementQuery::All).await?;
        hold!(all.is_sorted_by(|a, b| a.decky < b.decky), "placements are not listed by name, each once");
        let rows: BTreeMap<LifecycleId, &Record> = now.rows.iter().map(|row| (row.id, row)).collect();
        for placement in &all {
            names_rows(placement, &rows)?;
        }
        if !now.any_batch {
            addresses(&all)?;
        }
        let now_by_decky: BTreeMap<DeckyName, Placement> =
            all.iter().map(|placement| (placement.decky.clone(), placement.clone())).collect();
        self.effects(&now_by_decky, now, &rows)?;
        ways(store, &all).await?;
        self.0 = now_by_decky;
        Ok(())
    }

    /// Whether each change since the last check is that of a row.
    fn effects(
        &self,
        now: &BTreeMap<DeckyName, Placement>,
        Standings { steps, any_batch, .. }: &Standings<'_>,
        rows: &BTreeMap<LifecycleId, &Record>,
    ) -> Result<(), Breach> {
        for (decky, placement) in now {
            let before = self.0.get(decky);
            if before == Some(placement) {
                continue;
            }
            let by_row = steps.iter().any(|step| step.revision == placement.revision && step.decky == *decky);
            // One that something else brought up is no row's effect.
            let was_idle = before.is_none_or(|before| before.tried.is_empty());
            let taken_over = placement.tried.is_empty() && (was_idle || *any_batch);
            hold!(by_row || taken_over, "{placement:?} was {before:?}, and no row of it changed with it");
        }
        for (decky, before) in &self.0 {
            for (id, tried) in &before.tried {
                let last = steps.iter().rfind(|step| step.decky == *decky);
                let Some(end) = last.filter(|last| last.id == *id && !last.status.is_open()) else {
                    continue;
                };
                // It may have been forgotten since, and taken over.
                let by_row = |placement: &&Placement| {
                    let is_later = placement.revision > end.revision;
                    let is_by_none = matches!(placement.standing, Standing::Up { row: None, .. });
                    !any_batch || !(is_later || is_by_none)
                };
                match now.get(decky).filter(by_row) {
                    Some(placement) => ended(placement, rows.get(&end.id), end, tried)?,
                    None => {
                        let nothing = end.status != Status::Succeeded || tried.aim == Aim::Gone;
                        hold!(nothing || *any_batch, "row {id} succeeded, and {decky} is not placed");
                    }
                }
            }
        }
        Ok(())
    }
}

/// What the last step of a decky, which ended this row, made of it.
fn ended(placement: &Placement, row: Option<&&Record>, end: &Entry, tried: &Tried) -> Result<(), Breach> {
    let (id, status) = (end.id, end.status);
    let revision = placement.revision;
    hold!(
        revision == end.revision,
        "row {id} ended at {}, its placement changed at {revision}",
        end.revision
    );
    if status == Status::Succeeded {
        let as_tried = match (&tried.aim, &placement.standing) {
            (Aim::Up(wanted), Standing::Up { placed, row }) => wanted == placed && *row == Some(id),
            (Aim::Gone, Standing::Nothing) => true,
            _ => false,
        };
        hold!(as_tried, "row {id} succeeded with {tried:?}, and its decky is {placement:?}");
    }
    if let Standing::Up { row: Some(up), .. } = &placement.standing {
        let failed = row.is_some_and(|row| row.failure().is_some());
        hold!(*up != id || !failed, "row {id} failed, and its decky is up by it");
    }
    Ok(())
}

/// Whether the rows that a placement names are there, and as it takes them to
/// be.
fn names_rows(placement: &Placement, rows: &BTreeMap<LifecycleId, &Record>) -> Result<(), Breach> {
    let decky = &placement.decky;
    hold!(!placement.is_empty(), "a placement that says nothing is kept: {decky}");
    let row = |id: &LifecycleId| match rows.get(id) {
        Some(row) if row.decky == *decky => Ok(*row),
        Some(row) => Err(Breach(format!("the placement of {decky} names a row of {}: {id}", row.decky))),
        None => Err(Breach(format!("the placement of {decky} names row {id}, which is not there"))),
    };
    match &placement.standing {
        Standing::Nothing | Standing::Up { row: None, .. } => {}
        Standing::Up { row: Some(id), .. } => {
            let status = row(id)?.status();
            hold!(status == Status::Succeeded, "{decky} is up by row {id}, which is {status}");
        }
        Standing::Unsure { row: id, perhaps } => {
            let status = row(id)?.status();
            hold!(status == Status::Failed, "{decky} is unsure since row {id}, which is {status}");
            hold!(!perhaps.is_empty(), "{decky} is unsure of nothing");
        }
    }
    for (id, tried) in &placement.tried {
        let status = row(id)?.status();
        hold!(status.is_open(), "{decky} is tried by row {id}, which is {status}");
        hold!(
            tried.begun == (status == Status::Running),
            "row {id} of {decky} is {status}, its placement says begun: {}",
            tried.begun
        );
    }
    for placed in placement.possibilities() {
        hold!(placed.config.name == *decky, "{decky} is placed as {}", placed.config.name);
    }
    Ok(())
}

/// Whether each address stands once, but for deckies that are being taken down.
fn addresses(all: &[Placement]) -> Result<(), Breach> {
    let mut holders: BTreeMap<IpAddr, &DeckyName> = BTreeMap::new();
    let goes = |placement: &Placement| placement.tried.values().any(|tried| tried.aim == Aim::Gone);
    for placement in all.iter().filter(|placement| !goes(placement)) {
        let ips: BTreeSet<IpAddr> =
            placement.standing_possibilities().iter().map(|placed| placed.config.ip).collect();
        for ip in ips {
            let other = holders.insert(ip, &placement.decky);
            hold!(other.is_none(), "{ip} is that of {} and of {other:?}", placement.decky);
        }
    }
    Ok(())
}

/// Whether every way to a placement leads to those that there are.
async fn ways(store: &dyn Store, all: &[Placement]) -> Result<(), Breach> {
    let deckies = all.iter().map(|placement| placement.decky.clone()).collect();
    let listed = store.placements(&PlacementQuery::Of(deckies)).await?;
    hold!(listed == all, "the placements are {all:?}, by name they are {listed:?}");
    let homes: BTreeSet<_> =
        all.iter().flat_map(Placement::possibilities).map(|placed| placed.home.clone()).collect();
    for home in homes {
        let query = PlacementQuery::At(home);
        let own: Vec<&Placement> = all.iter().filter(|placement| query.matches(placement)).collect();
        let listed = store.placements(&query).await?;
        hold!(listed.iter().eq(own.iter().copied()), "{query:?} gave {listed:?} of {own:?}");
    }
    Ok(())
}
