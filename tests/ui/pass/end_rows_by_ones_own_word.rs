//! The twin of `fail/end_rows_by_ones_own_word.rs`, without its mistake: it compiles.

use decnet_lifecycle::strategy::{Context, Started};

async fn end(cx: &Context, started: Started) -> bool {
    let evidence = cx.deploy(&started).await;
    cx.end(started, evidence).await.all_succeeded()
}

fn main() {}
