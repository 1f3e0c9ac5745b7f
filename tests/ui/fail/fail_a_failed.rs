use decnet_lifecycle::{*, lifecycle::{Failed, Lifecycle}};

fn step(row: Lifecycle<Failed>, failure: Failure, now: Timestamp) {
    let _step = row.fail(failure, now);
}

fn main() {}
