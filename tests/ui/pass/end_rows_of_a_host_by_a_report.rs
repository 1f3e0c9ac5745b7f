//! The twin of `fail/end_rows_of_a_host_by_a_report.rs`, without its mistake: it compiles.

use decnet_lifecycle::{
    engine::Report,
    strategy::{Context, Started},
};

async fn end(cx: &Context, started: Started, report: &Report) -> bool {
    cx.end(started, report).await.all_succeeded()
}

fn main() {}
