//! Deckies to place, and how they are brought up and lost.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::decide::{Change, Insert, Outcome, Overlap, Refusal, Step};
use crate::fleet::DeckyConfig;
use crate::lifecycle::{DeckyName, HostId, Leaves, LifecycleId, MasterName, Operation, Record, ServiceName};
use crate::placement::{Aim, Clash, Home, Network, Placed, Placement, Standing};
use crate::store::{PlacementQuery, Store};

use super::Wrong;
use super::rows::*;

pub(super) fn master() -> Result<Home, Wrong> {
    Ok(Home::Master(MasterName::parse("master")?))
}

pub(super) fn worker(name: &str) -> Result<Home, Wrong> {
    Ok(Home::Host(HostId::parse(name)?))
}

/// A decky on a worker, its address by its number.
pub(super) fn placed(number: usize, home: Home) -> Result<Placed, Wrong> {
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

pub(super) fn address(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, u8::try_from(number % 250).unwrap_or(0)))
}

pub(super) fn in_network(mut placed: Placed, gateway: u8) -> Placed {
    placed.network.gateway = IpAddr::V4(Ipv4Addr::new(192, 0, 2, gateway));
    placed
}

/// The insert of a row that is to bring a decky up like this.
pub(super) fn raising(number: usize, placed: &Placed, overlap: Overlap) -> Result<Change, Wrong> {
    let record = Record { decky: placed.config.name.clone(), ..row(number, 0)? };
    Ok(Change::Insert(Box::new(Insert::new(record, overlap).aim(Aim::Up(Arc::new(placed.clone()))))))
}

/// The insert of a row that is to take a decky down.
pub(super) fn razing(number: usize, name: &DeckyName) -> Result<Change, Wrong> {
    let record = Record { decky: name.clone(), operation: Operation::Teardown, ..row(number, 0)? };
    Ok(Change::Insert(Box::new(Insert::new(record, Overlap::Reject).aim(Aim::Gone))))
}

pub(super) async fn up(store: &dyn Store, number: usize, placed: &Placed) -> Result<Record, Wrong> {
    let row = running(store, raising(number, placed, Overlap::Reject)?).await?;
    applied(store, step(row.revision, ended(&row, 500))).await
}

pub(super) async fn running(store: &dyn Store, insert: Change) -> Result<Record, Wrong> {
    let row = applied(store, insert).await?;
    applied(store, step(row.revision, started(&row, 400))).await
}

/// Fails a running row as one that nobody knows the end of.
pub(super) async fn lost(store: &dyn Store, row: &Record) -> Result<Record, Wrong> {
    let next = failed(row, 600, "no word");
    let step = Step { expected: row.revision, next, leaves: Leaves::Unknown };
    applied(store, Change::Step(Box::new(step))).await
}

pub(super) async fn of(store: &dyn Store, name: &DeckyName) -> Result<Option<Placement>, Wrong> {
    Ok(store.placements(&PlacementQuery::Of(vec![name.clone()])).await?.pop())
}

pub(super) async fn standing(store: &dyn Store, name: &DeckyName) -> Result<Option<Standing>, Wrong> {
    Ok(of(store, name).await?.map(|placement| placement.standing))
}

pub(super) fn is_up(standing: Option<&Standing>, as_placed: &Placed, by: LifecycleId) -> bool {
    matches!(standing, Some(Standing::Up { placed, row }) if **placed == *as_placed && *row == Some(by))
}

/// Whether a batch is refused as a whole, and at least once for such a clash.
pub(super) fn refused_by(outcomes: &[Outcome], clash: fn(&Clash) -> bool) -> bool {
    let refused = outcomes.iter().all(|outcome| matches!(outcome, Outcome::Refused(_)));
    let by =
        |outcome: &Outcome| matches!(outcome, Outcome::Refused(Refusal::Clash(all)) if all.iter().any(clash));
    refused && outcomes.iter().any(by)
}
