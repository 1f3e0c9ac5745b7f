//! The engine that needs no Docker: each service of each decky is a small
//! decoy process.
//!
//! Decoys are the caller's own program, started as `PROGRAM decoy ..`: its
//! `main` calls [`decoy_main`] before anything else.

mod banners;
mod children;
mod decoy;
mod engine;
mod files;
mod knock;
mod link;
mod logs;
mod options;
mod settings;
mod start;
mod stop;
mod visits;

pub use decoy::{decoy_main, run_decoy};
pub use engine::ProcessEngine;
pub use files::Decoy;
pub use options::{DecoyError, DecoyLimits, DecoyOptions};
