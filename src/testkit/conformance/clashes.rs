//! What stands in the way of what is placed, and how deckies move.

use crate::decide::{Batch, Outcome, Overlap, Refusal};
use crate::lifecycle::{EngineName, Record};
use crate::placement::{Clash, Placed};
use crate::store::{PlacementQuery, Query, Store};

use super::placed::*;
use super::rows::*;
use super::{Fixture, Wrong};

/// A request with one good decky and one that can't be is refused whole.
async fn refuses_whole(
    store: &dyn Store,
    bad: &Placed,
    clash: fn(&Clash) -> bool,
    what: &str,
) -> Result<(), Wrong> {
    let good = placed(90, worker("w9")?)?;
    let before = store.placements(&PlacementQuery::All).await?;
    let rows = store.query(&Query::new()).await?.records;
    let feed = entries(store).await?;
    let batch = vec![raising(90, &good, Overlap::Reject)?, raising(91, bad, Overlap::Reject)?];
    let outcomes = store.commit(Batch::all_or_none(batch)).await?;
    ensure!(refused_by(&outcomes, clash), "{what}: the request gave {outcomes:?}");
    ensure!(store.placements(&PlacementQuery::All).await? == before, "{what}: it changed placements");
    ensure!(store.query(&Query::new()).await?.records == rows, "{what}: it made rows");
    ensure!(entries(store).await? == feed, "{what}: it is in the feed");
    let alone = one(store, raising(92, bad, Overlap::Reject)?).await?;
    ensure!(refused_by(&[alone], clash), "{what}: alone it was taken");
    Ok(())
}

pub(super) async fn clashes(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = placed(1, worker("w1")?)?;
    up(&*store, 1, &first).await?;
    let mut local = placed(2, master()?)?;
    local.engine = Some(EngineName::parse("compose")?);
    up(&*store, 2, &local).await?;
    // What an open row is to bring about is taken as well.
    let coming = placed(3, worker("w1")?)?;
    applied(&*store, raising(3, &coming, Overlap::Reject)?).await?;
    for taken in [&first, &coming] {
        let mut other = placed(4, worker("w2")?)?;
        other.config.ip = taken.config.ip;
        refuses_whole(&*store, &other, |clash| matches!(clash, Clash::Address { .. }), "a taken address")
            .await?;
    }
    let elsewhere = placed(1, worker("w2")?)?;
    let is_elsewhere = |clash: &Clash| matches!(clash, Clash::Elsewhere { .. });
    refuses_whole(&*store, &elsewhere, is_elsewhere, "a decky that is elsewhere").await?;
    let mut other = placed(5, master()?)?;
    other.engine = Some(EngineName::parse("process")?);
    refuses_whole(&*store, &other, |clash| matches!(clash, Clash::Engine { .. }), "another engine").await?;
    let other = in_network(placed(6, worker("w1")?)?, 254);
    refuses_whole(&*store, &other, |clash| matches!(clash, Clash::Network { .. }), "another network").await?;
    // Each for itself, the good one counts.
    let mut bad = placed(7, worker("w2")?)?;
    bad.config.ip = first.config.ip;
    let good = placed(8, worker("w2")?)?;
    let batch = vec![raising(93, &bad, Overlap::Reject)?, raising(94, &good, Overlap::Reject)?];
    let outcomes = store.commit(Batch::per_row(batch)).await?;
    ensure!(
        matches!(outcomes.as_slice(), [Outcome::Refused(Refusal::Clash(_)), Outcome::Applied { .. }]),
        "each for itself, a bad and a good decky gave {outcomes:?}"
    );
    // Two that come at once are in each other's way too.
    let mut twin = placed(9, worker("w2")?)?;
    twin.config.ip = address(10);
    let batch = vec![
        raising(95, &twin, Overlap::Reject)?,
        raising(96, &placed(10, worker("w2")?)?, Overlap::Reject)?,
    ];
    let outcomes = store.commit(Batch::all_or_none(batch)).await?;
    ensure!(
        refused_by(&outcomes, |clash| matches!(clash, Clash::Address { .. })),
        "one address for two deckies of a request gave {outcomes:?}"
    );
    Ok(())
}

pub(super) async fn network(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let home = worker("w1")?;
    for number in 1..=3 {
        up(&*store, number, &placed(number, home.clone())?).await?;
    }
    let other = |number| -> Result<_, Wrong> { Ok(in_network(placed(number, worker("w1")?)?, 254)) };
    let some = vec![raising(4, &other(1)?, Overlap::Reject)?, raising(5, &other(2)?, Overlap::Reject)?];
    let is_network = |clash: &Clash| matches!(clash, Clash::Network { .. });
    // Each for itself, every one of them leaves the others behind.
    let each = store.commit(Batch::per_row(some.clone())).await?;
    ensure!(
        each.iter().all(|outcome| refused_by(std::slice::from_ref(outcome), is_network)),
        "another network one by one gave {each:?}"
    );
    let outcomes = store.commit(Batch::all_or_none(some)).await?;
    ensure!(refused_by(&outcomes, is_network), "another network for some gave {outcomes:?}");
    let all = (1..=3)
        .map(|number| raising(10 + number, &other(number)?, Overlap::Reject))
        .collect::<Result<Vec<_>, Wrong>>()?;
    let outcomes = store.commit(Batch::all_or_none(all)).await?;
    ensure!(
        outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied { .. })),
        "another network for all gave {outcomes:?}"
    );
    let late = one(&*store, raising(20, &placed(4, home)?, Overlap::Reject)?).await?;
    ensure!(refused_by(&[late], is_network), "a home was given a decky in the network that it is leaving");
    Ok(())
}

pub(super) async fn moves(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let (here, there) = (placed(1, worker("w1")?)?, placed(1, worker("w2")?)?);
    let row = up(&*store, 1, &here).await?;
    // The address goes from one that is taken down to another.
    let mut old = placed(5, worker("w1")?)?;
    old.config.ip = address(6);
    up(&*store, 2, &old).await?;
    let heir = placed(6, worker("w1")?)?;
    let changes = vec![
        razing(10, &row.decky)?,
        raising(11, &there, Overlap::Reject)?,
        razing(12, &old.config.name)?,
        raising(13, &heir, Overlap::Reject)?,
    ];
    let outcomes = store.commit(Batch::all_or_none(changes)).await?;
    let rows: Vec<&Record> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Applied { record, superseded } if superseded.is_empty() => Some(&**record),
            _ => None,
        })
        .collect();
    let [gone, come, _, _] = rows.as_slice() else {
        return Err(Wrong(format!("a move gave {outcomes:?}")));
    };
    let now = of(&*store, &row.decky).await?;
    ensure!(
        now.as_ref().is_some_and(|now| is_up(Some(&now.standing), &here, row.id)
            && now.tried.keys().eq([&gone.id, &come.id])
            && now.revision == come.revision),
        "while it moves it is {now:?}"
    );
    let gone = applied(&*store, step(gone.revision, started(gone, 400))).await?;
    applied(&*store, step(gone.revision, ended(&gone, 500))).await?;
    let come = applied(&*store, step(come.revision, started(come, 600))).await?;
    applied(&*store, step(come.revision, ended(&come, 700))).await?;
    let now = standing(&*store, &row.decky).await?;
    ensure!(is_up(now.as_ref(), &there, come.id), "after the move it is {now:?}");
    let left = store.placements(&PlacementQuery::At(worker("w1")?)).await?;
    ensure!(left.iter().all(|left| left.decky != row.decky), "it is found where it moved from: {left:?}");
    // Only a teardown of the same batch is no other.
    applied(&*store, razing(20, &row.decky)?).await?;
    let late = one(&*store, raising(21, &there, Overlap::Reject)?).await?;
    ensure!(
        matches!(late, Outcome::Refused(Refusal::Busy { .. })),
        "a deploy beside an earlier teardown gave {late:?}"
    );
    Ok(())
}
