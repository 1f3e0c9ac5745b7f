use decnet_lifecycle::lifecycle::{Lifecycle, Pending};

fn copy(row: &Lifecycle<Pending>) -> Lifecycle<Pending> {
    row.clone()
}

fn main() {}
