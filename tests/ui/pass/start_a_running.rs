use decnet_lifecycle::*;

fn step(row: Lifecycle<Pending>, now: Timestamp) {
    let _step = row.start(now, now);
}

fn main() {}
