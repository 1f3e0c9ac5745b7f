use decnet_lifecycle::{*, lifecycle::{Lifecycle, Running}};

fn step(row: Lifecycle<Running>, now: Timestamp) {
    let _step = row.start(now, now);
}

fn main() {}
