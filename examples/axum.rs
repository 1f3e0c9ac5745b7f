//! A master under axum and tokio: `POST /deckies/deploy` answers 202 with the
//! ids of the rows, `GET /lifecycle/{ids}` says how they stand. Whoever reaches
//! it may deploy: a master that listens beyond loopback asks who they are.
//!
//! `cargo run --example axum -- DIRECTORY ADDRESS`

use std::{env::args, error::Error, fmt::Display, process::ExitCode, sync::Arc, time::Duration};

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::{Router, body::Bytes, http::StatusCode, routing::get, routing::post};
use decnet_lifecycle::engine::process::{ProcessEngine, decoy_main};
use decnet_lifecycle::{DeployRequest, FleetConfig, LifecycleId, Runner, store::RedbStore};

type Answer = Result<(StatusCode, String), (StatusCode, String)>;

fn refused(status: StatusCode, why: impl Display) -> (StatusCode, String) {
    (status, why.to_string())
}

async fn deploy(State(runner): State<Runner>, body: Bytes) -> Answer {
    let fleet = FleetConfig::from_json(&body).map_err(|error| refused(StatusCode::BAD_REQUEST, error))?;
    // Goes on in a task of its own, also if the client hangs up.
    let underway = runner.deploy(DeployRequest::new(fleet)).await.map_err(|error| {
        let status = StatusCode::from_u16(error.http_status());
        refused(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error)
    })?;
    Ok((StatusCode::ACCEPTED, serde_json::json!(underway.ids).to_string()))
}

async fn lifecycle(State(runner): State<Runner>, Path(ids): Path<String>) -> Answer {
    let ids: Result<Vec<LifecycleId>, _> = ids.split(',').map(str::parse).collect();
    let ids = ids.map_err(|error| refused(StatusCode::BAD_REQUEST, error))?;
    let rows = runner.get(&ids).await.map_err(|error| refused(StatusCode::SERVICE_UNAVAILABLE, error))?;
    let lines = rows.iter().map(|row| format!("{} {} {}\n", row.id, row.decky, row.status()));
    Ok((StatusCode::OK, lines.collect()))
}

#[tokio::main]
async fn serve(dir: String, address: String) -> Result<(), Box<dyn Error>> {
    let store = Arc::new(RedbStore::open(format!("{dir}/lifecycle.redb"))?);
    let engine = Arc::new(ProcessEngine::new(format!("{dir}/decoys")));
    let built = Runner::builder(store.clone(), engine).spawner(|work| drop(tokio::spawn(work))).build()?;
    let (runner, recovered) = built.recover().await?;
    recovered.accepted.into_iter().for_each(|again| drop(tokio::spawn(again.run())));
    let keeper = runner.clone();
    tokio::spawn(async move { keeper.maintain().await });

    let routes =
        Router::new().route("/deckies/deploy", post(deploy)).route("/lifecycle/{ids}", get(lifecycle));
    let routes = routes.layer(DefaultBodyLimit::max(FleetConfig::MAX_BYTES)).with_state(runner.clone());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("{}", listener.local_addr()?);
    let until = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    axum::serve(listener, routes).with_graceful_shutdown(until).await?;
    println!("{} rows are left to the next start", runner.shutdown(Duration::from_secs(30)).await);
    Ok(store.close().await?)
}

fn main() -> ExitCode {
    if let Some(end) = decoy_main() {
        return end; // each decoy is this same program
    }
    let mut words = args().skip(1);
    let dir = words.next().unwrap_or_else(|| ".".to_owned());
    match serve(dir, words.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
