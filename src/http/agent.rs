//! What a master asks a worker: the original's agent, over mTLS.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::json;

use crate::agent::Pins;
use crate::lifecycle::{DeckyName, Failure, LifecycleId, Status};
use crate::worker::{BodyError, DeployDispatch, DryRun, MutateDispatch, TeardownDispatch, Worker};

use super::answer::{Answer, Given, Trouble, answer, given, healthy, not_found, read, start, wrong_method};
use super::{PeerCertificate, Stop};

/// What a master asks of a worker, over mutual TLS: the original's agent. For
/// the master alone, by the certificate that it shows; whoever else comes is
/// answered 403 before a byte of a body is read.
///
/// | asked | answered |
/// |---|---|
/// | `GET /health`, `GET /status` | 200 |
/// | `POST /deploy`, `POST /mutate` | 202 once it is durable; the work goes on in a task of its own |
/// | `POST /teardown` | 200 once it is done |
/// | `POST /self-destruct` | 403, unless [`Agent::self_destruct`] allows it |
///
/// It goes behind a [`Server`](super::Server) over TLS, or one that puts a
/// [`PeerCertificate`] into each request.
///
/// ```no_run
/// use std::{sync::Arc, time::Duration};
/// use decnet_lifecycle::agent::{Pins, https::Identity};
/// use decnet_lifecycle::http::{self, Server, ServerLimits, Stop};
/// use decnet_lifecycle::worker::Worker;
///
/// # async fn serve(worker: Worker) -> Result<(), Box<dyn std::error::Error>> {
/// let agent = http::agent(worker, "192.0.2.1:8770", Pins::ca_only());
/// let mut limits = ServerLimits::default();
/// limits.request = Duration::from_secs(5 * 60); // a teardown is answered when it is done
/// let server = Server::bind("0.0.0.0:8765".parse()?).await?;
/// let server = server.limits(limits).tls(Identity::load("pki/w1".as_ref())?.server_config()?, agent.knows());
/// server.run(agent.alone(), Stop::new()).await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Agent {
    worker: Worker,
    master: Arc<Master>,
    body_bytes: usize,
    end: Option<Stop>,
}

/// Who may ask.
#[derive(Debug)]
struct Master {
    /// Where it is called itself.
    address: String,
    pins: Pins,
}

impl Master {
    /// The original's certificate for calls is made out to a name, and to no
    /// address but loopback.
    fn is_shown_by(&self, certificate: &[u8]) -> bool {
        [self.address.as_str(), "decnet-master:1"].iter().any(|of| self.pins.are_shown_by(of, certificate))
    }
}

/// The agent of this worker, for the master at this address. Without a pin the
/// master's certificate is one of the CA that is made out to the address or to
/// `decnet-master`, as the original's is.
pub fn agent(worker: Worker, address: &str, pins: impl Into<Pins>) -> Agent {
    let master = Master { address: address.to_owned(), pins: pins.into() };
    Agent { worker, master: Arc::new(master), body_bytes: DeployDispatch::MAX_BYTES, end: None }
}

impl Agent {
    /// The most bytes of a body. Without: [`DeployDispatch::MAX_BYTES`].
    pub const fn body_bytes(mut self, most: usize) -> Self {
        self.body_bytes = most;
        self
    }

    /// Lets the master end this worker: `POST /self-destruct` takes all down,
    /// and says so here. The worker's files stay.
    pub fn self_destruct(mut self, stop: Stop) -> Self {
        self.end = Some(stop);
        self
    }

    /// Whether a certificate is the master's, for [`Server::tls`](super::Server::tls).
    pub fn knows(&self) -> impl Fn(&[u8]) -> bool + Send + Sync + 'static {
        let master = Arc::clone(&self.master);
        move |shown| master.is_shown_by(shown)
    }

    /// The whole of a server: whatever else is asked is answered 404.
    pub fn alone(self) -> Router {
        let routes = self.routes().fallback(not_found);
        self.finish(routes)
    }

    fn routes(&self) -> Router<Self> {
        Router::new()
            .route("/health", get(health))
            .route("/status", get(status))
            .route("/deploy", post(deploy))
            .route("/mutate", post(mutate))
            .route("/teardown", post(teardown))
            .route("/self-destruct", post(self_destruct))
            .method_not_allowed_fallback(wrong_method)
    }

    fn finish(self, routes: Router<Self>) -> Router {
        routes
            .layer(DefaultBodyLimit::max(self.body_bytes))
            .layer(from_fn_with_state(self.clone(), only_the_master))
            .with_state(self)
    }
}

/// The routes alone, to mount among others.
impl From<Agent> for Router {
    fn from(agent: Agent) -> Self {
        let routes = agent.routes();
        agent.finish(routes)
    }
}

async fn only_the_master(State(agent): State<Agent>, request: Request, next: Next) -> Response {
    match request.extensions().get::<PeerCertificate>() {
        Some(shown) if agent.master.is_shown_by(shown.der()) => next.run(request).await,
        _ => {
            let detail = "the certificate is not the master's: neither a pinned one, nor, without a pin, made out to the master's address or to decnet-master";
            Trouble::new(StatusCode::FORBIDDEN, detail).into_response()
        }
    }
}

async fn health(State(agent): State<Agent>) -> Answer {
    healthy(agent.worker.runner())?;
    Ok(answer(StatusCode::OK, &json!({"status": "ok"})))
}

async fn status(State(agent): State<Agent>) -> Response {
    answer(StatusCode::OK, &agent.worker.status().await)
}

async fn deploy(State(agent): State<Agent>, body: Given) -> Answer {
    let dispatch = read(given(body)?, |body| DeployDispatch::from_json(body).map_err(wrong_body)).await?;
    let (dry_run, all) = (dispatch.dry_run, dispatch.config.names().cloned().collect());
    let (taken, _) = start(async move { agent.worker.deploy(dispatch).await }).await?;
    let deckies: Vec<DeckyName> = match dry_run {
        DryRun::Yes => all,
        DryRun::No => taken.into_keys().collect(),
    };
    Ok(answer(StatusCode::ACCEPTED, &json!({"status": "accepted", "deckies": deckies})))
}

async fn mutate(State(agent): State<Agent>, body: Given) -> Answer {
    let dispatch = MutateDispatch::from_json(&given(body)?).map_err(wrong_body)?;
    let (decky, services) = (dispatch.decky.clone(), dispatch.services.clone());
    let (code, word) = match dispatch.dry_run {
        DryRun::Yes => (StatusCode::OK, "dry_run"),
        DryRun::No => (StatusCode::ACCEPTED, "accepted"),
    };
    let unknown = dispatch.dry_run == DryRun::Yes;
    let taken = start(async move { agent.worker.mutate(dispatch).await }).await;
    taken.map_err(|trouble| match trouble.status {
        StatusCode::UNPROCESSABLE_ENTITY if unknown => Trouble { status: StatusCode::NOT_FOUND, ..trouble },
        _ => trouble,
    })?;
    Ok(answer(code, &json!({"status": word, "decky_id": decky, "services": services})))
}

async fn teardown(State(agent): State<Agent>, body: Given) -> Answer {
    let dispatch = TeardownDispatch::from_json(&given(body)?).map_err(wrong_body)?;
    let decky = dispatch.decky.clone();
    let worker = agent.worker.clone();
    // It goes on if the master hangs up.
    let (_, ids): (_, Vec<LifecycleId>) = start(async move { worker.teardown(dispatch).await }).await?;
    let rows = agent.worker.runner().wait(&ids).await?;
    match rows.iter().find(|row| row.status() != Status::Succeeded) {
        None => Ok(answer(StatusCode::OK, &json!({"status": "torn_down", "decky_id": decky}))),
        Some(row) => {
            let detail = row.failure().map(Failure::to_string).unwrap_or_default();
            Err(Trouble::new(StatusCode::INTERNAL_SERVER_ERROR, detail))
        }
    }
}

/// Takes all down, and ends this worker. Its files stay.
async fn self_destruct(State(agent): State<Agent>) -> Answer {
    let Some(end) = agent.end else {
        return Err(Trouble::new(StatusCode::FORBIDDEN, "this worker does not let its master end it"));
    };
    let all = TeardownDispatch { decky: None, lifecycle_ids: BTreeMap::new() };
    let worker = agent.worker.clone();
    let (_, ids): (_, Vec<LifecycleId>) = start(async move { worker.teardown(all).await }).await?;
    let rows = agent.worker.runner().wait(&ids).await?;
    if let Some(row) = rows.iter().find(|row| row.status() != Status::Succeeded) {
        let why = row.failure().map(Failure::to_string).unwrap_or_default();
        let detail = format!("{} is still up, so this worker stays: {why}", row.decky);
        return Err(Trouble::new(StatusCode::INTERNAL_SERVER_ERROR, detail));
    }
    log::warn!(target: "decnet_lifecycle::worker", rows = rows.len(); "the master has ended this worker");
    end.now();
    Ok(answer(StatusCode::OK, &json!({"status": "self_destruct_scheduled"})))
}

fn wrong_body(error: BodyError) -> Trouble {
    let detail = error.to_json().get("detail").cloned().unwrap_or_default();
    Trouble { status: StatusCode::UNPROCESSABLE_ENTITY, detail }
}
