//! The twin of `fail/succeed_twice.rs`, without its mistake: it compiles.

use decnet_lifecycle::{
    lifecycle::{Lifecycle, Running},
    *,
};

fn step(row: Lifecycle<Running>, other: Lifecycle<Running>, now: Timestamp) {
    let _first = row.succeed(now);
    let _second = other.succeed(now);
}

fn main() {}
