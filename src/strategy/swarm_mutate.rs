//! Gives a worker's decky other services; the worker's heartbeat ends the row.

use super::dispatch::{self, Task};
use super::{Context, Rows};

/// Dispatches the mutate of each row to its host.
pub(super) async fn run(context: &Context, rows: Rows) {
    let calls = rows.into_iter().filter_map(|(decky, row)| {
        let host = row.host().cloned()?;
        Some(dispatch::to_host(context, host, Rows::from([(decky, row)]), Task::Mutate))
    });
    dispatch::all(calls).await;
}
