//! Deploys the master's own deckies: one engine call, all rows together.

use async_trait::async_trait;

use crate::lifecycle::Pending;

use super::{Context, Ending, Rows, Strategy};

/// Brings the rows' deckies up by one engine call, which sees all that are at
/// home here.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalDeploy {
    /// When the rows end.
    pub ending: Ending,
}

#[async_trait]
impl Strategy for LocalDeploy {
    async fn run(&self, cx: &Context, rows: Rows<Pending>) {
        let started = cx.start(rows).await;
        match self.ending {
            Ending::Together => {
                let evidence = cx.deploy(&started).await;
                cx.end(started, evidence).await;
            }
            Ending::AsReported => drop(cx.deploy_as_reported(started).await),
        }
    }
}
