//! Gives the master's own deckies other services. The new services become
//! their placements' only if the engine succeeded with them.

use super::engine_call::{self, Call};
use super::{Context, Rows};

/// Mutates the rows' deckies.
pub(super) async fn run(context: &Context, rows: Rows) {
    engine_call::run(context, Call::Mutate, rows).await;
}
