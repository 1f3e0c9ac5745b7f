use decnet_lifecycle::*;

fn leave(row: Lifecycle<Running>) {
    row.hand_over();
}

fn main() {}
