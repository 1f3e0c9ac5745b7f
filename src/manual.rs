//! The manual: how to embed a master, run a swarm, write parts of one's own,
//! and test them.
//!
//! | chapter | for whom |
//! |---|---|
//! | [`embedding`] | who puts a master into a program: spawning, maintenance, shutdown, dropped futures |
//! | [`guarantees`] | who relies on it: what each guarantee rests on, and what breaks it |
//! | [`http`] | who serves it over HTTP: routers to mount, bounds, mutual TLS |
//! | [`swarm`] | who runs masters with workers: HTTPS, pins, what a heartbeat does |
//! | [`engine`] | who brings deckies up in a way of their own |
//! | [`strategy`] | who wants the work done in another order |
//! | [`store`] | who keeps rows elsewhere |
//! | [`bus`] | who tells others of changes |
//! | [`testing`] | who tests any of these |
//!
//! There is no code here, only chapters; all that they show is compiled, and
//! run where it needs no certificates. Whole programs are in `examples/`.
#![cfg_attr(not(all(feature = "cli", feature = "testkit")), allow(rustdoc::broken_intra_doc_links))]
#![allow(unused_imports, reason = "the chapters link to them by their names")]

#[cfg(feature = "https")]
use crate::agent::https::HttpsAgents;
use crate::agent::{Agents, HostDirectory, HostsFile, Pin};
#[cfg(feature = "nats")]
use crate::bus::nats::NatsBus;
use crate::bus::{Bus, ChannelBus};
use crate::decide;
use crate::engine::{CancelToken, Engine, Report, Turns, Work};
#[cfg(feature = "http")]
use crate::http::{Access, KnownHosts, PeerCertificate, Server, ServerLimits};
use crate::lifecycle::Secrets;
#[cfg(feature = "nats")]
use crate::mirror::NatsMirror;
use crate::placement::Placement;
use crate::runner::Watch;
#[cfg(feature = "redb")]
use crate::store::RedbReader;
use crate::store::{PlacementQuery, Query, Store};
use crate::strategy::{Context, Ended, Place, Started, StartedOn, Strategy};
#[cfg(all(feature = "testkit", feature = "redb"))]
use crate::testkit::sim::{Executor, SimDisk, simulate};
#[cfg(feature = "testkit")]
use crate::testkit::{
    FakeAgents, FakeEngine, FaultyStore, Invariants, VirtualClock, Witness, conformance, engines,
};
use crate::{Accepted, DeployRequest, Failure, FailureKind, Runner, RunnerBuilder, StoreError, Unrecovered};

#[doc = include_str!("../docs/manual/embedding.md")]
pub mod embedding {}

#[doc = include_str!("../docs/manual/guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("../docs/manual/http.md")]
pub mod http {}

#[doc = include_str!("../docs/manual/swarm.md")]
pub mod swarm {}

#[doc = include_str!("../docs/manual/engine.md")]
pub mod engine {}

#[doc = include_str!("../docs/manual/strategy.md")]
pub mod strategy {}

#[doc = include_str!("../docs/manual/store.md")]
pub mod store {}

#[doc = include_str!("../docs/manual/bus.md")]
pub mod bus {}

#[doc = include_str!("../docs/manual/testing.md")]
pub mod testing {}
