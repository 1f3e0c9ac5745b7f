use decnet_lifecycle::*;

fn leave(row: Lifecycle<Pending>) {
    row.hand_over();
}

fn main() {}
