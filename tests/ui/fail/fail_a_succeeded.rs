use decnet_lifecycle::{*, lifecycle::{Lifecycle, Succeeded}};

fn step(row: Lifecycle<Succeeded>, failure: Failure, now: Timestamp) {
    let _step = row.fail(failure, now);
}

fn main() {}
