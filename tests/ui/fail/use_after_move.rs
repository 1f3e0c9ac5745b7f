use decnet_lifecycle::{*, lifecycle::{Lifecycle, Pending}};

fn step(row: Lifecycle<Pending>, now: Timestamp) -> LifecycleId {
    let _step = row.start(now, now);
    row.id()
}

fn main() {}
