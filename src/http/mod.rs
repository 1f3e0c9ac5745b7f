//! The master's and the worker's servers as parts to mount in one's own, on
//! axum and tokio.
//!
//! | part | what it is |
//! |---|---|
//! | [`api`] | what users ask of a master: the original's endpoints, rows, the feed, metrics |
//! | [`swarm`] | what workers ask of a master: their beats, over mutual TLS |
//! | [`agent`] | what a master asks of a worker, over mutual TLS |
//! | [`Server`] | connections in bounds: how many, whose, how fast, and by which certificate |
//! | [`Token`], [`Swarm::guard`] | who may ask, for routes of one's own |
//! | [`Stop`] | the word that it is time to stop |
//! | [`wire`] | the JSON of the answers |
//!
//! Each of the first three becomes an [`axum::Router`]: with `From` of its
//! routes alone, to merge or nest among others, or with `alone` of all that a
//! server answers. They look who asks before a byte of a body is read, and bound
//! how long a body is. How fast one has to come, how long an answer may take and
//! how many ask at once are [`Server`]'s to bound: under a server of one's own,
//! say `axum::serve`, they are that server's.
//!
//! They spawn on the tokio runtime that they are polled on. What is accepted is
//! run there, whether the client stays or not; a master still wants to
//! [recover](crate::Unrecovered::recover) first, to be
//! [maintained](crate::Runner::maintain), and to be
//! [shut down](crate::Runner::shutdown) when its servers have stopped. The
//! chapter [`manual::http`](crate::manual::http) has all of it in one program.

mod agent;
mod answer;
mod api;
mod feed;
mod metrics;
mod server;
mod stop;
mod swarm;
mod token;
pub mod wire;

pub use agent::{Agent, agent};
pub use api::{Access, Api, api};
pub use server::{PeerCertificate, Server, ServerLimits};
pub use stop::Stop;
pub use swarm::{Caller, KnownHosts, Swarm, swarm};
pub use token::{Token, TokenError};

/// What the routes are made with: its major version is this crate's too.
pub use axum;
