//! The twin of `fail/accept_before_recover.rs`, without its mistake: it compiles.

use decnet_lifecycle::{TeardownRequest, Unrecovered};

async fn take(master: Unrecovered) -> bool {
    let Ok((master, _)) = master.recover().await else { return false };
    master.accept_teardown(TeardownRequest::all()).await.is_ok()
}

fn main() {}
