//! The twin of `fail/commit_a_step_twice.rs`, without its mistake: it compiles.

use decnet_lifecycle::{
    journal::Journal,
    lifecycle::{Pending, Running, Transition},
};

async fn step(
    journal: &Journal,
    step: Transition<Pending, Running>,
    other: Transition<Pending, Running>,
) -> bool {
    let first = journal.commit(step).await;
    let second = journal.commit(other).await;
    first.is_ok() && second.is_ok()
}

fn main() {}
