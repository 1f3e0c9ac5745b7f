use decnet_lifecycle::lifecycle::{Lifecycle, Pending};

fn leave(row: Lifecycle<Pending>) {
    row.hand_over();
}

fn main() {}
