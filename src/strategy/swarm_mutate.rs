//! Gives a worker's decky other services; the worker's heartbeat ends the row.

use async_trait::async_trait;

use crate::lifecycle::Pending;

use super::{Call, Context, Rows, Strategy, dispatch};

/// Dispatches the mutate of each row to its host.
#[derive(Debug, Clone, Copy, Default)]
pub struct SwarmMutate;

#[async_trait]
impl Strategy for SwarmMutate {
    async fn run(&self, cx: &Context, rows: Rows<Pending>) {
        let calls = rows.into_iter().filter_map(|(decky, row)| {
            let host = row.host().cloned()?;
            Some(cx.to_host(host, Rows::from([(decky, row)]), Call::Mutate))
        });
        dispatch::all(calls).await;
    }
}
