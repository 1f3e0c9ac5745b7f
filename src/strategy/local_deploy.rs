//! Deploys the master's own deckies: one engine call, all rows together.

use async_trait::async_trait;

use crate::lifecycle::Pending;

use super::{Context, Rows, Strategy};

/// Brings the rows' deckies up by one engine call, which sees all that are at
/// home here; ends the rows in one commit.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalDeploy;

#[async_trait]
impl Strategy for LocalDeploy {
    async fn run(&self, cx: &Context, rows: Rows<Pending>) {
        let started = cx.start(rows).await;
        let report = cx.deploy(&started).await;
        cx.end(started, &report).await;
    }
}
