use decnet_lifecycle::{*, lifecycle::{Lifecycle, Running}};

fn step(row: Lifecycle<Running>, now: Timestamp) {
    row.hand_over();
    let _step = row.succeed(now);
}

fn main() {}
