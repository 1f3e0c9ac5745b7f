//! The twin of `fail/fail_a_succeeded.rs`, without its mistake: it compiles.

use decnet_lifecycle::{
    lifecycle::{Lifecycle, Pending},
    *,
};

fn step(row: Lifecycle<Pending>, failure: Failure, now: Timestamp) {
    let _step = row.fail(failure, now);
}

fn main() {}
