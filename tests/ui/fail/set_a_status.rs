use decnet_lifecycle::*;

fn set(mut row: AnyLifecycle) {
    row.set_status(Status::Succeeded);
}

fn main() {}
