use decnet_lifecycle::*;

fn step(row: Lifecycle<Pending>, now: Timestamp) -> Transition<Pending, Running> {
    row.start(now, now)
}

fn main() {}
