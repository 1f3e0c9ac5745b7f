//! The twin of `fail/use_after_move.rs`, without its mistake: it compiles.

use decnet_lifecycle::{
    lifecycle::{Lifecycle, Pending},
    *,
};

fn step(row: Lifecycle<Pending>, now: Timestamp) -> LifecycleId {
    let id = row.id();
    let _step = row.start(now, now);
    id
}

fn main() {}
