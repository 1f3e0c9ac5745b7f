//! The one file that knows ureq's connectors, which may change with its minor
//! releases: TLS of ours over its TCP, told how far it came.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::config::Config;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, TcpConnector, Transport,
    TransportAdapter,
};

/// How far a call came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// There is no connection.
    Connecting,
    /// Somebody took the connection.
    Handshake,
    /// The handshake is done; not one byte of the request was sent.
    Trusted,
    /// At least one byte of the request was sent.
    Sent,
    /// At least one byte of an answer came.
    Answered,
}

/// Where a call is, as the connector tells it.
#[derive(Debug, Clone)]
pub(super) struct Reached(Arc<Mutex<Stage>>);

impl Reached {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Stage::Connecting)))
    }

    pub(super) fn stage(&self) -> Stage {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at_least(&self, stage: Stage) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = stage.max(*now);
    }
}

/// An agent whose every connection is TLS as configured, to a peer of this
/// name.
pub(super) fn agent(
    config: Config,
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
    reached: Reached,
) -> ureq::Agent {
    let connector = TcpConnector::default().chain(Tls { config: tls, name, reached });
    ureq::Agent::with_parts(config, connector, DefaultResolver::default())
}

#[derive(Debug)]
struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    reached: Reached,
}

impl<In: Transport> Connector<In> for Tls {
    type Out = TlsTransport<In>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(tcp) = chained else { return Ok(None) };
        if !details.needs_tls() {
            return Err(ureq::Error::RequireHttpsOnly(details.uri.to_string()));
        }
        self.reached.at_least(Stage::Handshake);
        let mut conn = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(|error| ureq::Error::Io(io::Error::other(error)))?;
        let mut sock = TransportAdapter::new(tcp, Arc::clone(&details.current_time));
        sock.set_timeout(details.timeout);
        while conn.is_handshaking() {
            conn.complete_io(&mut sock)?;
        }
        self.reached.at_least(Stage::Trusted);
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(TlsTransport {
            buffers,
            stream: StreamOwned::new(conn, sock),
            reached: self.reached.clone(),
        }))
    }
}

struct TlsTransport<In: Transport> {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter<In>>,
    reached: Reached,
}

impl<In: Transport> Transport for TlsTransport<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        self.reached.at_least(Stage::Sent);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output)?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        if amount > 0 {
            self.reached.at_least(Stage::Answered);
        }
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // Connections are not kept.
        false
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl<In: Transport> fmt::Debug for TlsTransport<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTransport").field("reached", &self.reached.stage()).finish_non_exhaustive()
    }
}
