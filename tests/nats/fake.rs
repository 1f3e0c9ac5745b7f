//! A server that says what the test says, and the events it is told.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use decnet_lifecycle::bus::{Event, nats::NatsSettings};
use decnet_lifecycle::{DeckyName, LifecycleId, Operation, Status};

use crate::processes::HANGS;

pub const INFO: &str =
    "INFO {\"server_id\":\"F\",\"version\":\"2.9.10\",\"headers\":true,\"max_payload\":1048576}\r\n";

/// What our side says first, by its name.
pub fn hello() -> String {
    format!(
        "CONNECT {{\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\"name\":\"decnet-lifecycle\",\
         \"lang\":\"rust\",\"version\":\"{}\",\"protocol\":1,\"echo\":false,\"headers\":true,\
         \"no_responders\":true}}\r\nPING\r\n",
        env!("CARGO_PKG_VERSION")
    )
}

pub fn event(number: u128) -> Event {
    Event {
        decky: DeckyName::parse("decky-01").unwrap(),
        lifecycle_id: LifecycleId::from_u128(number),
        operation: Operation::Deploy,
        status: Status::Failed,
        error: Some("Engine: é".to_owned()),
    }
}

/// What is sent for such an event, byte by byte.
pub fn wire(number: u128) -> String {
    let body = format!(
        r#"{{"payload":{{"error":"Engine: é","lifecycle_id":"{}","operation":"deploy","status":"failed"}},"type":"lifecycle"}}"#,
        LifecycleId::from_u128(number)
    );
    format!("PUB decnet.decky.decky-01.lifecycle {}\r\n{body}\r\n", body.len())
}

pub struct Fake {
    listener: TcpListener,
    port: u16,
}

impl Fake {
    pub fn new() -> Self {
        Self::at(0)
    }

    pub fn at(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn settings(&self) -> NatsSettings {
        settings(&format!("nats://127.0.0.1:{}", self.port))
    }

    /// The next connection, before a word is said.
    pub fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(HANGS)).unwrap();
        Peer(stream)
    }

    /// The next connection, let in.
    pub fn let_in(&self) -> Peer {
        let mut peer = self.accept();
        peer.say(INFO);
        peer.expect(&hello());
        peer.say("PONG\r\n");
        peer
    }
}

/// Settings that try again at once.
pub fn settings(url: &str) -> NatsSettings {
    url.parse::<NatsSettings>().unwrap().again_after(Duration::from_micros(200))
}

pub struct Peer(TcpStream);

impl Clone for Peer {
    fn clone(&self) -> Self {
        Self(self.0.try_clone().unwrap())
    }
}

impl Peer {
    pub fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// The same, where the other side may have gone.
    pub fn try_say(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    pub fn expect(&mut self, wanted: &str) {
        assert_eq!(String::from_utf8_lossy(&self.read(wanted.len())), wanted);
    }

    pub fn expect_bytes(&mut self, wanted: &[u8]) {
        assert_eq!(self.read(wanted.len()), wanted);
    }

    pub fn read(&mut self, count: usize) -> Vec<u8> {
        let mut got = vec![0; count];
        self.0.read_exact(&mut got).unwrap();
        got
    }

    /// All until the other side closes.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut got = Vec::new();
        let _ = self.0.read_to_end(&mut got);
        got
    }
}
