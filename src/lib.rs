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
//! caller spawns on its own runtime, whichever that is. The [`manual`] goes on
//! from here: embedding, swarms, and parts of one's own.
//!
//! ```
//! use std::sync::Arc;
//! use decnet_lifecycle::{DeployRequest, FleetConfig, Runner, Status, store::MemoryStore};
//! # use decnet_lifecycle::testkit::FakeEngine as MyEngine;
//!
//! # futures_lite::future::block_on(async {
//! let fleet = FleetConfig::from_json(include_bytes!("../examples/fleet.json"))?;
//! let (store, engine) = (Arc::new(MemoryStore::new()), Arc::new(MyEngine::new()));
//! let (runner, _) = Runner::builder(store, engine).build()?.recover().await?;
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
//! # The map
//!
//! | module | what is there |
//! |---|---|
//! | [`runner`] | accepting, watching, waiting, explaining, stopping; what it is built from |
//! | [`strategy`] | how the work of accepted rows is done: the built-in ones, and those of one's own |
//! | [`lifecycle`] | the machine: one operation on one decky, as types; names, times, failures |
//! | [`journal`] | the only way from an intended step to a durable one |
//! | [`placement`] | what is deployed where, and what a request would change |
//! | [`decide`] | what a batch of changes does to a store, without I/O: the core of every store |
//! | [`store`] | where rows live: the trait, the embedded store, one in memory |
//! | [`engine`] | what brings deckies up: the trait, decoy processes, containers |
//! | [`agent`], [`beat`] | the master's side of workers: calling them, and hearing their heartbeats |
//! | `worker` | a worker's side |
//! | `http` | the servers of both sides, to mount in one's own |
//! | [`bus`] | telling others, at best effort |
//! | `mirror` | telling others each change once and in order, by JetStream |
//! | [`fleet`] | fleet files, as JSON and INI |
//! | [`clock`] | time, injected |
//! | `testkit` | fakes, faults, simulation, and suites for parts of one's own |
//! | [`manual`] | how to embed a master, run a swarm, write parts of one's own, and test them |
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `redb` | yes | [`store::RedbStore`], the embedded store |
//! | `postgres` | | `store::PostgresStore`, where users outgrow one machine's file (Unix) |
//! | `process` | yes | [`engine::process`]: a decoy process for each service (Unix) |
//! | `compose` | yes | [`engine::compose`]: containers, by a compose tool (Unix) |
//! | `unix-bus` | | `bus::unix`: DECNET's bus on a UNIX socket (Unix) |
//! | `nats` | | `bus::nats`: events on NATS; `mirror`: the feed in a stream of JetStream |
//! | `https` | | `agent::https`: workers' agents over mTLS |
//! | `worker` | | `worker`: takes dispatches, and tells in its beats how they ended |
//! | `http` | | `http`: what masters and workers answer, as axum routers, and what serves them over mTLS (tokio) |
//! | `testkit` | | `testkit` |
//! | `cli` | | the program |
//!
//! Without features there are the machine, the strategies, the runner and a
//! store in memory, without any runtime or TLS. The oldest Rust that is tested
//! is the `rust-version` of `Cargo.toml`; a minor release may raise it.
//!
//! # One walk through every state
//!
//! The machine itself is typed: holding a
//! [`Lifecycle<Running>`](lifecycle::Lifecycle) proves that `running` is
//! durable, and a step that the graph does not have does not compile. A
//! [`Strategy`](strategy::Strategy) holds such handles;
//! [`Journal::load`](journal::Journal::load) gives one for any row.
//!
//! ```
//! use decnet_lifecycle::{
//!     Failure, FailureKind, LifecycleId, Timestamp, journal::Journal, lifecycle::AnyLifecycle,
//! };
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
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::todo,
    clippy::dbg_macro
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod agent;
pub mod beat;
pub mod bus;
pub mod clock;
pub mod decide;
mod discretion;
pub mod engine;
pub mod fleet;
mod heartbeat;
#[cfg(feature = "http")]
pub mod http;
pub mod journal;
pub mod lifecycle;
// Only in the documentation; what it shows is tested where all of it is there.
#[cfg(any(all(doc, not(doctest)), all(doctest, feature = "cli", feature = "testkit")))]
#[cfg_attr(docsrs, doc(auto_cfg = false))]
pub mod manual;
mod master;
#[cfg(feature = "nats")]
pub mod mirror;
pub mod placement;
pub mod private_file;
pub mod runner;
#[cfg(any(feature = "nats", all(feature = "postgres", unix)))]
mod server_tls;
pub mod store;
pub mod strategy;
mod sweep;
#[cfg(feature = "testkit")]
pub mod testkit;
mod waiting;
#[cfg(feature = "worker")]
pub mod worker;

pub use decide::Overlap;
pub use fleet::FleetConfig;
pub use lifecycle::{
    DeckyName, Failure, FailureKind, HostId, LifecycleId, Operation, Record, RequestKey, ServiceName, Status,
    Timestamp,
};
/// The database of [`RedbStore`](store::RedbStore), for whoever shares a file
/// with it.
#[cfg(feature = "redb")]
pub use redb;
pub use runner::{
    AcceptError, Accepted, Cancelled, DeployRequest, MutateRequest, Recovered, Runner, RunnerBuilder,
    TeardownRequest, Unrecovered,
};
pub use store::StoreError;

/// The README's example, compiled.
#[cfg(all(doctest, feature = "redb", feature = "process"))]
#[doc = include_str!("../README.md")]
struct Readme;
