use decnet_lifecycle::strategy::{Context, Evidence, StartedOn};

async fn end(cx: &Context, started: StartedOn, evidence: Evidence) -> bool {
    cx.end(started, evidence).await.all_succeeded()
}

fn main() {}
