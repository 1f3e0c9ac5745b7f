use decnet_lifecycle::*;

fn copy(row: &Lifecycle<Pending>) -> Record {
    row.record().clone()
}

fn main() {}
