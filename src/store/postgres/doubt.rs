//! A commit whose answer was lost, and what became of it.

use futures_util::future::join3;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::decide::Outcome;
use crate::lifecycle::{LifecycleId, Revision};

use super::connect::{Param, within};
use super::error::{Cause, Trouble};
use super::rows::{self, uuid};
use super::settings::PostgresSettings;
use super::tables::begin;

/// What a group came to.
pub(super) struct Done {
    pub(super) outcomes: Vec<Vec<Outcome>>,
    pub(super) head: Revision,
}

/// A commit of which nobody knows yet whether it was done.
pub(super) struct Doubt {
    /// The transaction, as the server calls it.
    pub(super) xid: String,
    /// The first change of a row that it made. Without one it may be done
    /// again: placing and forgetting twice is as good as once.
    pub(super) first: Option<(Revision, LifecycleId)>,
    pub(super) done: Done,
}

/// Finds out what became of a commit whose answer was lost. Waits for the end
/// of the transaction first: it has the lock.
///
/// The server's word on the transaction is not enough after a failover, where
/// the same number may be another's; nor is the feed, where another master may
/// have made the same step.
pub(super) async fn was_committed(
    client: &Client,
    settings: &PostgresSettings,
    doubt: &Doubt,
) -> Result<bool, Trouble> {
    let Some((revision, id)) = doubt.first else { return Ok(false) };
    let schema = &settings.schema;
    let begin = begin(schema);
    let ask = format!(
        "select case when $1::text::xid8 < pg_snapshot_xmax(pg_current_snapshot()) \
         then pg_xact_status($1::text::xid8) end, \
         exists (select 1 from {schema}.feed where revision = $2 and id = $3) \
         or (select oldest > $2 from {schema}.meta)"
    );
    let (revision, id) = (rows::signed(revision), uuid(id));
    let params: [Param<'_>; 3] = [(&doubt.xid, Type::TEXT), (&revision, Type::INT8), (&id, Type::UUID)];
    let work = async {
        let (begun, told, ended) = join3(
            client.batch_execute(&begin),
            client.query_typed(&ask, &params),
            client.batch_execute("rollback"),
        )
        .await;
        begun?;
        let told = told?;
        ended?;
        Ok::<_, Trouble>(told)
    };
    let told = within(settings.answer_within, work).await??;
    let row = told.first().ok_or_else(|| Trouble::Again(Cause::new("no answer to what was committed")))?;
    let (status, there): (Option<&str>, bool) = (row.try_get(0)?, row.try_get(1)?);
    match status {
        // Its lock was to be had, so this is the word of another server.
        Some("in progress") => Err(Trouble::Again(Cause::new("a transaction has not ended yet"))),
        Some("committed") => Ok(there),
        _ => Ok(false),
    }
}
