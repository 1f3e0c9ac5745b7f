//! What becomes of placements.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::decide::{Batch, Change, Insert, Outcome, Overlap, Refusal, Step};
use crate::fleet::DeckyConfig;
use crate::lifecycle::{
    DeckyName, EngineName, FailureKind, HostId, Leaves, LifecycleId, MasterName, Operation, Record, Revision,
    ServiceName,
};
use crate::placement::{Aim, Clash, Home, Network, Placed, Placement, Standing};
use crate::store::{PlacementQuery, Query, Retention, Store};

use super::rows::*;
use super::{Fixture, Wrong};

fn master() -> Result<Home, Wrong> {
    Ok(Home::Master(MasterName::parse("master")?))
}

fn worker(name: &str) -> Result<Home, Wrong> {
    Ok(Home::Host(HostId::parse(name)?))
}

/// A decky on a worker, its address by its number.
fn placed(number: usize, home: Home) -> Result<Placed, Wrong> {
    let config = DeckyConfig {
        name: decky(number)?,
        ip: address(number),
        services: vec![ServiceName::parse("ssh")?],
        distro: "debian".to_owned(),
        base_image: "debian:12".to_owned(),
        build_base: "debian:12".to_owned(),
        hostname: "srv".to_owned(),
        archetype: None,
        service_config: std::collections::BTreeMap::new(),
        nmap_os: "linux".to_owned(),
        mutate_interval: Some(30),
        last_mutated: 0.5,
        last_login_attempt: 0.0,
        host_uuid: home.host().cloned(),
    };
    let network = Network {
        interface: "eth0".to_owned(),
        subnet: ipnet::IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 0)), 24),
        gateway: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        ipvlan: false,
    };
    Ok(Placed { config, network, home, engine: None, log_file: None, mutate_interval: Some(60) })
}

fn address(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, u8::try_from(number % 250).unwrap_or(0)))
}

fn in_network(mut placed: Placed, gateway: u8) -> Placed {
    placed.network.gateway = IpAddr::V4(Ipv4Addr::new(192, 0, 2, gateway));
    placed
}

/// The insert of a row that is to bring a decky up like this.
fn raising(number: usize, placed: &Placed, overlap: Overlap) -> Result<Change, Wrong> {
    let record = Record { decky: placed.config.name.clone(), ..row(number, 0)? };
    Ok(Change::Insert(Box::new(Insert::new(record, overlap).aim(Aim::Up(Arc::new(placed.clone()))))))
}

/// The insert of a row that is to take a decky down.
fn razing(number: usize, name: &DeckyName) -> Result<Change, Wrong> {
    let record = Record { decky: name.clone(), operation: Operation::Teardown, ..row(number, 0)? };
    Ok(Change::Insert(Box::new(Insert::new(record, Overlap::Reject).aim(Aim::Gone))))
}

async fn up(store: &dyn Store, number: usize, placed: &Placed) -> Result<Record, Wrong> {
    let row = running(store, raising(number, placed, Overlap::Reject)?).await?;
    applied(store, step(row.revision, ended(&row, 500))).await
}

async fn running(store: &dyn Store, insert: Change) -> Result<Record, Wrong> {
    let row = applied(store, insert).await?;
    applied(store, step(row.revision, started(&row, 400))).await
}

/// Fails a running row as one that nobody knows the end of.
async fn lost(store: &dyn Store, row: &Record) -> Result<Record, Wrong> {
    let next = failed(row, 600, "no word");
    let step = Step { expected: row.revision, next, leaves: Leaves::Unknown };
    applied(store, Change::Step(Box::new(step))).await
}

async fn of(store: &dyn Store, name: &DeckyName) -> Result<Option<Placement>, Wrong> {
    Ok(store.placements(&PlacementQuery::Of(vec![name.clone()])).await?.pop())
}

async fn standing(store: &dyn Store, name: &DeckyName) -> Result<Option<Standing>, Wrong> {
    Ok(of(store, name).await?.map(|placement| placement.standing))
}

fn is_up(standing: Option<&Standing>, as_placed: &Placed, by: LifecycleId) -> bool {
    matches!(standing, Some(Standing::Up { placed, row }) if **placed == *as_placed && *row == Some(by))
}

/// Whether a batch is refused as a whole, and at least once for such a clash.
fn refused_by(outcomes: &[Outcome], clash: fn(&Clash) -> bool) -> bool {
    let refused = outcomes.iter().all(|outcome| matches!(outcome, Outcome::Refused(_)));
    let by =
        |outcome: &Outcome| matches!(outcome, Outcome::Refused(Refusal::Clash(all)) if all.iter().any(clash));
    refused && outcomes.iter().any(by)
}

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
