//! Whether what a request took down is really out of the way of what it is to
//! bring up.

use std::collections::{BTreeMap, BTreeSet};

use crate::lifecycle::{DeckyName, Failure, FailureKind, Lifecycle, Pending};
use crate::placement::{Aim, Placed, Placement, Placements};
use crate::store::PlacementQuery;

use super::{Context, Rows};

/// Fails the rows whose decky is still somewhere else, or whose address is
/// still another's, and gives the others.
pub(super) async fn only(cx: &Context, rows: Vec<Lifecycle<Pending>>) -> Vec<Lifecycle<Pending>> {
    let placements: Placements = match cx.placements(&PlacementQuery::All).await {
        Ok(all) => all.into_iter().collect(),
        Err(error) => {
            let failure = Failure::new(FailureKind::Store, &format!("not started: {error}"));
            cx.fail(by_decky(rows), &failure).await;
            return Vec::new();
        }
    };
    // Those that come up together may change their addresses among themselves.
    // One that doesn't come up keeps its own, which may stand in another's way.
    let mut together: BTreeSet<DeckyName> = rows.iter().map(|row| row.decky().clone()).collect();
    let mut stopped: BTreeMap<DeckyName, String> = BTreeMap::new();
    loop {
        let waiting = rows.iter().filter(|row| together.contains(row.decky()));
        let more: BTreeMap<DeckyName, String> = waiting
            .filter_map(|row| Some((row.decky().clone(), in_the_way(row, &placements, &together)?)))
            .collect();
        if more.is_empty() {
            break;
        }
        together.retain(|decky| !more.contains_key(decky));
        stopped.extend(more);
    }
    let mut clear = Vec::new();
    for row in rows {
        match stopped.remove(row.decky()) {
            None => clear.push(row),
            Some(why) => {
                let failure = Failure::new(FailureKind::Clash, &why);
                cx.fail(by_decky(vec![row]), &failure).await;
            }
        }
    }
    clear
}

fn by_decky(rows: Vec<Lifecycle<Pending>>) -> Rows<Pending> {
    rows.into_iter().map(|row| (row.decky().clone(), row)).collect()
}

fn in_the_way(
    row: &Lifecycle<Pending>,
    placements: &Placements,
    together: &BTreeSet<DeckyName>,
) -> Option<String> {
    let own = placements.get(row.decky())?;
    let Some(Aim::Up(asked)) = own.tried.get(&row.id()).map(|tried| &tried.aim) else { return None };
    if let Some(there) = own.standing_possibilities().iter().find(|there| there.home != asked.home) {
        return Some(format!(
            "it was not taken down on {}, where it is or may be; see what became of its teardown, and ask again",
            there.home
        ));
    }
    let others = placements.having(asked.config.ip).filter(|other| !together.contains(&other.decky));
    others.into_iter().find(|other| holds(other, asked)).map(|other| {
        format!(
            "{} is still {}'s, which was not taken down; see what became of its teardown, and ask again",
            asked.config.ip, other.decky
        )
    })
}

fn holds(other: &Placement, asked: &Placed) -> bool {
    other.standing_possibilities().iter().any(|there| there.config.ip == asked.config.ip)
}
