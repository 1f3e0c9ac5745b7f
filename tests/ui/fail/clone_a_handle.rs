use decnet_lifecycle::*;

fn copy(row: &Lifecycle<Pending>) -> Lifecycle<Pending> {
    row.clone()
}

fn main() {}
