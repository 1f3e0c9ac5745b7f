use decnet_lifecycle::{*, lifecycle::{Lifecycle, Pending}};

fn step(row: Lifecycle<Pending>, now: Timestamp) {
    let _step = row.succeed(now);
}

fn main() {}
