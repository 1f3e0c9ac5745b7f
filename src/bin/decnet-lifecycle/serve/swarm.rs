//! What workers ask: `POST /swarm/heartbeat`, over mTLS.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use decnet_lifecycle::{
    agent::{Host, HostDirectory as _},
    beat::{Beat, BeatError},
};
use serde_json::json;

use crate::answer::{Answer, Given, Trouble, answer, given, not_found, read, to_the_end, wrong_method};
use crate::net::PeerCertificate;

use super::Master;

const NO_HOST: &str =
    "the certificate is no host's; `hosts add` takes a host in, `hosts rotate` gives it a new certificate";

pub fn router(master: Arc<Master>) -> Router {
    Router::new()
        .route("/swarm/heartbeat", post(counted))
        .layer(DefaultBodyLimit::max(Beat::MAX_BYTES))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&master), only_hosts))
        .with_state(master)
}

/// Who is no host of ours is told so before a byte of its body is read.
async fn only_hosts(State(master): State<Arc<Master>>, request: Request, next: Next) -> Response {
    let shown = request.extensions().get::<PeerCertificate>();
    let length = length(&request);
    let trouble = match shown.map(|PeerCertificate(shown)| master.hosts.shown_by(shown)) {
        Some(Ok(Some(host))) => match room(&master, &host, length).await {
            Ok(()) => return next.run(request).await,
            Err(trouble) => trouble,
        },
        Some(Err(error)) => Trouble::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        _ => Trouble::new(StatusCode::FORBIDDEN, NO_HOST),
    };
    master.beats_refused.fetch_add(1, Ordering::Relaxed);
    let mut response = trouble.into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// How many bytes a request says that its body has; nobody knows of one that
/// comes in pieces.
fn length(request: &Request) -> usize {
    let headers = request.headers();
    let said = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let unsaid = if headers.contains_key(header::TRANSFER_ENCODING) { usize::MAX } else { 0 };
    said.unwrap_or(unsaid)
}

/// Whether a beat is no longer than its host's deckies can make it. One that is
/// refused is told here too: its worker only sees that it was.
async fn room(master: &Master, host: &Host, length: usize) -> Result<(), Trouble> {
    if length <= Beat::USUAL_BYTES {
        return Ok(());
    }
    let most = master.runner.beat_bytes(&host.id).await?;
    if length <= most {
        return Ok(());
    }
    let why = match length {
        usize::MAX => "it does not say how many bytes it has".to_owned(),
        length => format!("it has {length} bytes, and what is deployed there can make it {most}"),
    };
    log::error!(target: "decnet_lifecycle::http", host:% = host.id, why:% = why; "a beat was refused, so its rows will fail as lost");
    master.runner.beat_refused(&host.id, &why);
    Err(Trouble::new(StatusCode::PAYLOAD_TOO_LARGE, why))
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
    let wrong = |error: BeatError| Trouble {
        status: StatusCode::UNPROCESSABLE_ENTITY,
        detail: json!([{"type": "value_error", "loc": ["body"], "msg": error.to_string()}]),
    };
    let beat = read(body, move |body| Beat::from_json(body).map_err(wrong)).await?;
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
