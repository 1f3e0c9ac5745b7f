//! Our tables: how they are made, and which version of them is there.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio_postgres::types::Type;

use super::PostgresError;
use super::connect::{Link, within};
use super::error::{Cause, Trouble};
use super::settings::{PostgresSettings, Schema};

/// The version of the tables that this program writes.
const VERSION: i32 = 1;

/// Only types that every server has by itself, so that poolers are in nobody's
/// way; `collate "C"`, so that names sort as they do here.
const TABLES: &str = r#"
create table SCHEMA.meta (
    one    boolean primary key default true check (one),
    schema integer not null,
    head   bigint  not null check (head >= 0),
    oldest bigint  not null check (oldest >= 1 and oldest <= head + 1)
) with (fillfactor = 10);
create table SCHEMA.lifecycles (
    id uuid primary key,
    decky text collate "C" not null check (octet_length(decky) <= 64),
    host text collate "C" check (octet_length(host) <= 64),
    operation text collate "C" not null check (octet_length(operation) <= 32),
    status text collate "C" not null check (status in ('pending', 'running', 'succeeded', 'failed')),
    since bigint, ended bigint, deadline bigint,
    failure_kind text collate "C" check (octet_length(failure_kind) <= 32),
    failure text collate "C" check (char_length(failure) <= 2000),
    master text collate "C" not null check (octet_length(master) <= 64),
    epoch bigint not null,
    created bigint not null, updated bigint not null,
    cancel_requested bigint, claimed bigint,
    request_key text collate "C" check (octet_length(request_key) <= 128),
    revision bigint not null check (revision > 0),
    check ((status in ('pending', 'running')) = (deadline is not null)),
    check ((status in ('succeeded', 'failed')) = (ended is not null)),
    check ((status = 'failed') = (failure_kind is not null)),
    check ((status = 'failed') = (failure is not null))
) with (fillfactor = 80);
create index lifecycles_decky on SCHEMA.lifecycles (decky, id);
create index lifecycles_open on SCHEMA.lifecycles (decky, id) where deadline is not null;
create index lifecycles_due on SCHEMA.lifecycles (deadline, id) where deadline is not null;
create index lifecycles_host on SCHEMA.lifecycles (host, id) where deadline is not null;
create index lifecycles_ended on SCHEMA.lifecycles (ended, id) where ended is not null;
create index lifecycles_failed on SCHEMA.lifecycles (id) where status = 'failed';
create table SCHEMA.feed (
    revision bigint primary key,
    id uuid not null,
    decky text collate "C" not null check (octet_length(decky) <= 64),
    host text collate "C" check (octet_length(host) <= 64),
    operation text collate "C" not null check (octet_length(operation) <= 32),
    status text collate "C" not null check (status in ('pending', 'running', 'succeeded', 'failed')),
    failure_kind text collate "C" check (octet_length(failure_kind) <= 32),
    failure text collate "C" check (char_length(failure) <= 2000),
    at bigint not null,
    cancel_requested boolean not null
);
create table SCHEMA.keys (
    key text collate "C" primary key check (octet_length(key) <= 128),
    hash bytea not null check (octet_length(hash) = 32),
    ids uuid[] not null
);
create table SCHEMA.placements (
    decky text collate "C" primary key check (octet_length(decky) <= 64),
    standing text collate "C" not null check (standing in ('nothing', 'up', 'unsure')),
    home text collate "C", address text collate "C",
    revision bigint not null check (revision >= 0),
    homes text[] not null, addresses text[] not null, rows uuid[] not null,
    detail json not null
);
create index placements_homes on SCHEMA.placements using gin (homes);
create index placements_addresses on SCHEMA.placements using gin (addresses);
comment on column SCHEMA.lifecycles.since is 'microseconds since 1970, as all times';
comment on column SCHEMA.lifecycles.epoch is 'an unsigned number of 64 bits as the signed one of the same bits';
comment on column SCHEMA.placements.homes is 'where it is, may be, or is to be: master/NAME or host/ID';
comment on column SCHEMA.placements.detail is 'not jsonb, which takes no U+0000 within a string';
insert into SCHEMA.meta (schema, head, oldest) values (VERSION, 0, 1);
"#;

pub(super) fn schema_sql(schema: &Schema) -> String {
    let tables = TABLES.replace("SCHEMA", &schema.to_string()).replace("VERSION", &VERSION.to_string());
    format!("create schema if not exists {schema};{tables}")
}

/// The number of a lock of ours: poolers and schemas share a database.
pub(super) fn lock_number(schema: &Schema, what: &str) -> i64 {
    let hash = Sha256::digest(format!("decnet-lifecycle/{what}/{schema}"));
    hash.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

/// Makes the tables if they aren't there; two that start at once make them
/// once.
pub(super) async fn prepare(link: &Link, settings: &PostgresSettings) -> Result<(), PostgresError> {
    let time = settings.answer_within;
    let refused = |doing| move |trouble| of_trouble(trouble, doing);
    let looking = "looking for our tables";
    let there = within(time, version(link, &settings.schema)).await.and_then(|found| found);
    if let Some(found) = there.map_err(refused(looking))? {
        return check_version(settings, found);
    }
    if !settings.make {
        let source = Arc::new(Cause::new("nobody has made them"));
        return Err(PostgresError::Missing { schema: settings.schema.to_string(), source });
    }
    let making = within(time, make(link, settings)).await.and_then(|made| made);
    match making {
        Ok(found) => check_version(settings, found),
        Err(trouble) => match of_trouble(trouble, "making our tables") {
            PostgresError::Refused { source, .. } => {
                Err(PostgresError::Missing { schema: settings.schema.to_string(), source })
            }
            other => Err(other),
        },
    }
}

fn check_version(settings: &PostgresSettings, found: i32) -> Result<(), PostgresError> {
    if found == VERSION {
        return Ok(());
    }
    let schema = settings.schema.to_string();
    Err(PostgresError::Newer { schema, found, known: VERSION })
}

/// The version of our tables; none if there are none.
async fn version(link: &Link, schema: &Schema) -> Result<Option<i32>, Trouble> {
    // Not to_regclass: that would remember what it found before the lock.
    const THERE: &str = "select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                         where n.nspname = $1 and c.relname = 'meta'";
    let name = schema.to_string();
    if link.client.query_typed(THERE, &[(&name, Type::TEXT)]).await?.is_empty() {
        return Ok(None);
    }
    let name = format!("{schema}.meta");
    let rows = link.client.query_typed(&format!("select schema from {name}"), &[]).await?;
    let row = rows.first().ok_or_else(|| Trouble::Wrong(Cause::new(format!("{name} is empty"))))?;
    Ok(Some(row.try_get(0)?))
}

/// Makes the tables under a lock, unless somebody has by then.
async fn make(link: &Link, settings: &PostgresSettings) -> Result<i32, Trouble> {
    let schema = &settings.schema;
    let lock = lock_number(schema, "commit");
    link.client.batch_execute(&format!("begin; select pg_advisory_xact_lock({lock})")).await?;
    if let Some(found) = version(link, schema).await? {
        link.client.batch_execute("rollback").await?;
        return Ok(found);
    }
    let name = schema.to_string();
    let there = "select 1 from pg_namespace where nspname = $1";
    let there = !link.client.query_typed(there, &[(&name, Type::TEXT)]).await?.is_empty();
    let all = schema_sql(schema);
    // Who may not make schemas may not even ask for one that is there.
    let first = all.find(';').map_or(0, |end| end + 1);
    let statements = if there { all.get(first..).unwrap_or_default() } else { &all };
    link.client.batch_execute(statements).await?;
    link.client.batch_execute("commit").await?;
    Ok(VERSION)
}

pub(super) fn of_trouble(trouble: Trouble, doing: &'static str) -> PostgresError {
    let source: Arc<dyn std::error::Error + Send + Sync> = match trouble {
        Trouble::Again(cause) | Trouble::Wrong(cause) => Arc::new(cause),
        Trouble::Store(error) => Arc::new(error),
    };
    PostgresError::Refused { doing, source }
}
