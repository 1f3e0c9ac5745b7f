use decnet_lifecycle::*;

fn step(row: Lifecycle<Running>, now: Timestamp) {
    let _step = row.succeed(now);
}

fn main() {}
