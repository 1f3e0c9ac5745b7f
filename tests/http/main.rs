//! What of `http` an embedder mounts: the routes among its own, and the server
//! around them.

#[path = "../processes/mod.rs"]
mod processes;
#[path = "../tls/mod.rs"]
mod tls;

mod mounted;
mod server;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use axum::Router;
use decnet_lifecycle::http::{Server, Stop};
use decnet_lifecycle::testkit::FakeEngine;
use decnet_lifecycle::{Runner, store::MemoryStore};
use processes::HANGS;
use tokio::task::JoinHandle;

const FLEET: &str = include_str!("../../examples/fleet.json");
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

async fn runner() -> Runner {
    let built = Runner::builder(Arc::new(MemoryStore::new()), Arc::new(FakeEngine::new())).build().unwrap();
    built.recover().await.unwrap().0
}

async fn loopback() -> Server {
    Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap()
}

/// A server that runs, until its test is over.
struct Served {
    address: SocketAddr,
    stop: Stop,
    running: JoinHandle<()>,
}

fn serve(server: Server, routes: impl Into<Router>, stop: &Stop) -> Served {
    let address = server.address().unwrap();
    let running = tokio::spawn(server.run(routes.into(), stop.clone()));
    Served { address, stop: stop.clone(), running }
}

/// Something that blocks, off the runtime's threads.
async fn off<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// The status and the body of an answer in plain HTTP.
async fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let request = processes::request(method, path, headers, "");
    let answer = off(move || processes::ask(address, &request)).await;
    (answer.status, answer.body)
}

/// A connection that has sent this, and the first line of what came back.
fn begun(address: SocketAddr, sent: &str) -> (BufReader<TcpStream>, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(HANGS)).unwrap();
    stream.write_all(sent.as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    (stream, line)
}
