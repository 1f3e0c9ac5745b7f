#![deny(unused_must_use)]

use decnet_lifecycle::{*, lifecycle::{Lifecycle, Pending}};

fn step(row: Lifecycle<Pending>, now: Timestamp) {
    row.start(now, now);
}

fn main() {}
