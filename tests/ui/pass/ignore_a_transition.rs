//! The twin of `fail/ignore_a_transition.rs`, without its mistake: it compiles.

#![deny(unused_must_use)]

use decnet_lifecycle::{
    journal::Journal,
    lifecycle::{Lifecycle, Pending},
    *,
};

async fn step(journal: &Journal, row: Lifecycle<Pending>, now: Timestamp) -> bool {
    journal.commit(row.start(now, now)).await.is_ok()
}

fn main() {}
