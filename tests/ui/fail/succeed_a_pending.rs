use decnet_lifecycle::*;

fn step(row: Lifecycle<Pending>, now: Timestamp) {
    let _step = row.succeed(now);
}

fn main() {}
