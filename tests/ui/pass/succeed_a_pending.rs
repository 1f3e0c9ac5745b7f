//! The twin of `fail/succeed_a_pending.rs`, without its mistake: it compiles.

use decnet_lifecycle::{
    lifecycle::{Lifecycle, Running},
    *,
};

fn step(row: Lifecycle<Running>, now: Timestamp) {
    let _step = row.succeed(now);
}

fn main() {}
