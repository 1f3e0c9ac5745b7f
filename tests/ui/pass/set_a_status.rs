use decnet_lifecycle::*;

fn look(row: &AnyLifecycle) -> Status {
    row.record().status()
}

fn main() {}
