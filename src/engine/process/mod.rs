//! The engine that needs no Docker: every service of a decky is a small decoy
//! process of this program.
//!
//! A decoy is alive as long as it holds the lock on its `.lock` file, and
//! stops once its `.run` file is gone. Nobody ever signals a process id that
//! was read from a file: ids are reused, locks are not. So decoys survive the
//! master, and the next master finds them again in the directory.
//!
//! ```text
//! <dir>/<decky>.lock              held by an engine while it works on the decky
//! <dir>/<decky>.<service>.lock    held by the decoy for its life
//!                        .run     the token; without it the decoy stops
//!                        .ready   where it listens, once it does
//!                        .log     who came, as JSON lines; .log.1 the older ones
//!                        .out     what the process said on standard error
//! ```
//!
//! Locks and logs stay when a decoy is gone. Other files in the directory are
//! ignored and never removed.

mod args;
mod converge;
mod decoy;
mod engine;
mod files;
mod lanes;
mod launch;
mod limits;
mod listen;
mod services;
mod session;
mod visits;

pub use args::decoy_main;
pub use decoy::{DecoyError, DecoyOptions, run_decoy};
pub use engine::{Decoy, ProcessEngine};
pub use limits::DecoyLimits;
