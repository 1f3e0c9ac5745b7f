//! Our tables as SQL, whose they are, and what opens a transaction that writes
//! to them.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::PostgresError;

/// The name of a schema, which needs no quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schema(String);

impl Schema {
    pub(super) fn parse(name: &str) -> Result<Self, PostgresError> {
        let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let rest = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        match starts && rest && name.len() <= 63 && !name.starts_with("pg_") {
            true => Ok(Self(name.to_owned())),
            false => Err(super::error::wrong(
                "a schema is named by 1 to 63 lowercase letters, digits and '_', a letter or '_' first, \
                 and not pg_..",
            )),
        }
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The version of the tables that this program writes.
pub(super) const VERSION: i32 = 1;

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
create table SCHEMA.set_aside (
    id uuid primary key references SCHEMA.lifecycles (id) on delete cascade,
    decky text collate "C" not null check (octet_length(decky) <= 64),
    detail json not null
);
create index placements_homes on SCHEMA.placements using gin (homes);
create index placements_addresses on SCHEMA.placements using gin (addresses);
comment on column SCHEMA.lifecycles.since is 'microseconds since 1970, as all times';
comment on column SCHEMA.lifecycles.epoch is 'an unsigned number of 64 bits as the signed one of the same bits';
comment on column SCHEMA.placements.homes is 'where it is, may be, or is to be: master/NAME or host/ID';
comment on table SCHEMA.set_aside is 'what the ends of rows took out of placements';
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

/// What opens each transaction that writes: settings of its own, for with a
/// pooler the session is not ours, and the lock that orders revisions. It is
/// visible to others only once it is durable, whatever the database's default.
pub(super) fn begin(schema: &Schema) -> String {
    let lock = lock_number(schema, "commit");
    format!(
        "begin isolation level read committed, read write; \
         select set_config('synchronous_commit', case when current_setting('synchronous_commit') \
         in ('on', 'remote_apply') then current_setting('synchronous_commit') else 'on' end, true), \
         set_config('idle_in_transaction_session_timeout', '5s', true), \
         set_config('lock_timeout', '30s', true), set_config('statement_timeout', '50s', true); \
         select pg_advisory_xact_lock({lock})"
    )
}
