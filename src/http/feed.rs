//! The feed as server-sent events: each change once, in order, from where a
//! client left off.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use crate::lifecycle::{Revision, text};
use crate::runner::Seen;

use super::answer::{Trouble, values};
use super::api::Master;

/// `GET /lifecycle/feed`: after `Last-Event-ID` or `?after=`, else
/// from now on.
pub async fn feed(
    State(master): State<Arc<Master>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let place = Arc::clone(&master.feeds).try_acquire_owned().map_err(|_| {
        Trouble::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the feed is followed by as many as may; end one of them",
        )
    })?;
    let asked = match headers.get("last-event-id") {
        Some(id) => id.to_str().ok().map(str::to_owned),
        None => values(query.as_deref(), "after").next(),
    };
    let after = match asked {
        Some(after) => Revision::new(after.parse().map_err(|_| {
            Trouble::new(StatusCode::UNPROCESSABLE_ENTITY, "after which revision? give its number")
        })?),
        None => master.runner.head().await?,
    };
    let watch = master.runner.watch(after);
    let stop = master.stop.clone();
    let events = futures_util::stream::unfold((watch, stop, place), |(mut watch, stop, place)| async move {
        let seen = tokio::select! {
            seen = watch.next() => seen,
            () = stop.asked() => return None,
        };
        match seen {
            Ok(seen) => Some((Ok::<_, Infallible>(event(&seen)), (watch, stop, place))),
            Err(error) => {
                // The client comes again, and goes on where it was.
                log::warn!(target: "decnet_lifecycle::http", error:% = error; "the feed can't be read");
                None
            }
        }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

fn event(seen: &Seen) -> Event {
    match seen {
        Seen::Changed(changed) => Event::default()
            .id(changed.revision.get().to_string())
            .event("lifecycle")
            .data(text::json(&changed.to_told())),
        Seen::Ahead { head } => {
            Event::default().id(head.get().to_string()).event("reset").data(json!({"head": head}).to_string())
        }
        Seen::Compacted { oldest } => Event::default()
            .id(oldest.get().saturating_sub(1).to_string())
            .event("compacted")
            .data(json!({"oldest": oldest}).to_string()),
    }
}
