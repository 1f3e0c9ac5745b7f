use decnet_lifecycle::{TeardownRequest, Unrecovered};

async fn take(master: Unrecovered) -> bool {
    master.accept_teardown(TeardownRequest::all()).await.is_ok()
}

fn main() {}
