//! Reads, each one statement and so one snapshot, on a connection of their own:
//! they never wait for the writer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use async_io::Timer;
use async_lock::Mutex;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::lifecycle::{DeckyName, HostId, LifecycleId, Operation, Record, Revision, Status, Timestamp};
use crate::placement::{Placed, Placement};
use crate::store::{Cursor, Feed, OpenOnly, Page, PlacementQuery, Query, StoreError};

use super::connect::{Connector, Link, Param, within};
use super::error::Trouble;
use super::patience::Tries;
use super::placed;
use super::rows::{self, id_of, uuid};
use super::writer::closed;

pub(super) struct Reader {
    connector: Connector,
    slot: Mutex<Slot>,
}

/// The one connection; whoever finds none makes it, and the others wait.
struct Slot {
    link: Option<Arc<Link>>,
    down_since: Option<Instant>,
    closed: bool,
}

impl Reader {
    pub(super) fn new(connector: Connector, link: Link) -> Self {
        let slot = Slot { link: Some(Arc::new(link)), down_since: None, closed: false };
        Self { connector, slot: Mutex::new(slot) }
    }

    /// Ends the connection; later reads are refused.
    pub(super) async fn close(&self) {
        let mut slot = self.slot.lock().await;
        slot.closed = true;
        slot.link = None;
    }

    async fn link(&self) -> Result<Arc<Link>, Trouble> {
        let mut slot = self.slot.lock().await;
        if slot.closed {
            return Err(Trouble::Store(closed()));
        }
        if let Some(link) = slot.link.as_ref().filter(|link| !link.is_closed()) {
            return Ok(Arc::clone(link));
        }
        match self.connector.connect().await {
            Ok(link) => {
                let link = Arc::new(link);
                (slot.link, slot.down_since) = (Some(Arc::clone(&link)), None);
                Ok(link)
            }
            Err(trouble) => {
                slot.down_since.get_or_insert_with(Instant::now);
                Err(trouble)
            }
        }
    }

    /// Asks once, and again on another connection if that one was lost.
    async fn ask(&self, statement: &str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        let mut tries: Option<Tries> = None;
        loop {
            let trouble = match self.link().await {
                Ok(link) => {
                    let asked = link.client.query_typed(statement, params);
                    match within(self.connector.settings.answer_within, asked).await {
                        Ok(Ok(rows)) => return Ok(rows),
                        Ok(Err(error)) => Trouble::from(error),
                        Err(late) => {
                            self.forget(&link).await;
                            late
                        }
                    }
                }
                Err(trouble) => trouble,
            };
            if !matches!(trouble, Trouble::Again(_)) {
                return Err(trouble.not_done("reading"));
            }
            let tries = match &mut tries {
                Some(tries) => tries,
                None => tries.insert(Tries::new(self.slot.lock().await.down_since)),
            };
            match tries.failed(self.connector.settings.patience) {
                Some(pause) => drop(Timer::after(pause).await),
                None => return Err(trouble.not_done("reading")),
            }
        }
    }

    async fn forget(&self, link: &Arc<Link>) {
        let mut slot = self.slot.lock().await;
        if slot.link.as_ref().is_some_and(|own| Arc::ptr_eq(own, link)) {
            slot.link = None;
        }
    }

    pub(super) async fn rows(&self, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
        let schema = &self.connector.settings.schema;
        let ids: Vec<Uuid> = ids.iter().map(|id| uuid(*id)).collect();
        let statement =
            format!("select {} from {schema}.lifecycles where id = any($1) order by id", rows::COLUMNS);
        let found = self.ask(&statement, &[(&ids, Type::UUID_ARRAY)]).await?;
        found.iter().map(rows::record).collect()
    }

    pub(super) async fn page(&self, query: &Query) -> Result<Page, StoreError> {
        let asked = Asked::of(query);
        let statement = asked.statement(query, &self.connector.settings.schema.to_string());
        let found = self.ask(&statement, &asked.params()).await?;
        let mut page = Page::default();
        for row in found.iter().take(query.page_size()) {
            match rows::record(row) {
                Ok(record) => page.records.push(record),
                Err(error) => {
                    log::error!(target: "decnet_lifecycle::store", error:% = error; "a damaged row was left out");
                    page.damaged.extend(row.try_get::<_, Uuid>(0).map(id_of));
                }
            }
        }
        // By its columns: the last row may be a damaged one.
        let last = found.get(query.page_size().saturating_sub(1)).filter(|_| found.len() > query.page_size());
        page.next = last.and_then(|row| {
            let id = id_of(row.try_get(0).ok()?);
            let deadline = row.try_get::<_, Option<i64>>("deadline").ok()?.map(Timestamp::from_micros);
            Some(Cursor { deadline: deadline.filter(|_| query.due_by.is_some()), id })
        });
        Ok(page)
    }

    pub(super) async fn changes(&self, after: Revision, limit: usize) -> Result<Feed, StoreError> {
        let schema = &self.connector.settings.schema;
        let statement = format!(
            "select m.head, m.oldest, {} from {schema}.meta m left join lateral (select * from {schema}.feed \
             where revision > $1 and revision >= m.oldest and revision <= m.head order by revision limit $2) f \
             on true order by f.revision",
            rows::ENTRY
        );
        let (from, limit) = (rows::signed(after), i64::try_from(limit).unwrap_or(i64::MAX));
        let found = self.ask(&statement, &[(&from, Type::INT8), (&limit, Type::INT8)]).await?;
        let meta = || StoreError::Corrupt { what: format!("table {schema}.meta: it is none of ours") };
        let number = |place: usize| -> Option<Revision> {
            let number: i64 = found.first()?.try_get(place).ok()?;
            u64::try_from(number).ok().map(Revision::new)
        };
        let (head, oldest) = (number(0).ok_or_else(meta)?, number(1).ok_or_else(meta)?);
        if after.next() < oldest {
            return Ok(Feed::Compacted { oldest });
        }
        let mut entries = Vec::new();
        let mut next = after.next();
        let is_entry = |row: &&Row| row.try_get::<_, Option<i64>>(2).is_ok_and(|revision| revision.is_some());
        for row in found.iter().filter(is_entry) {
            match rows::entry(row, 2) {
                Ok(entry) if entry.revision == next => entries.push(entry),
                // One that is damaged or missing can't be told; those before
                // and after it can.
                _ if entries.is_empty() => {
                    log::error!(target: "decnet_lifecycle::store", revision:% = next; "a change can't be told");
                    return Ok(Feed::Compacted { oldest: next.next() });
                }
                _ => break,
            }
            next = next.next();
        }
        if entries.is_empty() && limit > 0 && next <= head {
            return Ok(Feed::Compacted { oldest: head.next() });
        }
        Ok(Feed::Entries { entries, head })
    }

    pub(super) async fn placements(&self, query: &PlacementQuery) -> Result<Vec<Placement>, StoreError> {
        let schema = &self.connector.settings.schema;
        let all = format!("select {} from {schema}.placements", placed::COLUMNS);
        let found = match query {
            PlacementQuery::All => self.ask(&format!("{all} order by decky"), &[]).await?,
            PlacementQuery::Of(deckies) => {
                let deckies: Vec<&str> = deckies.iter().map(DeckyName::as_str).collect();
                let statement = format!("{all} where decky = any($1) order by decky");
                self.ask(&statement, &[(&deckies, Type::TEXT_ARRAY)]).await?
            }
            PlacementQuery::At(home) => {
                let homes = vec![home.key()];
                let statement = format!("{all} where homes && $1 order by decky");
                self.ask(&statement, &[(&homes, Type::TEXT_ARRAY)]).await?
            }
        };
        found.iter().map(|row| placed::placement(row).map_err(|(_, error)| error)).collect()
    }

    pub(super) async fn set_aside(
        &self,
        rows: &[LifecycleId],
    ) -> Result<BTreeMap<LifecycleId, Arc<Placed>>, StoreError> {
        let schema = &self.connector.settings.schema;
        let ids: Vec<Uuid> = rows.iter().map(|row| uuid(*row)).collect();
        let statement = format!("select id, decky, detail::text from {schema}.set_aside where id = any($1)");
        let found = self.ask(&statement, &[(&ids, Type::UUID_ARRAY)]).await?;
        let one = |row| placed::set_aside(row).map(|(id, placed)| (id, Arc::new(placed)));
        found.iter().map(one).collect()
    }
}

/// What a query asks for, as parameters; each has its number, asked for or not.
struct Asked<'q> {
    decky: Option<&'q str>,
    host: Option<&'q str>,
    operation: Option<&'static str>,
    status: Option<&'static str>,
    due_by: Option<i64>,
    after: Option<Uuid>,
    after_deadline: Option<i64>,
    limit: i64,
}

impl<'q> Asked<'q> {
    fn of(query: &'q Query) -> Self {
        let after_deadline = query.after.and_then(|cursor| cursor.deadline).map(Timestamp::as_micros);
        Self {
            decky: query.decky.as_ref().map(DeckyName::as_str),
            host: query.host.as_ref().map(HostId::as_str),
            operation: query.operation.map(Operation::as_str),
            status: query.status.map(Status::as_str),
            due_by: query.due_by.map(Timestamp::as_micros),
            after: query.after.map(|cursor| uuid(cursor.id)),
            after_deadline,
            // One more tells whether there is a next page.
            limit: i64::try_from(query.page_size()).unwrap_or(i64::MAX).saturating_add(1),
        }
    }

    fn params(&self) -> [Param<'_>; 8] {
        [
            (&self.decky, Type::TEXT),
            (&self.host, Type::TEXT),
            (&self.operation, Type::TEXT),
            (&self.status, Type::TEXT),
            (&self.due_by, Type::INT8),
            (&self.after, Type::UUID),
            (&self.after_deadline, Type::INT8),
            (&self.limit, Type::INT8),
        ]
    }

    /// Only what is asked for stands in it, so that its plan is the best for
    /// that.
    fn statement(&self, query: &Query, schema: &str) -> String {
        let mut statement = format!("select {} from {schema}.lifecycles where true", rows::COLUMNS);
        let past = match (self.due_by, self.after_deadline) {
            (Some(_), Some(_)) => Some("(deadline, id) > ($7, $6)"),
            (Some(_), None) => None,
            (None, _) => self.after.map(|_| "id < $6"),
        };
        let open = query.open_only == OpenOnly::Yes || query.wants_open();
        for condition in [
            self.decky.map(|_| "decky = $1"),
            self.host.map(|_| "host = $2"),
            self.operation.map(|_| "operation = $3"),
            // As written in the index of those that failed.
            self.status.map(|word| if word == "failed" { "status = 'failed'" } else { "status = $4" }),
            open.then_some("deadline is not null"),
            self.due_by.map(|_| "deadline <= $5"),
            past,
        ]
        .into_iter()
        .flatten()
        {
            let _ = write!(statement, " and {condition}");
        }
        statement.push_str(match self.due_by {
            Some(_) => " order by deadline, id limit $8",
            None => " order by id desc limit $8",
        });
        statement
    }
}
