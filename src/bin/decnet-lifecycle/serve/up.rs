//! Brings everything back that is placed on this master.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use decnet_lifecycle::Accepted;
use decnet_lifecycle::LifecycleId;
use serde_json::json;

use crate::answer::{Answer, answer, to_the_end};
use crate::up::left;

use super::Master;

pub async fn up(State(master): State<Arc<Master>>) -> Answer {
    to_the_end(async move {
        let restored = master.runner.restore().await?;
        let left = left(&restored);
        let ids: Vec<LifecycleId> = restored.accepted.iter().flat_map(Accepted::all_ids).collect();
        restored.accepted.into_iter().map(Accepted::run).for_each(|work| drop(tokio::spawn(work)));
        let body = json!({"lifecycle_ids": ids, "up": restored.up.len(), "left": left});
        Ok(answer(StatusCode::ACCEPTED, &body))
    })
    .await
}
