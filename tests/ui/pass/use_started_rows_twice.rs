//! The twin of `fail/use_started_rows_twice.rs`, without its mistake: it compiles.

use decnet_lifecycle::{
    engine::Report,
    strategy::{Context, Started},
};

async fn again(cx: &Context, started: Started) -> bool {
    let report = cx.deploy(&started).await;
    let ended = cx.end(started, &report).await;
    ended.all_succeeded() && report != Report::new()
}

fn main() {}
