//! The engine of real containers: each decky is a base container with its
//! services in the base's network namespace, brought up by a compose tool.
//!
//! What runs is what the original runs (`samples/compose-unihost-3.yml` of its
//! wire facts): project `decnet`, external network `decnet_lan`, container
//! names `decky-01` and `decky-01-docker-api`. Programs are called with
//! argument lists, never through a shell.
//!
//! ```text
//! fleet + catalogue ──composer──▶ compose file ──up──▶ ps, inspect ──▶ Report
//! ```

mod call;
mod catalogue;
mod command;
mod composer;
mod containers;
mod doctor;
mod document;
mod door;
mod engine;
mod file;
mod format;
mod held;
mod image;
mod mend;
mod network;
mod progress;
mod project_lock;
mod secrets;
mod settings;
mod staging;
mod text;
mod tool;
mod trouble;
mod up;
mod verdict;

pub use catalogue::{Catalogue, CatalogueError};
pub use containers::Container;
pub use doctor::{Finding, Health};
pub use document::{ComposeFile, ComposeFileError};
pub use engine::ComposeEngine;
pub use settings::{ComposeSettings, DockerName, DockerNameError, NetworkDriver};

use crate::engine::Work;
use crate::lifecycle::{DeckyName, Failure, FailureKind};

/// The engine says no.
fn failed(text: &str) -> Failure {
    Failure::new(FailureKind::Engine, text)
}

/// Tells how a decky is coming along, in words that are as safe to show as a
/// failure's: some are a program's.
fn note(work: &Work, decky: &DeckyName, text: &str) {
    work.note(decky, failed(text).message());
}
