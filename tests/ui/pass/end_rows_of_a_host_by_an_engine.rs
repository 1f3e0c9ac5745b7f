//! The twin of `fail/end_rows_of_a_host_by_an_engine.rs`, without its mistake: it compiles.

use decnet_lifecycle::strategy::{Context, Evidence, Started};

async fn end(cx: &Context, started: Started, evidence: Evidence) -> bool {
    cx.end(started, evidence).await.all_succeeded()
}

fn main() {}
