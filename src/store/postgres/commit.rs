//! A group of batches in one transaction: the lock and all that decisions need
//! in one round trip, what comes of them and the commit in another.

use tokio_postgres::Client;

use crate::decide::{Batch, Needs, decide};
use crate::lifecycle::Revision;
use crate::store::StoreError;

use super::connect::within;
use super::doubt::{Done, Doubt};
use super::error::{Cause, Trouble};
use super::look::{can_place, look, unreadable_forgotten};
use super::settings::PostgresSettings;
use super::write::{Unwritten, write};

/// How a group failed.
pub(super) enum Failed {
    /// Nothing was written.
    Before(Trouble),
    /// Whether it was committed is unknown.
    InDoubt(Box<Doubt>, Cause),
}

impl<T: Into<Trouble>> From<T> for Failed {
    fn from(trouble: T) -> Self {
        Self::Before(trouble.into())
    }
}

/// Commits a group.
pub(super) async fn commit(
    client: &Client,
    settings: &PostgresSettings,
    batches: &[Batch],
    newest: Revision,
) -> Result<Done, Failed> {
    let needs = Needs::of(batches);
    let mut looked = within(settings.answer_within, look(client, &settings.schema, &needs)).await??;
    if looked.head < newest {
        // Revisions would come twice, with other changes.
        let (head, seen) = (looked.head, newest);
        let why = format!(
            "the database's newest revision is {head} and was {seen}: a failover or a restore has lost changes"
        );
        return Err(Trouble::Store(StoreError::Closed { why }).into());
    }
    can_place(&looked.unplaced, batches)?;
    let head = looked.head;
    let decision = decide(head, batches, &mut looked.seen).map_err(StoreError::from)?;
    let gone = unreadable_forgotten(&looked.unplaced, batches, &decision);
    if decision.is_empty() && gone.is_empty() {
        within(settings.answer_within, client.batch_execute("rollback")).await??;
        return Ok(Done { outcomes: decision.outcomes, head });
    }
    let written = write(client, settings, &decision, gone).await;
    let first = decision.writes.first().map(|write| (write.new.revision, write.new.id));
    let done = Done { outcomes: decision.outcomes, head: decision.head };
    match written {
        Ok(()) => Ok(done),
        Err(Unwritten::Void(trouble)) => Err(Failed::Before(trouble)),
        Err(Unwritten::Unknown(cause)) => {
            Err(Failed::InDoubt(Box::new(Doubt { xid: looked.xid, first, done }), cause))
        }
    }
}
