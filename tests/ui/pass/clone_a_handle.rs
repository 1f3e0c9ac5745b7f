//! The twin of `fail/clone_a_handle.rs`, without its mistake: it compiles.

use decnet_lifecycle::{
    lifecycle::{Lifecycle, Pending},
    *,
};

fn copy(row: &Lifecycle<Pending>) -> Record {
    row.record().clone()
}

fn main() {}
