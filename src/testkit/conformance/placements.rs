//! What becomes of placements.

use std::sync::Arc;

use crate::decide::{Batch, Change, Insert, Outcome, Overlap, Refusal};
use crate::lifecycle::{DeckyName, EngineName, FailureKind, LifecycleId, Record, Revision, ServiceName};
use crate::placement::{Aim, Clash, Placed, Placement, Standing};
use crate::store::{PlacementQuery, Query, Retention};

use super::placed::*;
use super::rows::*;
use super::{Fixture, Wrong};

pub(super) async fn noted(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let wanted = placed(1, worker("w1")?)?;
    let row = applied(&*store, raising(1, &wanted, Overlap::Reject)?).await?;
    let Some(placement) = of(&*store, &row.decky).await? else {
        return Err(Wrong("an insert noted nothing of what its row is to bring about".into()));
    };
    ensure!(placement.standing == Standing::Nothing, "an insert placed its decky: {placement:?}");
    let tried = placement.tried.get(&row.id);
    ensure!(
        tried.is_some_and(|tried| !tried.begun && tried.aim == Aim::Up(Arc::new(wanted.clone()))),
        "an insert noted {tried:?}"
    );
    // A row without an aim leaves its decky's placement alone.
    let other = inserted(&*store, 2, 2).await?;
    ensure!(of(&*store, &other.decky).await?.is_none(), "a row without an aim has a placement");
    applied(&*store, step(row.revision, started(&row, 3))).await?;
    let begun = of(&*store, &row.decky).await?.is_some_and(|now| {
        now.standing == Standing::Nothing && now.tried.get(&row.id).is_some_and(|tried| tried.begun)
    });
    ensure!(begun, "a running row's placement does not say that it was begun");
    Ok(())
}

pub(super) async fn succeeds(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = placed(1, worker("w1")?)?;
    let row = up(&*store, 1, &first).await?;
    let now = of(&*store, &row.decky).await?;
    ensure!(
        now.as_ref().is_some_and(|now| now.tried.is_empty() && is_up(Some(&now.standing), &first, row.id)),
        "after a success it is {now:?}"
    );
    let second = first.with_services(vec![ServiceName::parse("ftp")?]);
    let mutated = up(&*store, 2, &second).await?;
    let now = standing(&*store, &row.decky).await?;
    ensure!(is_up(now.as_ref(), &second, mutated.id), "after a second success it is {now:?}");
    let gone = running(&*store, razing(3, &row.decky)?).await?;
    let now = of(&*store, &row.decky).await?;
    ensure!(
        now.as_ref().is_some_and(|now| is_up(Some(&now.standing), &second, mutated.id)
            && now.tried.get(&gone.id).is_some_and(|tried| tried.begun && tried.aim == Aim::Gone)),
        "while it is taken down it is {now:?}"
    );
    applied(&*store, step(gone.revision, ended(&gone, 500))).await?;
    ensure!(of(&*store, &row.decky).await?.is_none(), "a torn-down decky is still placed");
    // Its address is free again.
    let mut heir = placed(2, worker("w1")?)?;
    heir.config.ip = first.config.ip;
    up(&*store, 4, &heir).await?;
    Ok(())
}

pub(super) async fn decided_on(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = placed(1, worker("w1")?)?;
    let again = |number, at| -> Result<Change, Wrong> {
        let record = Record { decky: first.config.name.clone(), ..row(number, 0)? };
        let insert = Insert::new(record, Overlap::Reject).aim(Aim::Up(Arc::new(first.clone())));
        Ok(Change::Insert(Box::new(insert.placed_at(at))))
    };
    let is_refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused(Refusal::PlacedOtherwise(_)));
    let outcome = one(&*store, again(1, Revision::ZERO)?).await?;
    ensure!(is_refused(&outcome), "a row for a decky that isn't placed gave {outcome:?}");
    let row = up(&*store, 2, &first).await?;
    let Some(now) = of(&*store, &row.decky).await? else { return Err(Wrong("it is not placed".into())) };
    let second = applied(&*store, again(3, now.revision)?).await?;
    applied(&*store, step(second.revision, failed(&second, 500, "no"))).await?;
    // What has come and gone meanwhile left all as it was, and is an answer.
    let outcome = one(&*store, again(4, now.revision)?).await?;
    ensure!(is_refused(&outcome), "a row that was decided on an earlier revision gave {outcome:?}");
    let gone = running(&*store, razing(5, &row.decky)?).await?;
    applied(&*store, step(gone.revision, ended(&gone, 600))).await?;
    let outcome = one(&*store, again(6, now.revision)?).await?;
    ensure!(is_refused(&outcome), "a row for a decky that was torn down meanwhile gave {outcome:?}");
    Ok(())
}

pub(super) async fn fails(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = placed(1, worker("w1")?)?;
    let row = up(&*store, 1, &first).await?;
    let second = first.with_services(vec![ServiceName::parse("ftp")?]);
    // One that never ran, and one whose engine says that it put all back.
    let pending = applied(&*store, raising(2, &second, Overlap::Reject)?).await?;
    applied(&*store, step(pending.revision, failed(&pending, 500, "no"))).await?;
    let mutate = running(&*store, raising(3, &second, Overlap::Reject)?).await?;
    applied(&*store, step(mutate.revision, failed(&mutate, 500, "no"))).await?;
    let gone = running(&*store, razing(4, &row.decky)?).await?;
    applied(&*store, step(gone.revision, failed(&gone, 500, "no"))).await?;
    let now = of(&*store, &row.decky).await?;
    ensure!(
        now.as_ref().is_some_and(|now| now.tried.is_empty() && is_up(Some(&now.standing), &first, row.id)),
        "after definite failures it is {now:?}"
    );
    let other = placed(2, worker("w1")?)?;
    let new = running(&*store, raising(5, &other, Overlap::Reject)?).await?;
    applied(&*store, step(new.revision, failed(&new, 500, "no"))).await?;
    let now = of(&*store, &new.decky).await?;
    ensure!(now.is_none(), "a decky that never came up is placed: {now:?}");
    Ok(())
}

pub(super) async fn unknown(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = placed(1, worker("w1")?)?;
    let row = up(&*store, 1, &first).await?;
    let mut second = first.clone();
    second.config.ip = address(77);
    let moved = running(&*store, raising(2, &second, Overlap::Reject)?).await?;
    let moved = lost(&*store, &moved).await?;
    let now = standing(&*store, &row.decky).await?;
    let both = [Arc::new(first.clone()), Arc::new(second.clone())];
    ensure!(
        matches!(&now, Some(Standing::Unsure { perhaps, row }) if *perhaps == both && *row == moved.id),
        "after a row of which nobody knows the end it is {now:?}"
    );
    for ip in [first.config.ip, second.config.ip] {
        let mut other = placed(2, worker("w2")?)?;
        other.config.ip = ip;
        let outcome = one(&*store, raising(3, &other, Overlap::Reject)?).await?;
        ensure!(
            refused_by(&[outcome], |clash| matches!(clash, Clash::Address { .. })),
            "the address {ip}, which an unsure decky may have, was given away"
        );
    }
    // A kind of failure says by itself what it leaves.
    let third = running(&*store, raising(4, &placed(3, worker("w1")?)?, Overlap::Reject)?).await?;
    let mut next = failed(&third, 500, "x");
    next.phase = crate::lifecycle::Phase::Failed {
        since: third.running_since(),
        at: at(500),
        failure: crate::lifecycle::Failure::new(FailureKind::WorkerLost, "x"),
    };
    applied(&*store, step(third.revision, next)).await?;
    let now = standing(&*store, &third.decky).await?;
    ensure!(matches!(now, Some(Standing::Unsure { .. })), "after its worker was lost it is {now:?}");
    // A teardown that nobody knows the end of leaves it unsure, one that
    // succeeds takes all of it away.
    let gone = running(&*store, razing(5, &third.decky)?).await?;
    lost(&*store, &gone).await?;
    let now = standing(&*store, &third.decky).await?;
    ensure!(
        matches!(&now, Some(Standing::Unsure { row, .. }) if *row == gone.id),
        "after a teardown of which nobody knows the end it is {now:?}"
    );
    let gone = running(&*store, razing(6, &third.decky)?).await?;
    applied(&*store, step(gone.revision, ended(&gone, 500))).await?;
    ensure!(of(&*store, &third.decky).await?.is_none(), "a torn-down decky is still placed");
    // Of a new decky it is at most as tried.
    let again = up(&*store, 7, &first).await?;
    let now = standing(&*store, &again.decky).await?;
    ensure!(is_up(now.as_ref(), &first, again.id), "settled by a success it is {now:?}");
    Ok(())
}

pub(super) async fn superseded(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = placed(1, worker("w1")?)?;
    let second = first.with_services(vec![ServiceName::parse("ftp")?]);
    let third = first.with_services(vec![ServiceName::parse("smtp")?]);
    let row = up(&*store, 1, &first).await?;
    applied(&*store, raising(2, &second, Overlap::Reject)?).await?;
    let newer = applied(&*store, raising(3, &third, Overlap::Supersede)?).await?;
    let now = of(&*store, &row.decky).await?;
    ensure!(
        now.as_ref().is_some_and(|now| is_up(Some(&now.standing), &first, row.id)
            && now.tried.keys().eq([&newer.id])
            && now.revision == newer.revision),
        "after a pending row was superseded it is {now:?}"
    );
    let newer = applied(&*store, step(newer.revision, started(&newer, 400))).await?;
    let last = applied(&*store, raising(4, &second, Overlap::Supersede)?).await?;
    let now = of(&*store, &row.decky).await?;
    let both = [Arc::new(first), Arc::new(third)];
    ensure!(
        now.as_ref().is_some_and(|now| {
            matches!(&now.standing, Standing::Unsure { perhaps, row } if *perhaps == both && *row == newer.id)
                && now.tried.keys().eq([&last.id])
        }),
        "after a running row was superseded it is {now:?}"
    );
    Ok(())
}

pub(super) async fn taken_over(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let there = placed(1, worker("w1")?)?;
    let name = there.config.name.clone();
    let place = |placed: &Placed| Change::Place(Box::new(Placement::taken_over(placed.clone())));
    for _ in 0..2 {
        let outcome = one(&*store, place(&there)).await?;
        ensure!(matches!(&outcome, Outcome::Placed(placed) if *placed == name), "placing gave {outcome:?}");
        let now = standing(&*store, &name).await?;
        ensure!(
            matches!(&now, Some(Standing::Up { placed, row: None }) if **placed == there),
            "a decky that was taken over is {now:?}"
        );
    }
    ensure!(entries(&*store).await?.is_empty(), "placing is a change of no row, but it is in the feed");
    let otherwise = one(&*store, place(&there.with_services(vec![]))).await?;
    ensure!(
        matches!(otherwise, Outcome::Refused(Refusal::PlacedOtherwise(_))),
        "placing it otherwise gave {otherwise:?}"
    );
    let mut other = placed(2, worker("w1")?)?;
    other.config.ip = there.config.ip;
    let clash = one(&*store, place(&other)).await?;
    ensure!(
        refused_by(&[clash], |clash| matches!(clash, Clash::Address { .. })),
        "a decky was taken over onto a taken address"
    );
    let unknown = LifecycleId::from_u128(5);
    let standing = Standing::Up { placed: Arc::new(placed(3, worker("w1")?)?), row: Some(unknown) };
    let bad = Placement::from_parts(decky(3)?, standing, std::collections::BTreeMap::new(), Revision::ZERO);
    let missing = one(&*store, Change::Place(Box::new(bad))).await?;
    ensure!(
        matches!(missing, Outcome::Refused(Refusal::Missing(id)) if id == unknown),
        "placing by a row that is not there gave {missing:?}"
    );
    let nothing = one(&*store, Change::Place(Box::new(Placement::nothing(decky(4)?)))).await?;
    ensure!(matches!(nothing, Outcome::Placed(_)), "placing nothing gave {nothing:?}");
    ensure!(of(&*store, &decky(4)?).await?.is_none(), "a placement that says nothing is kept");

    let row = applied(&*store, razing(1, &name)?).await?;
    let busy = one(&*store, Change::Forget(name.clone())).await?;
    ensure!(
        matches!(&busy, Outcome::Refused(Refusal::Busy { open, .. }) if *open == [row.id]),
        "forgetting a busy decky gave {busy:?}"
    );
    applied(&*store, step(row.revision, failed(&row, 5, "no"))).await?;
    for _ in 0..2 {
        let forgotten = one(&*store, Change::Forget(name.clone())).await?;
        ensure!(matches!(forgotten, Outcome::Placed(_)), "forgetting gave {forgotten:?}");
        ensure!(of(&*store, &name).await?.is_none(), "a decky that was forgotten is still placed");
    }
    up(&*store, 9, &other).await?;
    Ok(())
}

pub(super) async fn found(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    for number in [3, 1, 2] {
        let home = if number == 2 { master()? } else { worker("w1")? };
        up(&*store, number, &placed(number, home)?).await?;
    }
    // May be at w1, is to be at w10: both count.
    let unsure = running(&*store, raising(10, &placed(4, worker("w1")?)?, Overlap::Reject)?).await?;
    lost(&*store, &unsure).await?;
    applied(&*store, raising(11, &placed(5, worker("w10")?)?, Overlap::Reject)?).await?;
    let names = |placements: Vec<Placement>| -> Vec<DeckyName> {
        placements.into_iter().map(|placement| placement.decky).collect()
    };
    let deckies = |numbers: &[usize]| -> Result<Vec<DeckyName>, Wrong> {
        Ok(numbers.iter().map(|number| decky(*number)).collect::<Result<_, _>>()?)
    };
    let cases = [
        (PlacementQuery::All, deckies(&[1, 2, 3, 4, 5])?),
        (PlacementQuery::Of(deckies(&[9, 4, 1, 1])?), deckies(&[1, 4])?),
        (PlacementQuery::Of(vec![]), vec![]),
        (PlacementQuery::At(worker("w1")?), deckies(&[1, 3, 4])?),
        (PlacementQuery::At(worker("w10")?), deckies(&[5])?),
        (PlacementQuery::At(worker("master")?), vec![]),
        (PlacementQuery::At(master()?), deckies(&[2])?),
    ];
    for (query, wanted) in cases {
        let found = names(store.placements(&query).await?);
        ensure!(found == wanted, "{query:?} gave {found:?} instead of {wanted:?}");
    }
    Ok(())
}

pub(super) async fn undone(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = placed(1, worker("w1")?)?;
    let row = up(&*store, 1, &first).await?;
    let open = running(&*store, raising(2, &placed(2, worker("w1")?)?, Overlap::Reject)?).await?;
    let busy = inserted(&*store, 3, 30).await?;
    let before = store.placements(&PlacementQuery::All).await?;
    // A step, an insert that supersedes, a decky placed and one forgotten, and
    // then one change that can't be.
    let changes = vec![
        raising(4, &placed(3, worker("w1")?)?, Overlap::Reject)?,
        step(open.revision, ended(&open, 500)),
        raising(5, &first.with_services(vec![]), Overlap::Supersede)?,
        Change::Place(Box::new(Placement::taken_over(placed(4, worker("w1")?)?))),
        Change::Forget(decky(2)?),
        insert(row_of(6, &busy)?, Overlap::Reject),
    ];
    let outcomes = store.commit(Batch::all_or_none(changes)).await?;
    ensure!(
        outcomes.iter().all(|outcome| matches!(outcome, Outcome::Refused(_))),
        "a torn all-or-none batch gave {outcomes:?}"
    );
    let after = store.placements(&PlacementQuery::All).await?;
    ensure!(after == before, "a refused batch left {after:?} instead of {before:?}");
    let now = standing(&*store, &row.decky).await?;
    ensure!(is_up(now.as_ref(), &first, row.id), "after a refused batch it is {now:?}");
    // What it would have taken is free.
    up(&*store, 7, &placed(3, worker("w1")?)?).await?;
    Ok(())
}

fn row_of(number: usize, other: &Record) -> Result<Record, Wrong> {
    Ok(Record { decky: other.decky.clone(), ..row(number, 0)? })
}

pub(super) async fn pruned(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = placed(1, worker("w1")?)?;
    let old = up(&*store, 1, &first).await?;
    let row = up(&*store, 2, &first.with_services(vec![])).await?;
    let unsure = running(&*store, raising(3, &placed(2, worker("w1")?)?, Overlap::Reject)?).await?;
    let unsure = lost(&*store, &unsure).await?;
    let policy = Retention::closed_before(at(10_000));
    while store.prune(&policy).await?.more {}
    let left: Vec<LifecycleId> = store.query(&Query::new()).await?.records.iter().map(|row| row.id).collect();
    ensure!(
        left == [unsure.id, row.id],
        "of {}, {} and {} prune left {left:?}: rows that a placement names stay, others go",
        old.id,
        row.id,
        unsure.id
    );
    let gone = running(&*store, razing(4, &row.decky)?).await?;
    applied(&*store, step(gone.revision, ended(&gone, 500))).await?;
    while store.prune(&policy).await?.more {}
    let left: Vec<LifecycleId> = store.query(&Query::new()).await?.records.iter().map(|row| row.id).collect();
    ensure!(left == [unsure.id], "a row that no placement names any more was left: {left:?}");
    Ok(())
}

pub(super) async fn revisions(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let first = placed(1, worker("w1")?)?;
    let name = first.config.name.clone();
    let same = |placement: Option<Placement>, row: &Record| {
        let found = placement.map(|placement| placement.revision);
        if found == Some(row.revision) {
            return Ok(());
        }
        let (status, revision) = (row.status(), row.revision);
        Err(Wrong(format!("{status} at {revision}, its placement changed at {found:?}")))
    };
    let row = applied(&*store, raising(1, &first, Overlap::Reject)?).await?;
    same(of(&*store, &name).await?, &row)?;
    let row = applied(&*store, step(row.revision, started(&row, 2))).await?;
    same(of(&*store, &name).await?, &row)?;
    inserted(&*store, 2, 50).await?;
    let row = applied(&*store, step(row.revision, ended(&row, 3))).await?;
    same(of(&*store, &name).await?, &row)?;
    let row = running(&*store, raising(3, &first.with_services(vec![]), Overlap::Reject)?).await?;
    let row = lost(&*store, &row).await?;
    same(of(&*store, &name).await?, &row)?;
    // A row of the decky that has nothing to bring about leaves it alone.
    let other = applied(&*store, insert(row_of(4, &row)?, Overlap::Reject)).await?;
    applied(&*store, step(other.revision, failed(&other, 900, "x"))).await?;
    same(of(&*store, &name).await?, &row)
}

pub(super) async fn reopens(fixture: &dyn Fixture) -> Result<(), Wrong> {
    let store = fixture.fresh().await;
    let mut first = placed(1, master()?)?;
    first.engine = Some(EngineName::parse("compose")?);
    first.log_file = Some("/var/log/decnet.log".to_owned());
    first.config.archetype = Some("printer".to_owned());
    let mut settings = serde_json::Map::new();
    settings
        .insert("banner".to_owned(), serde_json::json!({ "text": "\u{1f41d}", "numbers": [1, -2.5, null] }));
    first.config.service_config.insert("ssh".to_owned(), settings);
    let row = up(&*store, 1, &first).await?;
    let unsure = running(&*store, raising(2, &placed(2, worker("w1")?)?, Overlap::Reject)?).await?;
    lost(&*store, &unsure).await?;
    let open = running(&*store, raising(3, &placed(3, worker("w1")?)?, Overlap::Reject)?).await?;
    applied(&*store, razing(4, &row.decky)?).await?;
    let before = store.placements(&PlacementQuery::All).await?;
    ensure!(
        before.first().is_some_and(|first_one| is_up(Some(&first_one.standing), &first, row.id)),
        "a placement reads back differently: {before:?}"
    );
    let Some(store) = fixture.reopen(store).await else {
        return Ok(());
    };
    let after = store.placements(&PlacementQuery::All).await?;
    ensure!(after == before, "after reopening {after:?} instead of {before:?}");
    let at = store.placements(&PlacementQuery::At(worker("w1")?)).await?;
    ensure!(at.len() == 2, "after reopening {at:?} are found by their home");
    let mut other = placed(4, worker("w1")?)?;
    other.config.ip = address(2);
    let clash = one(&*store, raising(5, &other, Overlap::Reject)?).await?;
    ensure!(
        refused_by(&[clash], |clash| matches!(clash, Clash::Address { .. })),
        "after reopening a taken address was given away"
    );
    let open = applied(&*store, step(open.revision, ended(&open, 800))).await?;
    let now = standing(&*store, &open.decky).await?;
    ensure!(
        matches!(now, Some(Standing::Up { row: Some(row), .. }) if row == open.id),
        "a row that was open over the reopening left {now:?}"
    );
    Ok(())
}
