//! Accepts and runs, as one, on the caller's runtime.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::lifecycle::{DeckyName, LifecycleId};

use super::{AcceptError, Accepted, DeployRequest, MutateRequest, Runner, TeardownRequest};

/// The work behind a request.
pub type BoxWork = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Spawns work on the caller's runtime.
#[derive(Clone)]
pub(super) struct Spawner(pub(super) Arc<dyn Fn(BoxWork) + Send + Sync>);

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spawner")
    }
}

/// A request that is accepted and under way: what to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Underway {
    /// The row of each decky that the request is about.
    pub ids: BTreeMap<DeckyName, LifecycleId>,
    /// The rows of what is taken down first: deckies that move, and deckies
    /// that are pruned.
    pub first: BTreeMap<DeckyName, LifecycleId>,
    /// The rows that this request took over from.
    pub superseded: Vec<LifecycleId>,
    /// Whether the same request was accepted before under its key.
    pub is_repeat: bool,
}

impl Runner {
    /// Accepts a deploy and starts it. Needs a
    /// [spawner](super::RunnerBuilder::spawner).
    ///
    /// Dropping the future takes nothing back, as when a client hangs up: what
    /// was accepted is done all the same.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use decnet_lifecycle::{DeployRequest, FleetConfig, Runner, Status};
    /// # use decnet_lifecycle::{store::MemoryStore, testkit::FakeEngine};
    /// # smol::block_on(async {
    /// # let (store, engine) = (Arc::new(MemoryStore::new()), Arc::new(FakeEngine::new()));
    /// # let fleet = FleetConfig::from_json(include_bytes!("../../examples/fleet.json"))?;
    /// let (runner, _) = Runner::builder(store, engine)
    ///     .spawner(|work| smol::spawn(work).detach()) // or `drop(tokio::spawn(work))`
    ///     .build()?
    ///     .recover()
    ///     .await?;
    /// let underway = runner.deploy(DeployRequest::new(fleet)).await?; // answer 202 with its ids
    /// let ids: Vec<_> = underway.ids.values().copied().collect();
    /// assert!(runner.wait(&ids).await?.iter().all(|row| row.status() == Status::Succeeded));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Runner::accept_deploy`], and [`AcceptError::NoSpawner`].
    pub async fn deploy(&self, request: DeployRequest) -> Result<Underway, AcceptError> {
        let runner = self.clone();
        self.start_now(async move { runner.accept_deploy(request).await }).await
    }

    /// Accepts a mutate and starts it; see [`Runner::deploy`].
    ///
    /// # Errors
    /// As [`Runner::accept_mutate`], and [`AcceptError::NoSpawner`].
    pub async fn mutate(&self, request: MutateRequest) -> Result<Underway, AcceptError> {
        let runner = self.clone();
        self.start_now(async move { runner.accept_mutate(request).await }).await
    }

    /// Accepts a teardown and starts it; see [`Runner::deploy`].
    ///
    /// # Errors
    /// As [`Runner::accept_teardown`], and [`AcceptError::NoSpawner`].
    pub async fn teardown(&self, request: TeardownRequest) -> Result<Underway, AcceptError> {
        let runner = self.clone();
        self.start_now(async move { runner.accept_teardown(request).await }).await
    }

    /// Accepting is spawned too: a caller that is dropped in the middle of it
    /// leaves no row that nobody works on.
    async fn start_now(
        &self,
        accept: impl Future<Output = Result<Accepted, AcceptError>> + Send + 'static,
    ) -> Result<Underway, AcceptError> {
        let Some(Spawner(spawn)) = &self.shared.spawner else { return Err(AcceptError::NoSpawner) };
        let (tell, told) = async_channel::bounded(1);
        spawn(Box::pin(async move {
            let accepted = match accept.await {
                Ok(accepted) => accepted,
                Err(error) => return drop(tell.try_send(Err(error))),
            };
            let underway = Underway {
                ids: accepted.ids().clone(),
                first: accepted.first().clone(),
                superseded: accepted.superseded().to_vec(),
                is_repeat: accepted.is_repeat(),
            };
            let _ = tell.try_send(Ok(underway));
            accepted.run().await;
        }));
        told.recv().await.unwrap_or(Err(AcceptError::ShuttingDown))
    }
}
