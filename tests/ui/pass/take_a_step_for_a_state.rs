//! The twin of `fail/take_a_step_for_a_state.rs`, without its mistake: it compiles.

use decnet_lifecycle::{
    lifecycle::{Lifecycle, Pending, Running, Transition},
    *,
};

fn step(row: Lifecycle<Pending>, now: Timestamp) -> Transition<Pending, Running> {
    row.start(now, now)
}

fn main() {}
