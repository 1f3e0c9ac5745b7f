//! What workers ask: `POST /swarm/heartbeat`, over mTLS.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::routing::post;
use decnet_lifecycle::{agent::HostDirectory as _, beat::Beat};
use serde_json::json;

use crate::answer::{Answer, Given, Trouble, answer, given, not_found, to_the_end, wrong_method};
use crate::net::PeerCertificate;

use super::Master;

pub fn router(master: Arc<Master>) -> Router {
    Router::new()
        .route("/swarm/heartbeat", post(counted))
        .layer(DefaultBodyLimit::max(Beat::MAX_BYTES))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .with_state(master)
}

async fn counted(
    State(master): State<Arc<Master>>,
    peer: Option<Extension<PeerCertificate>>,
    body: Given,
) -> Answer {
    let taken = {
        let master = Arc::clone(&master);
        to_the_end(async move { heartbeat(&master, peer.map(|Extension(peer)| peer), body).await }).await
    };
    let counter = if taken.is_ok() { &master.beats } else { &master.beats_refused };
    counter.fetch_add(1, Ordering::Relaxed);
    taken
}

async fn heartbeat(master: &Master, peer: Option<PeerCertificate>, body: Given) -> Answer {
    let body = given(body)?;
    let beat = Beat::from_json(&body).map_err(|error| Trouble {
        status: StatusCode::UNPROCESSABLE_ENTITY,
        detail: json!([{"type": "value_error", "loc": ["body"], "msg": error.to_string()}]),
    })?;
    let unavailable =
        |error: &dyn std::fmt::Display| Trouble::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    let host = master.hosts.find(&beat.host).await.map_err(|error| unavailable(&error))?;
    let Some(host) = host else {
        return Err(Trouble::new(StatusCode::NOT_FOUND, "unknown host; add it with `hosts add`"));
    };
    // The body only says which host to compare with.
    if !peer.is_some_and(|PeerCertificate(shown)| host.is_shown_by(&shown)) {
        return Err(Trouble::new(
            StatusCode::FORBIDDEN,
            "the certificate is not this host's; `hosts rotate` gives a host a new one",
        ));
    }
    let said = master.runner.take_beat(&host.id, &beat).await?;
    Ok(if beat.known_rows.are_named() {
        answer(StatusCode::OK, &serde_json::to_value(&said).unwrap_or_default())
    } else {
        StatusCode::NO_CONTENT.into_response()
    })
}
