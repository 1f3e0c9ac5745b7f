//! Answers of our servers: JSON, and `{"detail": ..}` where something is
//! wrong, as the original's.

use std::collections::BTreeMap;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::lifecycle::{DeckyName, LifecycleId, text};
use crate::runner::{AcceptError, Accepted, Runner};
use crate::store::{StoreError, StoreHealth};

pub type Answer = Result<Response, Trouble>;

/// Why there is no better answer.
#[derive(Debug)]
pub struct Trouble {
    pub status: StatusCode,
    pub detail: Value,
}

impl Trouble {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: Value::String(detail.into()) }
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        answer(self.status, &json!({"detail": self.detail}))
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::Refused { .. } => StatusCode::CONFLICT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<AcceptError> for Trouble {
    fn from(error: AcceptError) -> Self {
        let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, error.to_string())
    }
}

/// Whether a server over this store can do its work.
pub fn healthy(runner: &Runner) -> Result<(), Trouble> {
    let ill = |why: String| Err(Trouble::new(StatusCode::SERVICE_UNAVAILABLE, why));
    match runner.journal().store().health() {
        StoreHealth::Good => Ok(()),
        StoreHealth::Failing { why } => ill(format!("the store can't be written now: {why}")),
        StoreHealth::Gone { why } => ill(format!("the store is gone: {why}")),
    }
}

/// Does something to its end, also when the client hangs up meanwhile.
pub async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Trouble>> + Send + 'static,
) -> Result<T, Trouble> {
    tokio::spawn(work).await.unwrap_or_else(|broken| {
        log::error!(target: "decnet_lifecycle::http", error:% = broken; "a request broke");
        Err(Trouble::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "something broke; the log of the server says more",
        ))
    })
}

/// Reads a body, which may be long, where it holds up nobody else.
pub async fn read<T: Send + 'static>(
    body: Bytes,
    read: impl FnOnce(&[u8]) -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    // A few bytes are not worth a thread.
    if body.len() < 16 << 10 {
        return read(&body);
    }
    tokio::task::spawn_blocking(move || read(&body)).await.unwrap_or_else(|_| {
        Err(Trouble::new(StatusCode::INTERNAL_SERVER_ERROR, "the body could not be read"))
    })
}

/// Accepts work and starts it, as one: what was accepted is not left undone
/// because the client hung up. Gives the row of each decky that was asked for,
/// and all rows.
pub async fn start(
    accept: impl Future<Output = Result<Accepted, AcceptError>> + Send + 'static,
) -> Result<(BTreeMap<DeckyName, LifecycleId>, Vec<LifecycleId>), Trouble> {
    to_the_end(async move {
        let accepted = accept.await?;
        let ids = (accepted.ids().clone(), accepted.all_ids().collect());
        tokio::spawn(accepted.run());
        Ok(ids)
    })
    .await
}

pub fn answer(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(text::json(value)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A body that was read within its bound, or what is wrong with it.
pub type Given = Result<Bytes, axum::extract::rejection::BytesRejection>;

pub fn given(body: Given) -> Result<Bytes, Trouble> {
    body.map_err(|refused| Trouble::new(refused.status(), refused.body_text()))
}

pub async fn not_found() -> Trouble {
    Trouble::new(StatusCode::NOT_FOUND, "Not Found")
}

pub async fn wrong_method() -> Trouble {
    Trouble::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

/// The values of a field of the query, in order.
pub fn values<'a>(query: Option<&'a str>, field: &'a str) -> impl Iterator<Item = String> + 'a {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .filter(move |(name, _)| name == field)
        .map(|(_, value)| value.into_owned())
}
