//! The twin of `fail/fail_a_failed.rs`, without its mistake: it compiles.

use decnet_lifecycle::{
    lifecycle::{Lifecycle, Running},
    *,
};

fn step(row: Lifecycle<Running>, failure: Failure, now: Timestamp) {
    let _step = row.fail(failure, now);
}

fn main() {}
