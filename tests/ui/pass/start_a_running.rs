//! The twin of `fail/start_a_running.rs`, without its mistake: it compiles.

use decnet_lifecycle::{
    lifecycle::{Lifecycle, Pending},
    *,
};

fn step(row: Lifecycle<Pending>, now: Timestamp) {
    let _step = row.start(now, now);
}

fn main() {}
