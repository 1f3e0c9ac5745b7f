//! The lock of a store that is to be the only writer.

use std::sync::Arc;

use super::connect::{Connector, Link, within};
use super::error::{Cause, Trouble};
use super::tables::lock_number;

/// A connection with the lock, in a transaction that stays open: so it is held
/// through a pooler, too. It has no snapshot, and keeps no vacuum waiting.
pub(super) struct Alone {
    link: Link,
    session: Session,
}

/// A connection as the server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Session {
    pid: i32,
    began: String,
}

/// What became of asking for the lock.
pub(super) enum Asked {
    Ours(Alone),
    /// Another has it; this is what the server tells of them.
    Theirs(String),
}

impl Alone {
    /// Whether the lock may be gone.
    pub(super) fn is_lost(&self) -> bool {
        self.link.is_closed()
    }

    /// Waits until the lock may be gone.
    pub(super) async fn lost(&self) {
        self.link.ended().await;
    }

    /// Asks for the lock. What is left of an earlier connection of ours is
    /// ended first.
    pub(super) async fn ask(connector: &Connector, before: Option<&Self>) -> Result<Asked, Trouble> {
        let link = connector.connect().await?;
        let settings = Arc::clone(&connector.settings);
        let asked = ask(&link, lock_number(&settings.schema, "only writer"), before.map(|own| &own.session));
        match within(settings.answer_within, asked).await?? {
            Ok(session) => Ok(Asked::Ours(Self { link, session })),
            Err(by) => Ok(Asked::Theirs(by)),
        }
    }
}

const WHO: &str = "select a.pid, a.backend_start::text, coalesce(a.application_name, '?'), \
                   coalesce(a.client_addr::text, 'this machine') from pg_locks l \
                   join pg_stat_activity a on a.pid = l.pid where l.locktype = 'advisory' and l.granted \
                   and l.objsubid = 1 and l.database = (select oid from pg_database \
                   where datname = current_database()) \
                   and ((l.classid::int8 << 32) | l.objid::int8) = $1";

async fn ask(link: &Link, lock: i64, before: Option<&Session>) -> Result<Result<Session, String>, Trouble> {
    let client = &link.client;
    client
        .batch_execute(
            "begin; select set_config('idle_in_transaction_session_timeout', '0', true), \
             set_config('tcp_keepalives_idle', '30', true), set_config('tcp_keepalives_interval', '10', true), \
             set_config('tcp_keepalives_count', '3', true)",
        )
        .await?;
    let tried = format!(
        "select pg_try_advisory_xact_lock({lock}), pg_backend_pid(), \
         (select backend_start::text from pg_stat_activity where pid = pg_backend_pid())"
    );
    let rows = client.query_typed(&tried, &[]).await?;
    let row = rows.first().ok_or_else(|| Trouble::Again(Cause::new("no answer to a lock")))?;
    let (ours, pid, began): (bool, i32, Option<String>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if ours {
        return Ok(Ok(Session { pid, began: began.unwrap_or_default() }));
    }
    let rows = client.query_typed(WHO, &[(&lock, tokio_postgres::types::Type::INT8)]).await?;
    let Some(row) = rows.first() else {
        return Err(Trouble::Again(Cause::new("the lock of the only writer is changing hands")));
    };
    let holder = Session { pid: row.try_get(0)?, began: row.try_get::<_, Option<_>>(1)?.unwrap_or_default() };
    let (name, address): (String, String) = (row.try_get(2)?, row.try_get(3)?);
    if before == Some(&holder) {
        // Our own connection, which the server has not seen go.
        let pid = holder.pid;
        client
            .query_typed("select pg_terminate_backend($1)", &[(&pid, tokio_postgres::types::Type::INT4)])
            .await?;
        return Err(Trouble::Again(Cause::new("the server still held an earlier connection of ours")));
    }
    let by = format!("{name} from {address}, backend {}", holder.pid);
    Ok(Err(crate::lifecycle::text::one_line(&by, 200)))
}
