//! A connection to one of the servers: who one is, TLS, and what is said on it.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::lifecycle::text::one_line;

use super::creds::Creds;
use super::error::NatsError;
use super::line::{Message, ServerInfo, ServerLine};
use super::settings::{Identity, NatsSettings, Server, Tls};
use super::socket::{Socket, Wait};

/// A server that takes nothing, or has no answer, for this long is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// After this long without a word a server is asked whether it is there.
const QUIET: Duration = Duration::from_secs(30);
/// The most lines in a row while nobody waits for what comes.
const LINES: usize = 256;

/// What a server said that matters to who uses the connection.
#[derive(Debug)]
pub(crate) enum Heard {
    Message(Message),
    /// Something was refused; the connection may go on.
    Error(String),
    /// All that was sent before the last PING has been read.
    Pong,
}

/// A connection on which the server has let us in.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    server: String,
    info: ServerInfo,
    received: Vec<u8>,
    /// Room for a read.
    buffer: Vec<u8>,
    heard_at: Instant,
    /// When it was asked whether it is there, and has not said so since.
    asked_at: Option<Instant>,
}

/// The servers, each in its turn.
#[derive(Debug)]
pub(crate) struct Servers {
    settings: NatsSettings,
    name: String,
    next: usize,
}

impl Servers {
    /// Under this name; what isn't printable ASCII is left out.
    pub(crate) fn new(settings: NatsSettings, name: &str) -> Self {
        let name = name.chars().filter(char::is_ascii_graphic).take(64).collect();
        Self { settings, name, next: 0 }
    }

    pub(crate) const fn settings(&self) -> &NatsSettings {
        &self.settings
    }

    /// Connects to the next that lets us in; what the last one said if none
    /// does.
    pub(crate) fn connect(&mut self) -> Result<Connection, NatsError> {
        let mut last = NatsError::settings("it names no server");
        for _ in 0..self.settings.servers.len() {
            let place = self.next % self.settings.servers.len().max(1);
            self.next = place + 1;
            let Some(server) = self.settings.servers.get(place) else { continue };
            match Connection::to(server, &self.settings, &self.name) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Connection {
    fn to(server: &Server, settings: &NatsSettings, name: &str) -> Result<Self, NatsError> {
        let (end, shown) = (Instant::now() + PATIENCE, server.to_string());
        let socket = Socket::connect(server, PATIENCE).map_err(NatsError::io("connecting to", &shown))?;
        let is_here = socket.peer().map_err(NatsError::io("connecting to", &shown))?.is_loopback();
        let mut connection = Self {
            socket,
            server: shown,
            info: ServerInfo::default(),
            received: Vec::new(),
            buffer: vec![0; 16 << 10],
            heard_at: Instant::now(),
            asked_at: None,
        };
        if settings.tls == Tls::First {
            connection = connection.encrypted(server, settings, end)?;
        }
        match connection.line(Wait::Until(end))? {
            Some(ServerLine::Info(info)) => connection.info = info,
            Some(ServerLine::Error(said)) => return Err(NatsError::refused(&connection.server, &said)),
            Some(_) => return Err(NatsError::unfit(&connection.server, "it does not begin with INFO")),
            None => return Err(connection.silent()),
        }
        let (asks, offers) = (connection.info.tls_required, connection.info.tls_available);
        let must = match settings.tls {
            Tls::OffLoopback => asks || !is_here,
            Tls::Always => true,
            Tls::Off if asks => {
                return Err(NatsError::unfit(
                    &connection.server,
                    "it speaks TLS alone, and tls=off was said",
                ));
            }
            Tls::First | Tls::Off => false,
        };
        if must {
            if !(asks || offers) {
                return Err(NatsError::unfit(
                    &connection.server,
                    "it does not speak TLS, and others could listen; set that up there, or say tls=off \
                     where nobody else can",
                ));
            }
            // What came in the clear after its first line was nobody's word.
            if !connection.received.is_empty() {
                return Err(NatsError::unfit(&connection.server, "it says more before TLS than it may"));
            }
            connection = connection.encrypted(server, settings, end)?;
        }
        let hello = connection.hello(settings, name)?;
        connection.send(&hello)?;
        loop {
            match connection.line(Wait::Until(end))? {
                Some(ServerLine::Pong) => return Ok(connection),
                Some(ServerLine::Error(said)) => return Err(NatsError::refused(&connection.server, &said)),
                Some(ServerLine::Ping) => connection.send(b"PONG\r\n")?,
                Some(ServerLine::Info(info)) => connection.info = info,
                Some(ServerLine::Message(_) | ServerLine::Ok) => {}
                None => return Err(connection.silent()),
            }
        }
    }

    fn encrypted(self, server: &Server, settings: &NatsSettings, end: Instant) -> Result<Self, NatsError> {
        let Some(config) = settings.config.clone() else {
            return Err(NatsError::unfit(
                &self.server,
                "TLS needs to know whom to trust: name the file of the CA's certificates, as ca=FILE",
            ));
        };
        let failed = NatsError::io("shaking hands with", &self.server);
        let socket = self.socket.encrypted(&server.host, config, end).map_err(failed)?;
        Ok(Self { socket, ..self })
    }

    fn hello(&self, settings: &NatsSettings, name: &str) -> Result<Vec<u8>, NatsError> {
        let mut connect = Connect {
            verbose: false,
            pedantic: false,
            tls_required: matches!(self.socket, Socket::Encrypted(_)),
            name,
            lang: "rust",
            version: env!("CARGO_PKG_VERSION"),
            protocol: 1,
            echo: false,
            headers: self.info.headers,
            no_responders: self.info.headers,
            ..Connect::default()
        };
        let creds;
        match &settings.identity {
            Identity::Nobody => {}
            Identity::Token(token) => connect.auth_token = Some(token),
            Identity::User { name, password } => {
                connect.user = Some(name);
                connect.pass = Some(password);
            }
            Identity::Creds(path) => {
                creds = Creds::load(path).map_err(NatsError::settings)?;
                connect.jwt = Some(&creds.jwt);
                // One that asks for no signature looks at no JWT either.
                connect.sig = self.info.nonce.as_deref().and_then(|nonce| creds.sign(nonce));
            }
        }
        let connect = serde_json::to_string(&connect).unwrap_or_default();
        Ok(format!("CONNECT {connect}\r\nPING\r\n").into_bytes())
    }

    /// Which server it is.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// What it said of itself.
    pub(crate) const fn info(&self) -> &ServerInfo {
        &self.info
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), NatsError> {
        self.socket.write_all(bytes).map_err(NatsError::io("writing to", &self.server))
    }

    /// What the server says next, until then; none if it says nothing that
    /// matters.
    pub(crate) fn hear_until(&mut self, end: Instant) -> Result<Option<Heard>, NatsError> {
        loop {
            let Some(line) = self.line(Wait::Until(end))? else { return Ok(None) };
            if let Some(heard) = self.take(line)? {
                return Ok(Some(heard));
            }
        }
    }

    /// What the server has refused by now, if it has something; for who has
    /// something else to do as well: a flood of words holds it up no longer
    /// than it takes to look.
    pub(crate) fn refused_by_now(&mut self) -> Result<Option<String>, NatsError> {
        for _ in 0..LINES {
            let Some(line) = self.line(Wait::No)? else { return Ok(None) };
            if let Some(Heard::Error(said)) = self.take(line)? {
                return Ok(Some(said));
            }
        }
        Ok(None)
    }

    /// Asks a server that has been quiet whether it is there.
    ///
    /// # Errors
    /// It was asked before, and has not said a word since.
    pub(crate) fn keep_alive(&mut self) -> Result<(), NatsError> {
        match self.asked_at {
            Some(asked) if asked.elapsed() > QUIET => Err(self.silent()),
            None if self.heard_at.elapsed() > QUIET => {
                self.asked_at = Some(Instant::now());
                self.send(b"PING\r\n")
            }
            _ => Ok(()),
        }
    }

    fn silent(&self) -> NatsError {
        let error = std::io::ErrorKind::TimedOut.into();
        NatsError::io("waiting for a word of", &self.server)(error)
    }

    fn take(&mut self, line: ServerLine) -> Result<Option<Heard>, NatsError> {
        Ok(match line {
            ServerLine::Ping => {
                self.send(b"PONG\r\n")?;
                None
            }
            ServerLine::Info(info) if info.ldm => {
                let leaving = std::io::Error::other("it is about to stop");
                return Err(NatsError::io("staying with", &self.server)(leaving));
            }
            ServerLine::Info(info) => {
                self.info = info;
                None
            }
            ServerLine::Message(message) => Some(Heard::Message(message)),
            ServerLine::Error(said) => Some(Heard::Error(one_line(&said, 500))),
            ServerLine::Pong => Some(Heard::Pong),
            ServerLine::Ok => None,
        })
    }

    fn line(&mut self, wait: Wait) -> Result<Option<ServerLine>, NatsError> {
        loop {
            let taken = ServerLine::take(&mut self.received);
            if let Some(line) = taken.map_err(|error| NatsError::unfit(&self.server, error.to_string()))? {
                return Ok(Some(line));
            }
            let read = self.socket.read(&mut self.buffer, wait);
            let Some(read) = read.map_err(NatsError::io("reading from", &self.server))? else {
                return Ok(None);
            };
            (self.heard_at, self.asked_at) = (Instant::now(), None);
            self.received.extend_from_slice(self.buffer.get(..read).unwrap_or_default());
        }
    }
}

/// What the server is told first.
#[derive(Default, Serialize)]
struct Connect<'a> {
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
    name: &'a str,
    lang: &'a str,
    version: &'a str,
    protocol: u8,
    echo: bool,
    headers: bool,
    no_responders: bool,
}
