use decnet_lifecycle::*;

fn step(row: Lifecycle<Pending>, now: Timestamp) -> Lifecycle<Running> {
    row.start(now, now)
}

fn main() {}
