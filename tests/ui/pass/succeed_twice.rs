use decnet_lifecycle::*;

fn step(row: Lifecycle<Running>, other: Lifecycle<Running>, now: Timestamp) {
    let _first = row.succeed(now);
    let _second = other.succeed(now);
}

fn main() {}
