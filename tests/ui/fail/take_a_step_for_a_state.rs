use decnet_lifecycle::{*, lifecycle::{Lifecycle, Pending, Running}};

fn step(row: Lifecycle<Pending>, now: Timestamp) -> Lifecycle<Running> {
    row.start(now, now)
}

fn main() {}
