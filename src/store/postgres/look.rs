//! What decisions need, read under the lock in one round trip.

use std::collections::BTreeMap;

use futures_util::future::{join, join3};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::decide::{Batch, Change, Decision, KeyEntry, Needs, Outcome, Seen};
use crate::lifecycle::{DeckyName, RequestKey, Revision};
use crate::placement::{Aim, Home};
use crate::store::StoreError;

use super::connect::Param;
use super::error::Trouble;
use super::placed;
use super::rows::{self, id_of, uuid};
use super::tables::{Schema, begin};

/// What was found under the lock.
pub(super) struct Looked {
    pub(super) head: Revision,
    pub(super) xid: String,
    pub(super) seen: Seen,
    /// Deckies whose placement can't be read, by name.
    pub(super) unplaced: BTreeMap<String, StoreError>,
}

pub(super) async fn look(client: &Client, schema: &Schema, needs: &Needs) -> Result<Looked, Trouble> {
    let ids: Vec<Uuid> = needs.rows.iter().map(|id| uuid(*id)).collect();
    let open_of: Vec<&str> = needs.open_of.iter().map(DeckyName::as_str).collect();
    let keys: Vec<&str> = needs.keys.iter().map(RequestKey::as_str).collect();
    let deckies: Vec<&str> = needs.deckies.iter().map(DeckyName::as_str).collect();
    let homes: Vec<String> = needs.homes.iter().map(Home::key).collect();
    let addresses: Vec<String> = needs.addresses.iter().map(ToString::to_string).collect();
    let begin = begin(schema);
    let head = format!("select head, pg_current_xact_id()::text from {schema}.meta");
    let columns = rows::COLUMNS;
    let by_id = format!("select {columns} from {schema}.lifecycles where id = any($1)");
    let open =
        format!("select {columns} from {schema}.lifecycles where decky = any($1) and deadline is not null");
    let known = format!("select key, hash, ids from {schema}.keys where key = any($1)");
    let placed = format!("select {} from {schema}.placements where decky = any($1)", placed::COLUMNS);
    // Each index by itself: one condition of all three could use none of them.
    let around = format!(
        "select {0} from {schema}.placements where homes && $1 union all \
         select {0} from {schema}.placements where addresses && $2 and not homes && $1",
        placed::COLUMNS
    );
    // Polled in this order, and so sent in it, before any is answered.
    let near: [Param<'_>; 2] = [(&homes, Type::TEXT_ARRAY), (&addresses, Type::TEXT_ARRAY)];
    let nobody_near = homes.is_empty() && addresses.is_empty();
    let ((begun, head), (by_id, open, known), (placed, around)) = join3(
        join(client.batch_execute(&begin), client.query_typed(&head, &[])),
        join3(
            asked(client, &by_id, [(&ids, Type::UUID_ARRAY)], ids.is_empty()),
            asked(client, &open, [(&open_of, Type::TEXT_ARRAY)], open_of.is_empty()),
            asked(client, &known, [(&keys, Type::TEXT_ARRAY)], keys.is_empty()),
        ),
        join(
            asked(client, &placed, [(&deckies, Type::TEXT_ARRAY)], deckies.is_empty()),
            asked(client, &around, near, nobody_near),
        ),
    )
    .await;
    begun?;
    let head = head?;
    let head = head.first().ok_or_else(|| StoreError::Corrupt { what: format!("{schema}.meta is empty") })?;
    let mut looked = Looked {
        head: revision(head.try_get(0)?)?,
        xid: head.try_get(1)?,
        seen: Seen::default(),
        unplaced: BTreeMap::new(),
    };
    for row in by_id?.iter().chain(&open?) {
        looked.seen.row(rows::record(row)?);
    }
    for row in &known? {
        let (key, entry) = key_entry(row)?;
        looked.seen.key(key, entry);
    }
    for row in placed?.iter().chain(&around?) {
        match placed::placement(row) {
            Ok(placement) => looked.seen.placement(placement),
            Err((decky, error)) => drop(looked.unplaced.insert(decky, error)),
        }
    }
    Ok(looked)
}

/// Asks, unless there is nothing to ask for.
async fn asked<const N: usize>(
    client: &Client,
    statement: &str,
    params: [Param<'_>; N],
    nothing: bool,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    if nothing {
        return Ok(Vec::new());
    }
    client.query_typed(statement, &params).await
}

fn revision(number: i64) -> Result<Revision, StoreError> {
    let wrong = |_| StoreError::Corrupt { what: format!("table meta: {number} is no revision") };
    u64::try_from(number).map(Revision::new).map_err(wrong)
}

fn key_entry(row: &Row) -> Result<(RequestKey, KeyEntry), StoreError> {
    let name = row.try_get::<_, &str>(0).unwrap_or("?");
    let read = || {
        let key = RequestKey::parse(name).ok()?;
        let hash: [u8; 32] = row.try_get::<_, &[u8]>(1).ok()?.try_into().ok()?;
        let ids: Vec<Uuid> = row.try_get(2).ok()?;
        Some((key, KeyEntry { hash, ids: ids.into_iter().map(id_of).collect() }))
    };
    read().ok_or_else(|| StoreError::Corrupt { what: format!("table keys, key {name}: it is none of ours") })
}

/// Nothing new is made of a decky whose placement can't be read, nor of one
/// beside it that might want its address. Its rows may end, and it may be
/// forgotten.
pub(super) fn can_place(
    unplaced: &BTreeMap<String, StoreError>,
    batches: &[Batch],
) -> Result<(), StoreError> {
    let Some(any) = unplaced.values().next() else { return Ok(()) };
    for change in batches.iter().flat_map(|batch| &batch.changes) {
        let (decky, places) = match change {
            Change::Insert(insert) => (&insert.record.decky, matches!(insert.aim, Some(Aim::Up(_)))),
            Change::Place(placement) => (&placement.decky, true),
            Change::Step(_) | Change::Annotate(_) | Change::Forget(_) => continue,
        };
        if let Some(error) = unplaced.get(decky.as_str()).or(places.then_some(any)) {
            return Err(error.clone());
        }
    }
    Ok(())
}

/// Deckies that were forgotten, and whose placement can't be read: the decision
/// doesn't know what is to go.
pub(super) fn unreadable_forgotten(
    unplaced: &BTreeMap<String, StoreError>,
    batches: &[Batch],
    decision: &Decision,
) -> Vec<String> {
    let asked = batches.iter().zip(&decision.outcomes).flat_map(|(batch, outcomes)| {
        batch.changes.iter().zip(outcomes).filter(|(_, outcome)| matches!(outcome, Outcome::Placed(_)))
    });
    asked
        .filter_map(|(change, _)| match change {
            Change::Forget(decky) if unplaced.contains_key(decky.as_str()) => Some(decky.to_string()),
            _ => None,
        })
        .collect()
}
