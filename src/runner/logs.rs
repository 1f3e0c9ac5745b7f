//! What deckies' services have said, fit to be shown.

use crate::engine::{LogLine, LogQuery};
use crate::lifecycle::text::one_line;
use crate::lifecycle::{Failure, FailureKind};
use crate::placement::Placement;
use crate::store::{PlacementQuery, StoreError};

use super::Runner;

impl Runner {
    /// Hears what the services of a decky of this master's own engine have said:
    /// the last lines of each, oldest first, and if so asked whatever they say
    /// from then on, for as long as the future is polled. Each is one line that
    /// steers no terminal, of at most [`LogQuery::MAX_LINE`] characters, without
    /// what this master knows to be secret; what visitors have typed is what a
    /// decoy's log is for, and stays. Cancel-safe.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use decnet_lifecycle::{DeckyName, Runner, clock::SystemClock, engine::LogQuery, store::MemoryStore};
    /// # use decnet_lifecycle::testkit::FakeEngine;
    /// # futures_lite::future::block_on(async {
    /// let (runner, _) = Runner::builder(Arc::new(MemoryStore::new()), Arc::new(FakeEngine::new())).build()?.recover().await?;
    /// let query = LogQuery::new(DeckyName::parse("decky-01")?, Arc::new(SystemClock::new())).tail(10);
    /// let heard = runner.logs(&query, &|line| println!("{}", line.text)).await;
    /// assert!(heard.unwrap_err().message().contains("keeps no logs"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Why there is nothing to be heard: the decky is on a worker host, the
    /// engine keeps no logs or has none of it, or they can't be read.
    pub async fn logs(
        &self,
        query: &LogQuery,
        hear: &(dyn Fn(LogLine) + Send + Sync),
    ) -> Result<(), Failure> {
        let master = &self.shared.master;
        let unread = |error: StoreError| Failure::new(FailureKind::Store, &error.to_string());
        master.discretion.load(master.journal.store()).await.map_err(unread)?;
        let of = PlacementQuery::Of(vec![query.decky.clone()]);
        let placements = self.placements(&of).await.map_err(unread)?;
        let home = placements.first().and_then(Placement::likeliest).map(|placed| &placed.home);
        if let Some(host) = home.and_then(|home| home.host()) {
            let text = format!("{} is on the worker host {host}; its logs are there", query.decky);
            return Err(Failure::new(FailureKind::Engine, &text));
        }
        let secrets = self.secrets();
        let shown = |line: LogLine| {
            let text = one_line(&secrets.hide(&line.text), LogQuery::MAX_LINE);
            hear(LogLine { text, ..line });
        };
        let heard = master.local.engine.logs(query, &shown).await;
        heard.map_err(|failure| failure.hiding(&secrets))
    }
}
