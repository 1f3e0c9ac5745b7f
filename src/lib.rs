//! The lifecycles of DECNET's deckies: durable rows that follow each deploy,
//! mutate and teardown of a decoy to its end.
//!
//! A DECNET master answers `202 Accepted` at once and works for minutes. This
//! crate is what stands between: it makes the rows durable before the answer,
//! drives them through one of four strategies, and ends each one, whatever
//! happens to engine, workers, disk or the master itself.
//!
//! ```text
//! Pending ──start──▶ Running ──succeed──▶ Succeeded
//!    │                  │
//!    └──────fail────────┴──────fail─────▶ Failed
//! ```
//!
//! # In short
//!
//! [`Runner`] is the face: it accepts requests, and gives futures that the
//! caller spawns on its own runtime, whichever that is. [`Store`] keeps rows
//! ([`RedbStore`] by default), [`Engine`] brings deckies up (the process engine
//! by default), [`Agents`] calls workers, [`Bus`] tells others.
//!
//! ```
//! use std::sync::Arc;
//! use decnet_lifecycle::{DeployRequest, FleetConfig, MemoryStore, Runner, Status};
//! # use decnet_lifecycle::testkit::FakeEngine as MyEngine;
//!
//! # futures_lite::future::block_on(async {
//! let fleet = FleetConfig::from_json(include_bytes!("../examples/fleet.json"))?;
//! let runner = Runner::builder(Arc::new(MemoryStore::new()), Arc::new(MyEngine::new())).build()?;
//! runner.recover().await?;
//!
//! let accepted = runner.accept_deploy(DeployRequest::new(fleet)).await?;
//! let ids: Vec<_> = accepted.ids().values().copied().collect(); // answer 202 with these
//! accepted.run().await; // or spawn it
//!
//! let rows = runner.wait(&ids).await?;
//! assert!(rows.iter().all(|row| row.status() == Status::Succeeded));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # One walk through every state
//!
//! The machine itself is typed: holding a [`Lifecycle<Running>`] proves that
//! `running` is durable, and a step that the graph does not have does not
//! compile. Strategies of one's own take handles from [`Journal::load`].
//!
//! ```
//! use decnet_lifecycle::{AnyLifecycle, Failure, FailureKind, Journal, LifecycleId, Timestamp};
//!
//! async fn walk(journal: &Journal, id: LifecycleId, now: Timestamp) -> Result<(), Box<dyn std::error::Error>> {
//!     match journal.load(id).await? {
//!         Some(AnyLifecycle::Pending(row)) => {
//!             let running = journal.commit(row.start(now, now)).await?;
//!             let _succeeded = journal.commit(running.succeed(now)).await?;
//!         }
//!         Some(AnyLifecycle::Running(row)) => {
//!             let failure = Failure::new(FailureKind::Engine, "no such image");
//!             let _failed = journal.commit(row.fail(failure, now)).await?;
//!         }
//!         Some(AnyLifecycle::Succeeded(_) | AnyLifecycle::Failed(_)) | None => {}
//!     }
//!     Ok(())
//! }
//! ```
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::todo,
    clippy::dbg_macro
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod agent;
mod beat;
mod bus;
mod clock;
pub mod decide;
mod discretion;
mod engine;
mod fleet;
mod heartbeat;
mod journal;
mod lifecycle;
pub mod placement;
mod private_file;
mod runner;
pub mod store;
mod strategy;
mod sweep;
#[cfg(feature = "testkit")]
pub mod testkit;
mod waiting;
#[cfg(feature = "worker")]
pub mod worker;

#[cfg(feature = "https")]
pub use agent::https;
pub use agent::{
    AgentError, Agents, DeployCall, DirectoryError, Fingerprint, Host, HostDirectory, HostsFile,
    HostsFileError, MutateCall, NoSwarm, ParseFingerprintError, Pin, StaticHosts, TeardownCall,
};
pub use beat::{
    Beat, BeatAnswer, BeatAnswerError, BeatError, Delta, KnownRows, Reported, Verdict, WorkerStatus,
};
#[cfg(feature = "unix-bus")]
pub use bus::unix as unix_bus;
pub use bus::{Bus, ChannelBus, Event, NullBus, Subscription};
pub use clock::{Clock, SystemClock};
pub use decide::{
    Annotate, Batch, BatchError, Change, Insert, KeyClaim, Outcome, Overlap, Refusal, Step, Together,
};
#[cfg(feature = "compose")]
pub use engine::compose;
#[cfg(feature = "process")]
pub use engine::process;
pub use engine::{CancelToken, Engine, NoProgress, Progress, Report, Task, Work};
pub use fleet::{
    Archetype, DeckyConfig, DeckyRuntime, DeployedFleet, Distro, FleetConfig, FleetError, HostNetwork,
    IniFleet, IniSettings, Mode, Problem, Problems, SalvagedState, Shards,
};
pub use journal::{CommitError, Journal};
pub use lifecycle::{
    AnyLifecycle, Closed, DeckyName, EngineName, Failed, Failure, FailureKind, HostId, Leaves, Lifecycle,
    LifecycleId, MasterName, NameError, Operation, Owner, ParseIdError, ParseTimestampError, Pending, Phase,
    Record, RequestKey, Revision, Running, Secrets, ServiceName, State, Status, Succeeded, Timestamp,
    Transition, text,
};
pub use placement::{Clash, Home, Placement, Plan, Standing};
#[cfg(all(unix, feature = "https"))]
pub use private_file::{NotPrivate, Secrecy, check_private};
/// The database of [`RedbStore`], for whoever shares a file with it.
#[cfg(feature = "redb")]
pub use redb;
pub use runner::{
    AcceptError, Accepted, BuildError, Cancelled, Counters, DeckyStatus, DeployRequest, Enlisted,
    Explanation, Health, HistoryStep, MutateRequest, Prepared, Recovered, Runner, RunnerBuilder, Seen,
    StartError, TeardownRequest, Watch, history,
};
pub use store::{
    Cursor, Entry, Feed, MemoryStore, OpenOnly, Page, ParseCursorError, PlacementQuery, Pruned, Query,
    Retention, Store, StoreError,
};
#[cfg(feature = "redb")]
pub use store::{OpenError, RedbReader, RedbStore, StoreHealth};
pub use strategy::{Deadlines, Limits};
pub use sweep::Swept;

/// The README's example, compiled.
#[cfg(all(doctest, feature = "redb", feature = "process"))]
#[doc = include_str!("../README.md")]
struct Readme;
