//! NATS: the bus byte by byte on a fake, credentials, TLS and mirrors on the
//! real server, and what becomes of a stream when all of it is killed.

mod auth;
mod bus;
mod cuts;
mod fake;
mod mirror;
#[path = "../processes/mod.rs"]
mod processes;
mod program;
#[path = "../rows/mod.rs"]
mod rows;
mod server;
mod store;
#[path = "../tls/mod.rs"]
mod tls;
