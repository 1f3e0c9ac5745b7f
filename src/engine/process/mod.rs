//! The engine that needs no Docker: each service of each decky is a small
//! decoy process.

mod banners;
mod decoy;
mod engine;
mod files;

pub use decoy::{DecoyError, DecoyLimits, DecoyOptions, run_decoy};
pub use engine::ProcessEngine;
pub use files::Decoy;
