//! The PostgreSQL store on real servers: whether it conforms, what it does when
//! connections, sessions and servers go, and what it refuses.

mod agrees;
mod conforms;
mod cuts;
mod damaged;
#[cfg(feature = "cli")]
mod program;
mod proxy;
mod reached;
mod server;
mod work;
