use decnet_lifecycle::*;

fn step(row: Lifecycle<Failed>, failure: Failure, now: Timestamp) {
    let _step = row.fail(failure, now);
}

fn main() {}
