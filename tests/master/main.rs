//! The master at its public API: every rule of the operations, on fakes and
//! virtual time.

mod accept;
mod deltas;
mod drift;
mod local;
mod logs;
mod original;
mod placed;
mod reported;
mod reviewed;
mod runtimes;
mod set_aside;
mod swarm;
mod sweeping;
mod turns;
mod unnamed;
mod waiting;
mod world;
