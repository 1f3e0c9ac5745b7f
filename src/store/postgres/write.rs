//! What comes of a decision, written and committed in one round trip.

use std::collections::BTreeMap;

use futures_util::future::{join3, join4};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::decide::{Decision, KeyEntry};
use crate::lifecycle::{LifecycleId, Record};

use super::connect::{Param, within};
use super::error::{Cause, Trouble, is_void};
use super::placed::{ManyPlacements, ManySetAside};
use super::rows::{self, ManyRows};
use super::settings::PostgresSettings;

/// Why a transaction was not written.
pub(super) enum Unwritten {
    /// It is void for certain.
    Void(Trouble),
    Unknown(Cause),
}

pub(super) async fn write(
    client: &Client,
    settings: &PostgresSettings,
    decision: &Decision,
    mut gone: Vec<String>,
) -> Result<(), Unwritten> {
    // A row that several batches of the group change is written once, as it is
    // at last; the feed has each change.
    let mut net: BTreeMap<LifecycleId, (bool, &Record)> = BTreeMap::new();
    for write in &decision.writes {
        net.entry(write.new.id)
            .and_modify(|(_, last)| *last = &write.new)
            .or_insert((write.old.is_none(), &write.new));
    }
    let new: ManyRows<'_> = net.values().filter(|(new, _)| *new).map(|(_, row)| *row).collect();
    let changed: ManyRows<'_> = net.values().filter(|(new, _)| !*new).map(|(_, row)| *row).collect();
    let entries: ManyRows<'_> = decision.writes.iter().map(|write| &write.new).collect();
    let mut placements = ManyPlacements::default();
    for (decky, write) in &decision.placements {
        match &write.new {
            Some(placement) => {
                placements.add(placement).map_err(|error| Unwritten::Void(error.into()))?;
            }
            None => gone.push(decky.to_string()),
        }
    }
    let aside = ManySetAside::of(decision).map_err(|error| Unwritten::Void(error.into()))?;
    let Statements { insert, update, feed, key, place, forget, keep, head } = Statements::of(settings);
    let keys = ManyKeys::of(decision);
    let newest = rows::signed(decision.head);
    let work = async {
        // Sent in this order, and the commit last.
        let ((updated, inserted, fed, kept), (placed, forgotten, put, counted), committed) = join3(
            join4(
                executed(client, &update, changed.changed(), changed.is_empty()),
                executed(client, &insert, new.whole(), new.is_empty()),
                executed(client, &feed, entries.entries(), entries.is_empty()),
                executed(client, &key, keys.whole(), keys.key.is_empty()),
            ),
            join4(
                executed(client, &place, placements.whole(), placements.is_empty()),
                executed(client, &forget, [(&gone, Type::TEXT_ARRAY)], gone.is_empty()),
                executed(client, &keep, aside.whole(), aside.is_empty()),
                executed(client, &head, [(&newest, Type::INT8)], false),
            ),
            client.batch_execute("commit"),
        )
        .await;
        // The server answers the COMMIT of a transaction that failed with
        // ROLLBACK, and the client takes that for success: so each statement
        // before it is looked at first.
        for one in [updated, inserted, fed, kept, placed, forgotten, put, counted] {
            if let Err(error) = one {
                return Err(match is_void(&error) {
                    true => Unwritten::Void(error.into()),
                    false => Unwritten::Unknown(Cause::from(&error)),
                });
            }
        }
        committed.map_err(|error| Unwritten::Unknown(Cause::from(&error)))
    };
    match within(settings.answer_within, work).await {
        Ok(written) => written,
        Err(Trouble::Again(cause) | Trouble::Wrong(cause)) => Err(Unwritten::Unknown(cause)),
        Err(Trouble::Store(error)) => Err(Unwritten::Unknown(Cause::new(error.to_string()))),
    }
}

async fn executed<const N: usize>(
    client: &Client,
    statement: &str,
    params: [Param<'_>; N],
    nothing: bool,
) -> Result<u64, tokio_postgres::Error> {
    if nothing {
        return Ok(0);
    }
    client.execute_typed(statement, &params).await
}

/// Many keys, column by column; the ids of each are a text with commas.
struct ManyKeys<'d> {
    key: Vec<&'d str>,
    hash: Vec<&'d [u8]>,
    ids: Vec<String>,
}

impl<'d> ManyKeys<'d> {
    fn of(decision: &'d Decision) -> Self {
        let ids = |entry: &KeyEntry| {
            let ids: Vec<String> = entry.ids.iter().map(ToString::to_string).collect();
            ids.join(",")
        };
        Self {
            key: decision.keys.iter().map(|(key, _)| key.as_str()).collect(),
            hash: decision.keys.iter().map(|(_, entry)| entry.hash.as_slice()).collect(),
            ids: decision.keys.iter().map(|(_, entry)| ids(entry)).collect(),
        }
    }

    fn whole(&self) -> [Param<'_>; 3] {
        [(&self.key, Type::TEXT_ARRAY), (&self.hash, Type::BYTEA_ARRAY), (&self.ids, Type::TEXT_ARRAY)]
    }
}

struct Statements {
    insert: String,
    update: String,
    feed: String,
    key: String,
    place: String,
    forget: String,
    keep: String,
    head: String,
}

impl Statements {
    fn of(settings: &PostgresSettings) -> Self {
        let schema = &settings.schema;
        let columns = rows::COLUMNS;
        let notify = if settings.notify {
            format!(
                "with m as (update {schema}.meta set head = $1 returning 1) \
                 select pg_notify('decnet_lifecycle', $1::text) from m"
            )
        } else {
            format!("update {schema}.meta set head = $1")
        };
        Self {
            insert: format!("insert into {schema}.lifecycles ({columns}) select * from {}", unnest(18)),
            update: format!(
                "update {schema}.lifecycles l set status = u.status, since = u.since, ended = u.ended, \
                 deadline = u.deadline, failure_kind = u.failure_kind, failure = u.failure, \
                 updated = u.updated, cancel_requested = u.cancel_requested, claimed = u.claimed, \
                 revision = u.revision from {} as u (id, status, since, ended, deadline, failure_kind, \
                 failure, updated, cancel_requested, claimed, revision) where l.id = u.id",
                unnest(11)
            ),
            feed: format!("insert into {schema}.feed select * from {}", unnest(10)),
            key: format!(
                "insert into {schema}.keys (key, hash, ids) select u.key, u.hash, \
                 string_to_array(u.ids, ',')::uuid[] from {} as u (key, hash, ids)",
                unnest(3)
            ),
            place: format!(
                "insert into {schema}.placements (decky, standing, home, address, revision, homes, \
                 addresses, rows, detail) select u.decky, u.standing, u.home, u.address, u.revision, \
                 string_to_array(u.homes, ','), string_to_array(u.addresses, ','), \
                 string_to_array(u.rows, ',')::uuid[], u.detail::json from {} as u (decky, standing, \
                 home, address, revision, homes, addresses, rows, detail) on conflict (decky) do update \
                 set standing = excluded.standing, home = excluded.home, address = excluded.address, \
                 revision = excluded.revision, homes = excluded.homes, addresses = excluded.addresses, \
                 rows = excluded.rows, detail = excluded.detail",
                unnest(9)
            ),
            forget: format!("delete from {schema}.placements where decky = any($1)"),
            keep: format!(
                "insert into {schema}.set_aside (id, decky, detail) \
                 select u.id, u.decky, u.detail::json from {} as u (id, decky, detail)",
                unnest(3)
            ),
            head: notify,
        }
    }
}

fn unnest(count: usize) -> String {
    let params: Vec<String> = (1..=count).map(|number| format!("${number}")).collect();
    format!("unnest({})", params.join(", "))
}
