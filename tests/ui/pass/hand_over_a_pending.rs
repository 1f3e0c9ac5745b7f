//! The twin of `fail/hand_over_a_pending.rs`, without its mistake: it compiles.

use decnet_lifecycle::lifecycle::{Lifecycle, Running};

fn leave(row: Lifecycle<Running>) {
    row.hand_over();
}

fn main() {}
