//! Gives a worker's decky other services; the worker's heartbeat ends the row.

use crate::agent::MutateCall;
use crate::lifecycle::ServiceName;

use super::dispatch::{self, Answered, Message};
use super::{Context, Rows};

/// Dispatches the mutate of each row to its host.
pub(super) async fn run(context: &Context, services: &[ServiceName], rows: Rows) {
    let calls = rows.into_iter().filter_map(|(decky, row)| {
        let host = row.host().cloned()?;
        let call = MutateCall { decky: decky.clone(), services: services.to_vec(), lifecycle_id: row.id() };
        let rows = Rows::from([(decky, row)]);
        Some(dispatch::to_host(context, host, rows, Message::Mutate(call), Answered::WorkerEndsIt))
    });
    dispatch::all(calls).await;
}
