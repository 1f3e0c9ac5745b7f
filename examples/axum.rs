//! A master mounted in an axum server of one's own: below `/decoys` is the whole
//! API of `decnet_lifecycle::http`, for who has the token; beside it are routes
//! of one's own, as `GET /rows`, which asks the same runner.
//!
//! `cargo run --example axum -- TOKEN DIRECTORY ADDRESS`

use std::{env::args, error::Error, process::ExitCode, sync::Arc, time::Duration};

use axum::{Router, extract::State, routing::get};
use decnet_lifecycle::engine::process::{ProcessEngine, decoy_main};
use decnet_lifecycle::http::{self, Access, Stop, Token};
use decnet_lifecycle::store::{Query, RedbStore};
use decnet_lifecycle::{Runner, StoreError};

async fn rows(State(runner): State<Runner>) -> String {
    let text = |error: StoreError| error.to_string();
    runner.list(&Query::new()).await.map_or_else(text, |page| format!("{} rows\n", page.records.len()))
}

#[tokio::main]
async fn serve(token: String, dir: String, address: String) -> Result<(), Box<dyn Error>> {
    let store = Arc::new(RedbStore::open(format!("{dir}/lifecycle.redb"))?);
    let engine = Arc::new(ProcessEngine::new(format!("{dir}/decoys")));
    let (runner, recovered) = Runner::builder(store.clone(), engine).build()?.recover().await?;
    recovered.accepted.into_iter().for_each(|again| drop(tokio::spawn(again.run())));
    let keeper = runner.clone();
    tokio::spawn(async move { keeper.maintain().await });

    let stop = Stop::new();
    let api = http::api(runner.clone(), Access::Bearer(Token::parse(&token)?)).stop(&stop);
    let own = Router::new().route("/rows", get(rows)).with_state(runner.clone());
    let routes = own.nest("/decoys", api.into());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("{}", listener.local_addr()?);
    let signal = stop.clone();
    tokio::spawn(async move { tokio::signal::ctrl_c().await.map(|()| signal.now()) });
    axum::serve(listener, routes).with_graceful_shutdown(stop.asked()).await?;
    println!("{} rows are left to the next start", runner.shutdown(Duration::from_secs(30)).await);
    Ok(store.close().await?)
}

fn main() -> ExitCode {
    if let Some(end) = decoy_main() {
        return end; // each decoy is this same program
    }
    let mut words = args().skip(1);
    let mut word = |without: &str| words.next().unwrap_or_else(|| without.to_owned());
    match serve(word(""), word("."), word("127.0.0.1:8080")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
