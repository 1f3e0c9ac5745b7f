//! What a master asks a worker: the original's agent, over mTLS.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use decnet_lifecycle::worker::{BodyError, DeployDispatch, DryRun, MutateDispatch, TeardownDispatch, Worker};
use decnet_lifecycle::{DeckyName, Failure, LifecycleId, Status, agent::Pins, store::Store};
use serde_json::json;
use tokio::sync::watch;

use crate::answer::{Answer, Given, Trouble, answer, given, not_found, read, start, wrong_method};
use crate::net::PeerCertificate;
use crate::store_watch::healthy;

#[derive(Clone)]
pub struct Agent {
    pub worker: Worker,
    /// Who may ask: the master, by the certificate that it must show.
    pub master: Caller,
    pub store: Arc<dyn Store>,
    /// Ends this worker, where its master may.
    pub end: Option<Arc<watch::Sender<bool>>>,
}

/// The master as it calls.
#[derive(Clone)]
pub struct Caller {
    /// Where it is called itself.
    pub address: String,
    pub pins: Pins,
}

impl Caller {
    /// The original's certificate for calls is made out to a name, and to no
    /// address but loopback.
    pub fn is_shown_by(&self, certificate: &[u8]) -> bool {
        [self.address.as_str(), "decnet-master:1"].iter().any(|of| self.pins.are_shown_by(of, certificate))
    }
}

pub fn router(agent: Agent) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/status", get(status))
        .route("/deploy", post(deploy))
        .route("/mutate", post(mutate))
        .route("/teardown", post(teardown))
        .route("/self-destruct", post(self_destruct))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(DeployDispatch::MAX_BYTES))
        .layer(from_fn_with_state(agent.clone(), only_the_master))
        .with_state(agent)
}

async fn only_the_master(State(agent): State<Agent>, request: Request, next: Next) -> Response {
    match request.extensions().get::<PeerCertificate>() {
        Some(PeerCertificate(shown)) if agent.master.is_shown_by(shown) => next.run(request).await,
        _ => {
            let detail = "the certificate is not the master's: neither one of --master-pin, nor made out to the address of --master or to decnet-master";
            Trouble::new(StatusCode::FORBIDDEN, detail).into_response()
        }
    }
}

async fn health(State(agent): State<Agent>) -> Answer {
    healthy(&*agent.store)?;
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
        let detail = "this worker was not started with --allow-self-destruct";
        return Err(Trouble::new(StatusCode::FORBIDDEN, detail));
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
    end.send_replace(true);
    Ok(answer(StatusCode::OK, &json!({"status": "self_destruct_scheduled"})))
}

fn wrong_body(error: BodyError) -> Trouble {
    let detail = error.to_json().get("detail").cloned().unwrap_or_default();
    Trouble { status: StatusCode::UNPROCESSABLE_ENTITY, detail }
}
