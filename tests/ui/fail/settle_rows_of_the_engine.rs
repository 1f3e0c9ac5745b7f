use decnet_lifecycle::strategy::{Context, Dispatched, Started};

async fn settle(cx: &Context, started: Started, dispatched: Dispatched) -> bool {
    cx.settle(started, dispatched).await.all_succeeded()
}

fn main() {}
