//! Deploys the master's own deckies: one engine call, all rows together.

use super::engine_call::{self, Call};
use super::{Context, Rows};

/// Brings the rows' deckies up; the engine sees all that are at home here.
pub(super) async fn run(context: &Context, rows: Rows) {
    engine_call::run(context, Call::Deploy, rows).await;
}
