use decnet_lifecycle::{*, lifecycle::{Lifecycle, Running}};

fn step(row: Lifecycle<Running>, now: Timestamp) {
    let _first = row.succeed(now);
    let _second = row.succeed(now);
}

fn main() {}
