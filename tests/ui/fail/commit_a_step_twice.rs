use decnet_lifecycle::{journal::Journal, lifecycle::{Pending, Running, Transition}};

async fn step(journal: &Journal, step: Transition<Pending, Running>) -> bool {
    let first = journal.commit(step).await;
    let second = journal.commit(step).await;
    first.is_ok() && second.is_ok()
}

fn main() {}
