//! What users ask: the original's endpoints, and what a user of rows needs
//! beside them.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::clock::{Clock as _, SystemClock};
use crate::decide::Overlap;
use crate::fleet::{FleetConfig, Mode};
use crate::lifecycle::{DeckyName, LifecycleId, RequestKey, ServiceName};
use crate::runner::{
    AcceptError, Accepted, Cancelled, DeployRequest, MutateRequest, Runner, TeardownRequest, history,
};
use crate::store::Query;

use super::answer::{
    Answer, Given, Trouble, answer, given, healthy, not_found, read, start, to_the_end, values, wrong_method,
};
use super::{Stop, Swarm, Token, feed, metrics, wire};

/// The most ids that are asked for at once.
const MAX_IDS: usize = 200;

/// Who may ask the API; there are no lesser roles.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Access {
    /// Who carries this token. `GET /healthz` needs none.
    Bearer(Token),
    /// Whoever gets here: the server in front of it has looked who asks.
    Checked,
}

/// What users ask of a master: the original's endpoints, and what a user of
/// rows needs beside them. Whoever may ask may deploy any fleet.
///
/// | asked | answered |
/// |---|---|
/// | `POST /deckies/deploy`, a fleet; `?dry_run=`, `prune=`, `move=`, `supersede=`, `only=` | 202 and the rows' ids, or 200 and the plan |
/// | `POST /deckies/{name}/mutate`, `{"services": [..]}` | 202 and the row's id |
/// | `POST /deckies/{name}/teardown`, `POST /deckies/teardown`; `?only=`, `forget=` | 202 and the rows' ids |
/// | `GET /deckies` | what is placed, and what runs of it |
/// | `GET /deckies/lifecycle?ids=..&ids=..` | rows, as the original has them |
/// | `GET /lifecycle/{id}`, `POST /lifecycle/{id}/cancel` | one row, its history, and why it is where it is |
/// | `GET /lifecycle/feed`; `Last-Event-ID` or `?after=` | each change once, as server-sent events |
/// | `GET /healthz`, `GET /metrics` | whether it can work; numbers in Prometheus' text format |
///
/// A header `Idempotency-Key` makes a request happen once. What is wrong is
/// answered `{"detail": ..}`, with [`AcceptError::http_status`]. Accepted work
/// goes on in a tokio task of its own, whether the client stays or not.
///
/// ```
/// # use std::{io::{Read as _, Write as _}, sync::Arc};
/// use axum::{Router, routing::get};
/// use decnet_lifecycle::http::{self, Access, Server, Stop, Token};
/// # use decnet_lifecycle::{Runner, store::MemoryStore, testkit::FakeEngine};
///
/// # #[tokio::main(flavor = "multi_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let runner = Runner::builder(Arc::new(MemoryStore::new()), Arc::new(FakeEngine::new()));
/// # let (runner, _) = runner.build()?.recover().await?;
/// let (token, stop) = (Token::parse("0123456789abcdef0123456789abcdef")?, Stop::new());
/// let api = http::api(runner, Access::Bearer(token)).stop(&stop);
/// let routes = Router::new().route("/hello", get("hello")).merge(api); // or `api.alone()`
///
/// let server = Server::bind("127.0.0.1:0".parse()?).await?;
/// # let address = server.address()?;
/// # let asking = std::thread::spawn({ let stop = stop.clone(); move || {
/// #     let mut client = std::net::TcpStream::connect(address).unwrap();
/// #     client.write_all(b"GET /deckies HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").unwrap();
/// #     let mut answer = String::new();
/// #     client.read_to_string(&mut answer).unwrap();
/// #     stop.now();
/// #     answer
/// # }});
/// server.run(routes, stop).await;
/// # assert!(asking.join().unwrap().starts_with("HTTP/1.1 401 "));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Api {
    runner: Runner,
    access: Access,
    swarm: Option<Swarm>,
    stop: Stop,
    body_bytes: usize,
    feeds: usize,
}

/// What users ask of this master, for those who may.
pub fn api(runner: Runner, access: Access) -> Api {
    Api { runner, access, swarm: None, stop: Stop::new(), body_bytes: FleetConfig::MAX_BYTES, feeds: 64 }
}

impl Api {
    /// The swarm whose beats `/metrics` counts, and whose directory `/healthz`
    /// is about. Without: there are none.
    pub fn swarm(mut self, swarm: &Swarm) -> Self {
        self.swarm = Some(swarm.clone());
        self
    }

    /// What ends those who follow the feed, so that a server can stop. Without:
    /// they are followed until their clients leave.
    pub fn stop(mut self, stop: &Stop) -> Self {
        self.stop = stop.clone();
        self
    }

    /// The most bytes of a body. Without: [`FleetConfig::MAX_BYTES`].
    pub const fn body_bytes(mut self, most: usize) -> Self {
        self.body_bytes = most;
        self
    }

    /// How many may follow the feed at once. Without: 64.
    pub const fn feeds(mut self, most: usize) -> Self {
        self.feeds = most;
        self
    }

    /// The whole of a server: whatever else is asked is answered 404.
    pub fn alone(self) -> Router {
        let guarded = guarded().fallback(not_found);
        self.finish(guarded)
    }

    fn finish(self, guarded: Router<Arc<Master>>) -> Router {
        let Self { runner, access, swarm, stop, body_bytes, feeds } = self;
        let master = Arc::new(Master { runner, swarm, stop, feeds: Arc::new(Semaphore::new(feeds)) });
        let guarded = guarded.layer(DefaultBodyLimit::max(body_bytes)).with_state(Arc::clone(&master));
        let guarded = match access {
            Access::Bearer(token) => token.guard(guarded),
            Access::Checked => guarded,
        };
        Router::new().route("/healthz", get(health)).with_state(master).merge(guarded)
    }
}

/// The routes alone, to mount among others.
impl From<Api> for Router {
    fn from(api: Api) -> Self {
        api.finish(guarded())
    }
}

/// What handlers need.
pub(super) struct Master {
    pub(super) runner: Runner,
    pub(super) swarm: Option<Swarm>,
    pub(super) stop: Stop,
    /// Places for those who follow the feed.
    pub(super) feeds: Arc<Semaphore>,
}

type Shared = State<Arc<Master>>;

fn guarded() -> Router<Arc<Master>> {
    Router::new()
        .route("/metrics", get(async |State(master): Shared| metrics::metrics(&master)))
        .route("/deckies", get(deckies))
        .route("/deckies/deploy", post(deploy))
        .route("/deckies/teardown", post(teardown_some))
        .route("/deckies/up", post(up))
        .route("/deckies/{name}/mutate", post(mutate))
        .route("/deckies/{name}/teardown", post(teardown))
        .route("/deckies/lifecycle", get(rows))
        .route("/lifecycle/feed", get(feed::feed))
        .route("/lifecycle/{id}", get(row))
        .route("/lifecycle/{id}/cancel", post(cancel))
        .method_not_allowed_fallback(wrong_method)
}

async fn health(State(master): Shared) -> Answer {
    healthy(&master.runner)?;
    master.runner.list(&Query::new().limit(1)).await?;
    Ok(match master.swarm.as_ref().and_then(Swarm::trouble) {
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
        return Ok(answer(StatusCode::OK, &wire::plan(&plan)));
    }
    let notes: Vec<String> = wire::unnamed(&plan, "prune=true").into_iter().collect();
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
    let deckies: Vec<Value> = deckies.iter().map(|decky| wire::decky(decky, now)).collect();
    Ok(answer(StatusCode::OK, &json!({"deckies": deckies})))
}

/// Brings everything back that is placed on this master and doesn't run.
async fn up(State(master): Shared) -> Answer {
    to_the_end(async move {
        let restored = master.runner.restore().await?;
        let body = wire::restored(&restored);
        restored.accepted.into_iter().map(Accepted::run).for_each(|work| drop(tokio::spawn(work)));
        Ok(answer(StatusCode::ACCEPTED, &body))
    })
    .await
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
        let forgotten: Vec<Value> = known.iter().map(wire::forgotten).collect();
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
    Ok(answer(StatusCode::OK, &json!({"rows": rows.iter().map(wire::original).collect::<Vec<_>>()})))
}

/// One row with all that is known of it.
async fn row(State(master): Shared, Path(id): Path<String>) -> Answer {
    let id = id.parse().map_err(|error| unprocessable(&error))?;
    let Some(why) = master.runner.explain(id).await? else { return Err(no_row(id)) };
    Ok(answer(StatusCode::OK, &wire::detailed(why.record(), &history(why.record()), &why)))
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
