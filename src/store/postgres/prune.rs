//! Removes what a policy no longer wants.

use futures_util::future::{join, join3};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::store::{Pruned, Retention};

use super::connect::{Param, within};
use super::error::{Cause, Trouble};
use super::settings::PostgresSettings;
use super::tables::begin;

/// Prunes once. Where the answer to its commit is lost, it may just be done
/// again; `sent` says whether that may be the case.
pub(super) async fn prune(
    client: &Client,
    settings: &PostgresSettings,
    policy: &Retention,
    sent: &mut bool,
) -> Result<Pruned, Trouble> {
    let schema = &settings.schema;
    let begin = begin(schema);
    let rows = format!(
        "with old as (select id from {schema}.lifecycles where ended < $1 \
         and id not in (select unnest(rows) from {schema}.placements) order by ended, id limit $2), \
         gone as (delete from {schema}.lifecycles l using old where l.id = old.id returning l.request_key) \
         select count(*), array_agg(distinct request_key) filter (where request_key is not null) from gone"
    );
    let feed = format!(
        "with looked_at as (select f.revision, f.at from {schema}.feed f \
         where f.revision >= (select oldest from {schema}.meta) order by f.revision limit $2), \
         last as (select max(revision) as revision from looked_at where at < $1), \
         gone as (delete from {schema}.feed f using last where f.revision <= last.revision returning 1), \
         meta as (update {schema}.meta set oldest = last.revision + 1 from last \
         where last.revision is not null) select count(*) from gone"
    );
    let (at, limit) = (policy.closed_before.as_micros(), i64::try_from(policy.limit).unwrap_or(i64::MAX));
    let params: [Param<'_>; 2] = [(&at, Type::INT8), (&limit, Type::INT8)];
    let work = join3(
        client.batch_execute(&begin),
        client.query_typed(&rows, &params),
        client.query_typed(&feed, &params),
    );
    let (begun, rows, feed) = within(settings.answer_within, work).await?;
    begun?;
    let (rows, feed) = (rows?, feed?);
    let none = || Trouble::Again(Cause::new("no answer to what was removed"));
    let row = rows.first().ok_or_else(none)?;
    let (removed, keys): (i64, Option<Vec<String>>) = (row.try_get(0)?, row.try_get(1)?);
    let entries: i64 = feed.first().ok_or_else(none)?.try_get(0)?;
    let keys = keys.unwrap_or_default();
    let forget = format!(
        "delete from {schema}.keys k where k.key = any($1) \
         and not exists (select 1 from {schema}.lifecycles l where l.id = any(k.ids))"
    );
    let params: [Param<'_>; 1] = [(&keys, Type::TEXT_ARRAY)];
    *sent = true;
    let work = join(client.execute_typed(&forget, &params), client.batch_execute("commit"));
    let (forgotten, committed) = within(settings.answer_within, work).await?;
    forgotten?;
    committed?;
    *sent = false;
    let count = |number: i64| usize::try_from(number).unwrap_or(0);
    let (rows, entries) = (count(removed), count(entries));
    Ok(Pruned { rows, entries, more: rows >= policy.limit || entries >= policy.limit })
}
