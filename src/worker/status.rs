//! What a worker says of its deckies.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::fleet::{DeckyRuntime, Mode};
use crate::lifecycle::DeckyName;

use super::Shared;

/// The status of a worker with nothing deployed.
pub(super) fn nothing() -> Value {
    json!({"deployed": false, "deckies": []})
}

/// What is deployed and what really runs, in the original's shape.
pub(super) async fn status(shared: &Shared) -> Value {
    let strangers = found(shared).await;
    let fleet = match super::taking::deployed(shared).await {
        Ok(Some(fleet)) => fleet,
        Ok(None) if strangers.is_empty() => return nothing(),
        Ok(None) => return json!({"deployed": false, "deckies": [], "runtime": strangers}),
        Err(error) => {
            log::error!(target: "decnet_lifecycle::worker", error:% = error; "the status could not be told");
            return nothing();
        }
    };
    let mut runtime = strangers;
    match shared.engine.runtime(&fleet).await {
        Ok(seen) => runtime.extend(seen),
        Err(failure) => {
            let failure = failure.hiding(&shared.runner.secrets());
            log::warn!(target: "decnet_lifecycle::worker", error:% = failure; "what runs can't be seen");
            runtime.retain(|decky, _| fleet.decky(decky).is_none());
        }
    }
    // Here all are this machine's own; its master told it of a swarm's.
    let is_swarm = fleet.deckies.iter().any(|decky| decky.host_uuid.is_some());
    let mode = if is_swarm { Mode::Swarm } else { Mode::Unihost };
    json!({
        "deployed": true, "mode": mode, "compose_path": shared.settings.compose_path,
        "deckies": fleet.deckies, "runtime": runtime,
    })
}

/// What the engine finds, kept here or not: so a master hears also of what
/// this worker no longer knows, and can have it taken down.
async fn found(shared: &Shared) -> BTreeMap<DeckyName, DeckyRuntime> {
    match shared.engine.found().await {
        Ok(found) => found,
        Err(failure) => {
            let failure = failure.hiding(&shared.runner.secrets());
            log::warn!(target: "decnet_lifecycle::worker", error:% = failure; "what runs can't be found");
            BTreeMap::new()
        }
    }
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
