//! The toy's placements: a list, searched from end to end. The rules are
//! written down anew here, as plainly as can be.

use decnet_lifecycle::placement::{Aim, Placed, Tried};
use decnet_lifecycle::{
    decide::Change,
    placement::{Clash, Placement, Standing},
    *,
};

use super::Fault;

/// What a request makes of one decky.
pub type Wish<'a> = (&'a DeckyName, &'a Aim);

/// What the inserts among these changes ask for.
pub fn wishes(changes: &[Change]) -> Vec<Wish<'_>> {
    let inserts = changes.iter().filter_map(|change| match change {
        Change::Insert(insert) => Some(insert),
        _ => None,
    });
    inserts.filter_map(|insert| Some((&insert.record.decky, insert.aim.as_ref()?))).collect()
}

/// What is, may be or shall be there.
fn all_of(placement: &Placement) -> Vec<std::sync::Arc<Placed>> {
    let mut all = perhaps(placement);
    for tried in placement.tried.values() {
        if let Aim::Up(placed) = &tried.aim {
            all.push(placed.clone());
        }
    }
    all
}

fn perhaps(placement: &Placement) -> Vec<std::sync::Arc<Placed>> {
    match &placement.standing {
        Standing::Nothing => vec![],
        Standing::Up { placed, .. } => vec![placed.clone()],
        Standing::Unsure { perhaps, .. } => perhaps.clone(),
    }
}

/// Why a decky can't be up like this, given all that is asked for at once.
pub fn in_the_way(
    fault: Fault,
    placements: &[Placement],
    wishes: &[Wish<'_>],
    decky: &DeckyName,
    wanted: &Placed,
) -> Vec<Clash> {
    let goes = |name: &DeckyName| wishes.iter().any(|(other, aim)| *other == name && **aim == Aim::Gone);
    let comes =
        |name: &DeckyName| wishes.iter().any(|(other, aim)| *other == name && matches!(aim, Aim::Up(_)));
    let mut others: Vec<(&DeckyName, std::sync::Arc<Placed>, bool)> = Vec::new();
    for placement in placements {
        for placed in all_of(placement) {
            if fault == Fault::UnsureFreesItsAddress && matches!(placement.standing, Standing::Unsure { .. })
            {
                continue;
            }
            others.push((&placement.decky, placed, true));
        }
    }
    for (name, aim) in wishes {
        if let Aim::Up(placed) = aim {
            others.push((name, placed.clone(), false));
        }
    }
    let mut clashes = Vec::new();
    for (name, other, is_there) in others {
        let (own, stays) = (name == decky, !goes(name) && !comes(name));
        // Of two that come together, the first by name is not in its own way.
        let counts = if is_there { stays } else { name < decky };
        if counts && !own && other.config.ip == wanted.config.ip && fault != Fault::SharesAddresses {
            let (ip, holder) = (other.config.ip, name.clone());
            clashes.push(Clash::Address { decky: decky.clone(), ip, holder });
        }
        if is_there && own && !goes(name) && other.home != wanted.home && fault != Fault::PlacesTwice {
            let (at, asked) = (other.home.clone(), wanted.home.clone());
            clashes.push(Clash::Elsewhere { decky: decky.clone(), at, asked });
        }
        if other.home != wanted.home {
            continue;
        }
        if counts && !own && other.network != wanted.network && fault != Fault::SplitsNetworks {
            clashes.push(Clash::Network {
                decky: decky.clone(),
                home: wanted.home.clone(),
                asked: Box::new(wanted.network.clone()),
                there: Box::new(other.network.clone()),
                stays: name.clone(),
            });
        }
        let runs = if is_there { !goes(name) } else { name < decky };
        if let (Some(there), Some(asked)) = (&other.engine, &wanted.engine)
            && runs
            && there != asked
            && fault != Fault::MixesEngines
        {
            let (there, asked, runs) = (there.clone(), asked.clone(), name.clone());
            clashes.push(Clash::Engine { decky: decky.clone(), asked, there, runs });
        }
    }
    clashes
}

/// What the end of a row comes to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    AsTried,
    AsBefore,
    Unsure,
}

fn find(placements: &mut Vec<Placement>, decky: &DeckyName) -> usize {
    if let Some(place) = placements.iter().position(|placement| placement.decky == *decky) {
        return place;
    }
    placements.push(Placement::nothing(decky.clone()));
    placements.len() - 1
}

fn tidy(placements: &mut Vec<Placement>) {
    placements.retain(|placement| placement.standing != Standing::Nothing || !placement.tried.is_empty());
}

/// A row was made that is to bring this about.
pub fn note(placements: &mut Vec<Placement>, row: &Record, aim: &Aim) {
    let place = find(placements, &row.decky);
    placements[place].tried.insert(row.id, Tried { aim: aim.clone(), begun: false });
    placements[place].revision = row.revision;
}

/// The row is running.
pub fn begin(placements: &mut Vec<Placement>, row: &Record) {
    let place = find(placements, &row.decky);
    if let Some(tried) = placements[place].tried.get_mut(&row.id) {
        tried.begun = true;
        placements[place].revision = row.revision;
    }
    tidy(placements);
}

/// The row has ended.
pub fn end(fault: Fault, placements: &mut Vec<Placement>, row: &Record, end: End) {
    let place = find(placements, &row.decky);
    let placement = &mut placements[place];
    if let Some(tried) = placement.tried.remove(&row.id) {
        if fault != Fault::EffectWithoutRevision {
            placement.revision = row.revision;
        }
        let names = (fault != Fault::UpNamesNoRow).then_some(row.id);
        let before = placement.standing.clone();
        match (end, tried.aim) {
            (End::AsBefore, _) => {}
            (End::AsTried, Aim::Up(placed)) => placement.standing = Standing::Up { placed, row: names },
            (End::AsTried, Aim::Gone) => placement.standing = Standing::Nothing,
            (End::Unsure, aim) => {
                let mut maybe = perhaps(placement);
                if let Aim::Up(placed) = aim {
                    maybe.retain(|other| *other != placed);
                    maybe.push(placed);
                }
                while maybe.len() > Placement::MAX_PERHAPS {
                    maybe.remove(0);
                }
                if !maybe.is_empty() {
                    placement.standing = Standing::Unsure { perhaps: maybe, row: row.id };
                }
            }
        }
        if fault == Fault::SuccessChangesNothing && end == End::AsTried {
            placement.standing = before;
        }
    }
    tidy(placements);
}
