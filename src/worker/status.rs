//! What a worker says of its deckies.

use serde_json::{Value, json};

use super::Shared;

/// The status of a worker with nothing deployed.
pub(super) fn nothing() -> Value {
    json!({"deployed": false, "deckies": []})
}

/// What is deployed and what really runs, in the original's shape.
pub(super) async fn status(shared: &Shared) -> Value {
    let fleet = match super::taking::deployed(shared).await {
        Ok(Some(fleet)) => fleet,
        Ok(None) => return nothing(),
        Err(error) => {
            log::error!(target: "decnet_lifecycle::worker", error:% = error; "the status could not be told");
            return nothing();
        }
    };
    let runtime = match shared.engine.runtime(&fleet).await {
        Ok(runtime) => runtime,
        Err(failure) => {
            log::warn!(target: "decnet_lifecycle::worker", error:% = failure; "what runs can't be seen");
            Default::default()
        }
    };
    json!({
        "deployed": true, "mode": fleet.mode, "compose_path": shared.settings.compose_path,
        "deckies": fleet.deckies, "runtime": runtime,
    })
}

/// The status cut to some bytes: the deckies' settings go first, then what
/// runs of them.
pub(super) fn within(mut status: Value, room: usize) -> Value {
    for (field, empty) in [("deckies", json!([])), ("runtime", json!({}))] {
        if status.to_string().len() <= room {
            break;
        }
        if let Some(slot) = status.get_mut(field) {
            *slot = empty;
        }
    }
    status
}
