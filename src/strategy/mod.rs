//! The strategies: how the work behind accepted rows is done.
//!
//! | | the master's own deckies | a worker's deckies |
//! |---|---|---|
//! | deploy | [`LocalDeploy`]: one engine call for all | [`SwarmDeploy`]: a shard for each host |
//! | mutate | [`LocalMutate`] | [`SwarmMutate`] |
//! | teardown | [`LocalTeardown`] | [`SwarmTeardown`] |
//!
//! [`Strategies`] says which is taken for what, and takes strategies of one's
//! own. A strategy holds its rows as typed handles and goes on by what
//! [`Context`] gives it, which is what is legal and no more: only started rows
//! can be brought to an engine or a host, for what they were accepted for, and
//! only what these say of those very rows ends them well.
//!
//! ```text
//! Rows<Pending> ──start────▶ Started ───deploy──▶ Evidence ───▶ end ──▶ Ended
//!       │       ──start_on─▶ StartedOn ─dispatch▶ Dispatched ─▶ settle ─▶ Ended, or the worker's
//!       └───────fail───────▶ Failed
//! ```
//!
//! A strategy never fails outwards: whatever goes wrong ends as a failed row.
//! What it leaves open, by a panic or by forgetting it, fails when it returns.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;

use crate::lifecycle::{DeckyName, Lifecycle, Pending};

mod context;
mod dispatch;
mod drive;
mod engine_call;
mod local_deploy;
mod local_mutate;
mod selection;
mod swarm_deploy;
mod swarm_mutate;
mod teardown;
mod way_clear;

pub use context::{Context, Ended};
pub use dispatch::{Call, Dispatched, StartedOn};
pub(crate) use drive::{Drive, Job};
pub use engine_call::{Evidence, Started};
pub use local_deploy::LocalDeploy;
pub use local_mutate::LocalMutate;
pub use selection::{Ending, Place, Strategies};
pub use swarm_deploy::SwarmDeploy;
pub use swarm_mutate::SwarmMutate;
pub use teardown::{LocalTeardown, SwarmTeardown};

/// Rows by their decky, as typed handles.
pub type Rows<S> = BTreeMap<DeckyName, Lifecycle<S>>;

/// Drives rows to their end, or to where a worker ends them.
///
/// ```
/// use decnet_lifecycle::strategy::{Context, LocalDeploy, Rows, Strategy};
/// use decnet_lifecycle::{Failure, FailureKind, lifecycle::Pending};
///
/// /// Deploys one decky, and the rest only if that one came up.
/// #[derive(Debug)]
/// struct Canary;
///
/// #[async_trait::async_trait]
/// impl Strategy for Canary {
///     async fn run(&self, cx: &Context, mut rows: Rows<Pending>) {
///         let Some(first) = rows.pop_first() else { return };
///         let canary = cx.start(Rows::from([first])).await;
///         let evidence = cx.deploy(&canary).await;
///         if cx.end(canary, evidence).await.all_succeeded() {
///             LocalDeploy::default().run(cx, rows).await;
///         } else {
///             let why = Failure::new(FailureKind::Engine, "the first decky did not come up");
///             cx.fail(rows, &why).await;
///         }
///     }
/// }
/// # use std::sync::Arc;
/// # use decnet_lifecycle::{DeployRequest, FleetConfig, Operation, Runner, Status};
/// # use decnet_lifecycle::{store::MemoryStore, strategy::{Place, Strategies}, testkit::FakeEngine};
/// # futures_lite::future::block_on(async {
/// let strategies = Strategies::default().with(Operation::Deploy, Place::Local, Canary);
/// let (runner, _) = Runner::builder(Arc::new(MemoryStore::new()), Arc::new(FakeEngine::new()))
///     .strategies(strategies)
///     .build()?
///     .recover()
///     .await?;
/// # let fleet = FleetConfig::from_json(include_bytes!("../../examples/fleet.json"))?;
/// # let accepted = runner.accept_deploy(DeployRequest::new(fleet)).await?;
/// # let ids: Vec<_> = accepted.all_ids().collect();
/// # accepted.run().await;
/// # assert!(runner.wait(&ids).await?.iter().all(|row| row.status() == Status::Succeeded));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[async_trait]
pub trait Strategy: fmt::Debug + Send + Sync + 'static {
    /// Does the work of these rows, all of one request, one operation, and one
    /// [`Place`]; there is at least one. May be dropped at any await: what it
    /// had not ended is then failed by the next sweep.
    async fn run(&self, cx: &Context, rows: Rows<Pending>);
}
