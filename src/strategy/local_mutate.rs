//! Gives the master's own deckies other services.

use async_trait::async_trait;

use crate::lifecycle::Pending;

use super::{Context, Rows, Strategy};

/// Mutates the rows' deckies by one engine call. The new services become their
/// placements' only if the engine succeeded with them.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalMutate;

#[async_trait]
impl Strategy for LocalMutate {
    async fn run(&self, cx: &Context, rows: Rows<Pending>) {
        let started = cx.start(rows).await;
        let evidence = cx.mutate(&started).await;
        cx.end(started, evidence).await;
    }
}
