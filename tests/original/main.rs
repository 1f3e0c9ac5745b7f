//! Our program beside stand-ins of DECNET's agent and master, which do what was
//! seen of those, over mTLS. The data files beside are for other tests.

#[path = "../processes/mod.rs"]
mod processes;

mod agent;
mod http;
mod master;
mod under_its_master;
mod with_its_agent;
