//! The twin of `fail/set_a_status.rs`, without its mistake: it compiles.

use decnet_lifecycle::{lifecycle::AnyLifecycle, *};

fn look(row: &AnyLifecycle) -> Status {
    row.record().status()
}

fn main() {}
