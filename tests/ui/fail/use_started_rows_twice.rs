use decnet_lifecycle::strategy::{Context, Evidence, Started};

async fn again(cx: &Context, started: Started, evidence: Evidence) -> Evidence {
    cx.end(started, evidence).await;
    cx.deploy(&started).await
}

fn main() {}
