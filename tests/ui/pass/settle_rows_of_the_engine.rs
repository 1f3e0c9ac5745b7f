//! The twin of `fail/settle_rows_of_the_engine.rs`, without its mistake: it compiles.

use decnet_lifecycle::strategy::{Context, Dispatched, StartedOn};

async fn settle(cx: &Context, started: StartedOn, dispatched: Dispatched) -> bool {
    cx.settle(started, dispatched).await.all_succeeded()
}

fn main() {}
