use decnet_lifecycle::{*, lifecycle::AnyLifecycle};

fn set(mut row: AnyLifecycle) {
    row.set_status(Status::Succeeded);
}

fn main() {}
