//! `mutate` and `undo`: other services for deckies that are placed.

use decnet_lifecycle::{
    DeckyName, Operation, Record, ServiceName, Status,
    placement::Placement,
    store::{PlacementQuery, Query, Store},
};

use super::{Ask, Asked, carry_out};
use crate::args::{Mutate, Undo};
use crate::home::Home;
use crate::output::Output;
use crate::{Complaint, Done};

pub async fn mutate(home: &Home, out: &Output, args: Mutate) -> Result<Done, Complaint> {
    let terms = args.terms.clone();
    carry_out(home, out, &terms, async |store| {
        let mut asks = Vec::with_capacity(args.deckies.len());
        for decky in &args.deckies {
            let services = match &args.services {
                Some(services) => services.clone(),
                None => changed(decky, now(store, decky).await?, &args)?,
            };
            asks.push(Ask::Mutate { decky: decky.clone(), services });
        }
        Ok(Asked::of(asks))
    })
    .await
}

/// The services that a decky has, or is to have, as far as is known.
async fn now(store: &dyn Store, decky: &DeckyName) -> Result<Vec<ServiceName>, Complaint> {
    let placement = store.placements(&PlacementQuery::Of(vec![decky.clone()])).await?.pop();
    match placement.as_ref().and_then(Placement::likeliest) {
        Some(placed) => Ok(placed.config.services.clone()),
        None => Err(Complaint(format!("there is no decky {decky}; `ps` shows what is placed"))),
    }
}

/// The services after some were added and some taken away.
fn changed(
    decky: &DeckyName,
    mut services: Vec<ServiceName>,
    args: &Mutate,
) -> Result<Vec<ServiceName>, Complaint> {
    if let Some(unknown) = args.remove.iter().find(|service| !services.contains(service)) {
        let has: Vec<&str> = services.iter().map(ServiceName::as_str).collect();
        return Err(Complaint(format!("{decky} has no {unknown} to remove; it has {}", has.join(", "))));
    }
    services.retain(|service| !args.remove.contains(service));
    for service in &args.add {
        if !services.contains(service) {
            services.push(service.clone());
        }
    }
    Ok(services)
}

pub async fn undo(home: &Home, out: &Output, args: Undo) -> Result<Done, Complaint> {
    let terms = args.terms.clone();
    carry_out(home, out, &terms, async |store| {
        let mut asks = Vec::with_capacity(args.deckies.len());
        for decky in &args.deckies {
            asks.push(Ask::Mutate { decky: decky.clone(), services: before(store, decky).await? });
        }
        Ok(Asked::of(asks))
    })
    .await
}

/// The services that a decky had before its last mutate.
async fn before(store: &dyn Store, decky: &DeckyName) -> Result<Vec<ServiceName>, Complaint> {
    let nothing = |why: &str| {
        Complaint(format!(
            "there is nothing to undo of {decky}: {why}; `mutate {decky} --services ..` sets any"
        ))
    };
    let last = newest_that_succeeded(store, decky).await?;
    let last = last.ok_or_else(|| nothing("no row of it has succeeded"))?;
    if last.operation != Operation::Mutate {
        return Err(nothing(&format!("its last change was a {}", last.operation)));
    }
    match store.set_aside(&[last.id]).await?.remove(&last.id) {
        Some(placed) => Ok(placed.config.services.clone()),
        None => Err(nothing("what was before its last mutate is not kept")),
    }
}

async fn newest_that_succeeded(store: &dyn Store, decky: &DeckyName) -> Result<Option<Record>, Complaint> {
    let query = Query::new().decky(decky.clone()).status(Status::Succeeded).limit(1);
    Ok(store.query(&query).await?.records.pop())
}
