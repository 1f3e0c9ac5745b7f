//! A server over mTLS that answers one request a connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use decnet_lifecycle::agent::https::Identity;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// A status and a body; no body is none.
pub type Reply = (u16, Value);

/// Serves with this bundle for as long as the test's process lives.
pub fn serve(
    address: &str,
    bundle: &Path,
    answer: impl Fn(&str, &str, Value) -> Reply + Send + Sync + 'static,
) -> SocketAddr {
    let config = Arc::new(Identity::load(bundle).unwrap().server_config().unwrap());
    let listener = TcpListener::bind(address).unwrap();
    let bound = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, answer) = (Arc::clone(&config), Arc::clone(&answer));
            std::thread::spawn(move || one(stream, config, &*answer));
        }
    });
    bound
}

fn one(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    answer: &dyn Fn(&str, &str, Value) -> Reply,
) -> Option<()> {
    let mut tls = StreamOwned::new(ServerConnection::new(config).ok()?, stream);
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 << 10];
    let (head, body) = loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let of_length = |line: &str| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok();
            let length: usize = head.lines().find_map(of_length).unwrap_or(0);
            if body.len() >= length {
                break (head.to_owned(), body.to_owned());
            }
        }
        match tls.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(chunk.get(..read)?),
        }
    };
    let mut words = head.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    let (status, said) = answer(method, path, serde_json::from_str(&body).unwrap_or_default());
    let said = if said.is_null() { String::new() } else { said.to_string() };
    let length = if status == 204 { String::new() } else { format!("content-length: {}\r\n", said.len()) };
    let answer = format!(
        "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\nconnection: close\r\n{length}\r\n{said}"
    );
    tls.write_all(answer.as_bytes()).ok()?;
    tls.conn.send_close_notify();
    tls.flush().ok()
}
