use decnet_lifecycle::*;

fn step(row: Lifecycle<Pending>, now: Timestamp) -> LifecycleId {
    let id = row.id();
    let _step = row.start(now, now);
    id
}

fn main() {}
