//! The body of a beat.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::beat::Beat;
use crate::lifecycle::{FailureKind, LifecycleId, Operation, Revision};
use crate::store::{Entry, Query, StoreError};

use super::outbox::Stretch;
use super::{Shared, status};

/// Bytes of a beat that deltas may take; the rest is for which rows are known
/// and what runs.
const DELTA_BYTES: usize = 150 << 10;
/// Kept free for the fields around the large ones.
const MARGIN: usize = 1 << 10;

/// A beat that is ready to be sent.
#[derive(Debug, Clone)]
pub struct OutgoingBeat {
    body: String,
    deltas: usize,
    pub(super) upto: Revision,
    pub(super) is_all: bool,
}

impl OutgoingBeat {
    /// The JSON to post to `/swarm/heartbeat`, at most [`Beat::USUAL_BYTES`].
    #[must_use]
    pub fn body(&self) -> &str {
        &self.body
    }

    /// How many ends it tells of.
    #[must_use]
    pub const fn deltas(&self) -> usize {
        self.deltas
    }
}

pub(super) async fn beat(shared: &Shared) -> Result<OutgoingBeat, StoreError> {
    // The open rows are read before the feed: a row that ends between the two
    // reads is in both. Read the other way round it would be in neither, and
    // the master would take it for lost.
    let mut known = open_rows(shared).await?;
    let Stretch { ended, mut upto, is_last } = shared.outbox.next(&*shared.store).await?;
    known.extend(ended.iter().map(|entry| entry.id));
    let mut deltas = Vec::new();
    let mut bytes = 0;
    let mut is_all = is_last;
    let mut before = shared.outbox.settled();
    for entry in &ended {
        if let Some(delta) = delta(entry) {
            let text = delta.to_string();
            if deltas.len() == Beat::MAX_DELTAS || bytes + text.len() > DELTA_BYTES {
                upto = before;
                is_all = false;
                break;
            }
            bytes += text.len() + ",".len();
            deltas.push(delta);
        }
        before = entry.revision;
    }
    known.retain(|id| !id.is_unnamed());
    // Those that have ended further on in the feed are known too.
    let known = (is_last && known.len() <= Beat::MAX_KNOWN_ROWS).then_some(known);
    let count = deltas.len();
    let mut body = json!({
        "host_uuid": shared.host,
        "agent_version": shared.settings.version,
        "status": status::nothing(),
        // The original's masters look for it; this worker has no topology.
        "topology": {"topology_id": null, "applied_version_hash": null, "applied_at": null, "last_error": null,
                     "observed": {}},
        "open_rows": known,
    });
    let fields = body.as_object_mut();
    if let (Some(fields), false) = (fields, deltas.is_empty()) {
        fields.insert("lifecycle".to_owned(), Value::Array(deltas));
    }
    let room = Beat::USUAL_BYTES.saturating_sub(body.to_string().len() + MARGIN);
    let status = status::within(status::status(shared).await, room);
    if let Some(fields) = body.as_object_mut() {
        fields.insert("status".to_owned(), status);
    }
    Ok(OutgoingBeat { body: body.to_string(), deltas: count, upto, is_all })
}

async fn open_rows(shared: &Shared) -> Result<BTreeSet<LifecycleId>, StoreError> {
    let mut open = BTreeSet::new();
    let mut after = None;
    loop {
        let query = Query::new().open().limit(Query::MAX_LIMIT).after(after);
        let page = shared.store.query(&query).await?;
        open.extend(page.records.iter().map(|row| row.id));
        after = page.next;
        // More than a beat lists need not be counted to the end.
        if after.is_none() || open.len() > Beat::MAX_KNOWN_ROWS {
            return Ok(open);
        }
    }
}

/// What is said of an end; nothing of a teardown that its master, which got
/// the answer, keeps no row of.
fn delta(entry: &Entry) -> Option<Value> {
    if entry.operation == Operation::Teardown && entry.id.is_unnamed() {
        return None;
    }
    let mut delta = json!({
        "decky_name": entry.decky,
        "operation": entry.operation,
        "status": entry.status,
        "completed_at": entry.at.to_string(),
    });
    if let Some(fields) = delta.as_object_mut() {
        if let Some(failure) = &entry.failure {
            let said = match failure.kind() {
                FailureKind::MasterRestarted => {
                    "WorkerRestarted: the worker restarted while it was at work, how far it came is unknown; ask again"
                        .to_owned()
                }
                _ => failure.to_string(),
            };
            fields.insert("error".to_owned(), said.into());
        }
        // Only what the master named is echoed: the original's names nothing.
        if !entry.id.is_unnamed() {
            fields.insert("lifecycle_id".to_owned(), entry.id.to_string().into());
        }
    }
    Some(delta)
}
