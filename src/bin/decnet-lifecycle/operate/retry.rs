//! `retry`: what failed newest rows were to bring about, once more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use decnet_lifecycle::{
    DeckyName, LifecycleId, Operation, Record, Status,
    placement::{Network, Placed, Placement},
    store::{Query, Store},
};

use super::{Ask, Asked, carry_out};
use crate::args::Retry;
use crate::home::Home;
use crate::ls::pages;
use crate::output::Output;
use crate::{Complaint, Done};

pub async fn retry(home: &Home, out: &Output, args: Retry) -> Result<Done, Complaint> {
    carry_out(home, out, &args.terms, async |store| {
        let rows = match args.failed {
            true => newest_failed(store).await?,
            false => failed_of(store, &args.deckies).await?,
        };
        anew(store, &rows).await
    })
    .await
}

/// The newest row of each decky, where it has failed.
async fn newest_failed(store: &dyn Store) -> Result<Vec<Record>, Complaint> {
    let mut seen = BTreeSet::new();
    let mut rows = pages(store, Query::new(), usize::MAX).await?;
    rows.retain(|row| seen.insert(row.decky.clone()) && row.status() == Status::Failed);
    match rows.is_empty() {
        true => Err(Complaint("there is nothing to retry: no decky's newest row has failed".into())),
        false => Ok(rows),
    }
}

async fn failed_of(store: &dyn Store, deckies: &[DeckyName]) -> Result<Vec<Record>, Complaint> {
    let mut rows = Vec::with_capacity(deckies.len());
    for decky in deckies.iter().collect::<BTreeSet<_>>() {
        let newest = Query::new().decky(decky.clone()).limit(1);
        match store.query(&newest).await?.records.pop() {
            Some(row) if row.status() == Status::Failed => rows.push(row),
            Some(row) => {
                return Err(Complaint(format!(
                    "there is nothing to retry of {decky}: its newest row, a {}, is {}",
                    row.operation,
                    row.status()
                )));
            }
            None => return Err(Complaint(format!("there is no row of a decky {decky}"))),
        }
    }
    Ok(rows)
}

/// What all deckies of one fleet have in common: its network, whether it is a
/// swarm's, in which alone hosts count, and what it says of all.
type Common = (Network, bool, Option<String>, Option<i64>);

fn common(placed: &Placed) -> Common {
    let is_swarm = placed.home.host().is_some();
    (placed.network.clone(), is_swarm, placed.log_file.clone(), placed.mutate_interval)
}

/// What these rows asked for, as requests.
async fn anew(store: &dyn Store, rows: &[Record]) -> Result<Asked, Complaint> {
    let ids: Vec<LifecycleId> = rows.iter().map(|row| row.id).collect();
    let mut kept = store.set_aside(&ids).await?;
    let mut asked = Asked::default();
    let mut gone = BTreeSet::new();
    let mut fleets: BTreeMap<Common, Vec<Arc<Placed>>> = BTreeMap::new();
    for row in rows {
        if row.operation == Operation::Teardown {
            gone.insert(row.decky.clone());
            continue;
        }
        let Some(placed) = kept.remove(&row.id) else {
            asked.refused.push(Complaint(format!(
                "what row {} of {} was to bring about is not kept; `deploy FLEET --only {}` does it",
                row.id, row.decky, row.decky
            )));
            continue;
        };
        match row.operation {
            Operation::Mutate => {
                let services = placed.config.services.clone();
                asked.asks.push(Ask::Mutate { decky: row.decky.clone(), services });
            }
            _ => {
                asked.engine = asked.engine.or_else(|| placed.engine.clone());
                fleets.entry(common(&placed)).or_default().push(placed);
            }
        }
    }
    if !gone.is_empty() {
        asked.asks.push(Ask::Teardown(gone));
    }
    for placed in fleets.into_values() {
        let placed: Vec<Placement> =
            placed.into_iter().map(|placed| Placement::taken_over(Arc::unwrap_or_clone(placed))).collect();
        asked.asks.extend(Placement::fleet(&placed).map(|fleet| Ask::Deploy(Box::new(fleet))));
    }
    Ok(asked)
}
