//! The twin of `fail/use_started_rows_twice.rs`, without its mistake: it compiles.

use decnet_lifecycle::strategy::{Context, Started};

async fn once(cx: &Context, started: Started) -> bool {
    let evidence = cx.deploy(&started).await;
    cx.end(started, evidence).await.all_succeeded()
}

fn main() {}
