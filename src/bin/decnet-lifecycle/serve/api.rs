//! What users ask: the original's endpoints, and what a user of rows needs
//! beside them.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use decnet_lifecycle::{
    AcceptError, Accepted, Cancelled, DeckyName, DeployRequest, FleetConfig, LifecycleId, MutateRequest,
    Overlap, Record, RequestKey, ServiceName, TeardownRequest,
    clock::{Clock as _, SystemClock},
    fleet::Mode,
    runner::history,
    store::Query,
};
use serde_json::{Value, json};

use crate::answer::{
    Answer, Given, Trouble, answer, given, not_found, read, start, to_the_end, values, wrong_method,
};
use crate::operate::{forgotten, unnamed};
use crate::output::{detailed, timed};
use crate::placed::{decky_value, plan_value};
use crate::store_watch::healthy;

use super::{Master, feed, metrics};

/// The most ids that are asked for at once.
const MAX_IDS: usize = 200;

type Shared = State<Arc<Master>>;

pub fn router(master: Arc<Master>) -> Router {
    let with_token = Router::new()
        .route("/metrics", get(async |State(master): Shared| metrics::metrics(&master)))
        .route("/deckies", get(deckies))
        .route("/deckies/deploy", post(deploy))
        .route("/deckies/teardown", post(teardown_some))
        .route("/deckies/up", post(super::up::up))
        .route("/deckies/{name}/mutate", post(mutate))
        .route("/deckies/{name}/teardown", post(teardown))
        .route("/deckies/lifecycle", get(rows))
        .route("/lifecycle/feed", get(feed::feed))
        .route("/lifecycle/{id}", get(row))
        .route("/lifecycle/{id}/cancel", post(cancel))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(FleetConfig::MAX_BYTES))
        .layer(from_fn_with_state(Arc::clone(&master), token));
    Router::new().route("/healthz", get(health)).merge(with_token).with_state(master)
}

async fn token(State(master): Shared, request: Request, next: Next) -> Response {
    if master.token.is_in(request.headers()) {
        return next.run(request).await;
    }
    let detail = "Authorization: Bearer TOKEN is asked for; the token is in serve.token in the master's data directory";
    let mut response = Trouble::new(StatusCode::UNAUTHORIZED, detail).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

async fn health(State(master): Shared) -> Answer {
    healthy(&*master.store)?;
    master.runner.list(&Query::new().limit(1)).await?;
    Ok(match master.hosts.trouble() {
        None => answer(StatusCode::OK, &json!({"status": "ok"})),
        Some(why) => answer(StatusCode::OK, &json!({"status": "degraded", "detail": why})),
    })
}

async fn deploy(State(master): Shared, RawQuery(query): RawQuery, headers: HeaderMap, body: Given) -> Answer {
    let fleet =
        read(given(body)?, |body| FleetConfig::from_json(body).map_err(|error| unprocessable(&error)))
            .await?;
    let query = query.as_deref();
    let mode = match fleet.mode {
        Mode::Swarm => "swarm",
        Mode::Unihost => "unihost",
    };
    let mut request = DeployRequest::new(fleet).overlap(overlap(query)?);
    let only: Vec<DeckyName> = values(query, "only")
        .map(|name| DeckyName::parse(&name).map_err(|error| unprocessable(&error)))
        .collect::<Result<_, _>>()?;
    if !only.is_empty() {
        request = request.only(only);
    }
    request = request.relocate(flag(query, "move")?).prune(flag(query, "prune")?);
    if let Some(key) = key(&headers)? {
        request = request.key(key);
    }
    let plan = master.runner.plan(&request).await?;
    if flag(query, "dry_run")? {
        return Ok(answer(StatusCode::OK, &plan_value(&plan)));
    }
    let notes: Vec<String> = unnamed(&plan).into_iter().collect();
    let ids = run(async move { master.runner.accept_deploy(request).await }).await?;
    let message = format!("{} deckies are being deployed", plan.steps.len());
    // The original's fields, and ours only where there is something to say.
    let mut body = json!({"message": message, "mode": mode, "lifecycle_ids": ids});
    if let Some(fields) = body.as_object_mut().filter(|_| !notes.is_empty()) {
        fields.insert("notes".to_owned(), json!(notes));
    }
    Ok(answer(StatusCode::ACCEPTED, &body))
}

/// What is placed, and what really runs of it.
async fn deckies(State(master): Shared) -> Answer {
    let now = SystemClock::new().now();
    let deckies = master.runner.deckies().await?;
    let deckies: Vec<Value> = deckies.iter().map(|decky| decky_value(decky, now)).collect();
    Ok(answer(StatusCode::OK, &json!({"deckies": deckies})))
}

async fn mutate(
    State(master): Shared,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Given,
) -> Answer {
    let decky = DeckyName::parse(&name).map_err(|error| unprocessable(&error))?;
    let services = services(&given(body)?)?;
    let mut request = MutateRequest::new(decky, services).overlap(overlap(query.as_deref())?);
    if let Some(key) = key(&headers)? {
        request = request.key(key);
    }
    let ids = run(async move { master.runner.accept_mutate(request).await }).await?;
    Ok(answer(StatusCode::ACCEPTED, &json!({"lifecycle_ids": ids})))
}

async fn teardown(master: Shared, Path(name): Path<String>, query: RawQuery, headers: HeaderMap) -> Answer {
    let decky = DeckyName::parse(&name).map_err(|error| unprocessable(&error))?;
    take_down(master, BTreeSet::from([decky]), query, &headers).await
}

/// Those that `?only=a&only=b` names, else all.
async fn teardown_some(master: Shared, RawQuery(query): RawQuery, headers: HeaderMap) -> Answer {
    let only = values(query.as_deref(), "only")
        .map(|name| DeckyName::parse(&name).map_err(|error| unprocessable(&error)))
        .collect::<Result<_, _>>()?;
    take_down(master, only, RawQuery(query), &headers).await
}

async fn take_down(
    State(master): Shared,
    deckies: BTreeSet<DeckyName>,
    RawQuery(query): RawQuery,
    headers: &HeaderMap,
) -> Answer {
    let query = query.as_deref();
    if flag(query, "forget")? {
        if deckies.is_empty() {
            return Err(unprocessable(&"name the deckies to forget"));
        }
        let known = to_the_end(async move { Ok(master.runner.forget(&deckies).await?) }).await?;
        let forgotten: Vec<Value> = known.iter().map(forgotten).collect();
        return Ok(answer(StatusCode::OK, &json!({"forgotten": forgotten})));
    }
    let mut request = if deckies.is_empty() { TeardownRequest::all() } else { TeardownRequest::new(deckies) };
    request = request.overlap(overlap(query)?);
    if let Some(key) = key(headers)? {
        request = request.key(key);
    }
    let ids = run(async move { master.runner.accept_teardown(request).await }).await?;
    Ok(answer(StatusCode::ACCEPTED, &json!({"lifecycle_ids": ids})))
}

/// `?ids=a&ids=b`: the original's rows, field by field.
async fn rows(State(master): Shared, RawQuery(query): RawQuery) -> Answer {
    let ids: Vec<LifecycleId> = values(query.as_deref(), "ids")
        .map(|id| id.parse().map_err(|error| unprocessable(&error)))
        .collect::<Result<_, _>>()?;
    if ids.is_empty() || ids.len() > MAX_IDS {
        return Err(unprocessable(&format!(
            "ids: give 1 to {MAX_IDS} of them, as ids=..&ids=..; there are {}",
            ids.len()
        )));
    }
    let rows = master.runner.get(&ids).await?;
    Ok(answer(StatusCode::OK, &json!({"rows": rows.iter().map(wire_row).collect::<Vec<_>>()})))
}

fn wire_row(row: &Record) -> Value {
    json!({
        "id": row.id, "decky_name": row.decky, "host_uuid": row.host, "operation": row.operation,
        "status": row.status(), "error": row.failure().map(ToString::to_string),
        "started_at": row.created_at.to_string(), "updated_at": row.updated_at.to_string(),
        "completed_at": timed(row.completed_at()),
    })
}

/// One row with all that is known of it.
async fn row(State(master): Shared, Path(id): Path<String>) -> Answer {
    let id = id.parse().map_err(|error| unprocessable(&error))?;
    let Some(why) = master.runner.explain(id).await? else { return Err(no_row(id)) };
    Ok(answer(StatusCode::OK, &detailed(why.record(), &history(why.record()), &why)))
}

async fn cancel(State(master): Shared, Path(id): Path<String>) -> Answer {
    let id: LifecycleId = id.parse().map_err(|error| unprocessable(&error))?;
    let (status, outcome) = match to_the_end(async move { Ok(master.runner.cancel(id).await?) }).await? {
        Cancelled::Ended => (StatusCode::OK, "ended"),
        Cancelled::AlreadyClosed => (StatusCode::OK, "closed"),
        Cancelled::Unknown => return Err(no_row(id)),
        _ => (StatusCode::ACCEPTED, "requested"),
    };
    Ok(answer(status, &json!({"id": id, "outcome": outcome})))
}

/// Accepts and starts the work; gives the rows.
async fn run(
    accept: impl Future<Output = Result<Accepted, AcceptError>> + Send + 'static,
) -> Result<Vec<LifecycleId>, Trouble> {
    let (ids, all) = start(accept).await?;
    drop(ids);
    Ok(all)
}

fn services(body: &[u8]) -> Result<Vec<ServiceName>, Trouble> {
    let wrong = || unprocessable(&r#"write {"services": ["ssh", ..]}"#);
    let value: Value = serde_json::from_slice(body).map_err(|_| wrong())?;
    let names = value.get("services").and_then(Value::as_array).ok_or_else(wrong)?;
    names
        .iter()
        .map(|name| {
            ServiceName::parse(name.as_str().ok_or_else(wrong)?).map_err(|error| unprocessable(&error))
        })
        .collect()
}

fn key(headers: &HeaderMap) -> Result<Option<RequestKey>, Trouble> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().map_err(|error| unprocessable(&error))?;
    RequestKey::parse(key).map(Some).map_err(|error| unprocessable(&error))
}

fn overlap(query: Option<&str>) -> Result<Overlap, Trouble> {
    Ok(if flag(query, "supersede")? { Overlap::Supersede } else { Overlap::Reject })
}

/// Whether a field of the query says so; one that isn't there says no.
fn flag(query: Option<&str>, field: &str) -> Result<bool, Trouble> {
    match values(query, field).last().as_deref() {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1" | "") => Ok(true),
        Some(_) => Err(unprocessable(&format!("{field} is true or false"))),
    }
}

fn unprocessable(what: &dyn std::fmt::Display) -> Trouble {
    Trouble::new(StatusCode::UNPROCESSABLE_ENTITY, what.to_string())
}

fn no_row(id: LifecycleId) -> Trouble {
    Trouble::new(StatusCode::NOT_FOUND, format!("there is no row {id}"))
}
