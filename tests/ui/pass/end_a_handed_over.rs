//! The twin of `fail/end_a_handed_over.rs`, without its mistake: it compiles.

use decnet_lifecycle::{
    lifecycle::{Lifecycle, Running},
    *,
};

fn step(row: Lifecycle<Running>, other: Lifecycle<Running>, now: Timestamp) {
    row.hand_over();
    let _step = other.succeed(now);
}

fn main() {}
