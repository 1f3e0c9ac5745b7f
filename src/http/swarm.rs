//! What workers ask: `POST /swarm/heartbeat`, over mutual TLS.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::json;

use crate::agent::{DirectoryError, Host, HostDirectory, HostsFile, StaticHosts};
use crate::beat::{Beat, BeatError};
use crate::runner::Runner;

use super::PeerCertificate;
use super::answer::{Answer, Given, Trouble, answer, given, not_found, read, to_the_end, wrong_method};

const NO_HOST: &str =
    "the certificate is no host's of this master; add the host, or give it this certificate as its new pin";

/// A directory that knows hosts by their certificates too.
pub trait KnownHosts: HostDirectory {
    /// The host that shows this certificate, given its DER, if one does. That
    /// it is of our CA has been checked. Asked at every handshake and at every
    /// request, before a byte of a body is read, and once a second for each
    /// connection: it must not take long.
    ///
    /// # Errors
    /// Why the directory can't be read: the request is answered 503.
    fn shown_by(&self, certificate: &[u8]) -> Result<Option<Host>, DirectoryError>;

    /// What is wrong with the directory while it still answers; none if all is
    /// well. `/healthz` tells it.
    fn trouble(&self) -> Option<String> {
        None
    }
}

impl KnownHosts for HostsFile {
    fn shown_by(&self, certificate: &[u8]) -> Result<Option<Host>, DirectoryError> {
        self.shown_by(certificate).map_err(|error| DirectoryError { reason: error.to_string() })
    }

    fn trouble(&self) -> Option<String> {
        self.trouble()
    }
}

impl KnownHosts for StaticHosts {
    fn shown_by(&self, certificate: &[u8]) -> Result<Option<Host>, DirectoryError> {
        Ok(self.shown_by(certificate).cloned())
    }
}

/// The host that a request is from, by the certificate that it has shown:
/// among the extensions of requests that [`Swarm::guard`] let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub Host);

/// What workers ask of a master, over mutual TLS: `POST /swarm/heartbeat`, for
/// hosts alone. A host is who its certificate says it is, never what a body
/// says; whoever is none is answered 403 before a byte of a body is read.
///
/// It goes behind a [`Server`](super::Server) over TLS, or one that puts a
/// [`PeerCertificate`] into each request. Clones are one, and count together.
///
/// ```no_run
/// use std::sync::Arc;
/// use decnet_lifecycle::agent::{HostsFile, https::{HttpsAgents, Identity}};
/// use decnet_lifecycle::http::{self, Server, Stop};
/// use decnet_lifecycle::{Runner, store::RedbStore};
/// # use decnet_lifecycle::testkit::FakeEngine as MyEngine;
///
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// let identity = Identity::load("pki/master".as_ref())?;
/// let hosts = Arc::new(HostsFile::new("hosts.json"));
/// let store = Arc::new(RedbStore::open("lifecycle.redb")?);
/// let (runner, recovered) = Runner::builder(store, Arc::new(MyEngine::new()))
///     .swarm(Arc::new(HttpsAgents::new(identity.clone())), hosts.clone())
///     .build()?
///     .recover()
///     .await?;
/// let swarm = http::swarm(runner, hosts);
/// let server = Server::bind("0.0.0.0:8770".parse()?).await?.tls(identity.server_config()?, swarm.knows());
/// server.run(swarm.alone(), Stop::new()).await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Swarm {
    runner: Runner,
    hosts: Arc<dyn KnownHosts>,
    body_bytes: usize,
    taken: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
}

impl fmt::Debug for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Swarm").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// The beats of these hosts, for this master; the hosts are those that the
/// runner's [agents](crate::RunnerBuilder::swarm) are called at.
pub fn swarm(runner: Runner, hosts: Arc<dyn KnownHosts>) -> Swarm {
    Swarm { runner, hosts, body_bytes: Beat::MAX_BYTES, taken: Arc::default(), refused: Arc::default() }
}

impl Swarm {
    /// The most bytes of a body. Without: [`Beat::MAX_BYTES`].
    pub const fn body_bytes(mut self, most: usize) -> Self {
        self.body_bytes = most;
        self
    }

    /// Whether a certificate is a host's, for [`Server::tls`](super::Server::tls).
    pub fn knows(&self) -> impl Fn(&[u8]) -> bool + Send + Sync + 'static {
        let hosts = Arc::clone(&self.hosts);
        move |shown| matches!(hosts.shown_by(shown), Ok(Some(_)))
    }

    /// Beats that were taken.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Beats that were not, whoever sent them.
    #[must_use]
    pub fn beats_refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// What is wrong with the directory of hosts, if something is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.hosts.trouble()
    }

    /// Answers a request whose body is not read.
    fn refuse(&self, trouble: Trouble) -> Response {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let mut response = trouble.into_response();
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }

    /// Routes of one's own, for hosts alone: each request that gets there has
    /// its [`Caller`] among its extensions.
    pub fn guard(&self, routes: Router) -> Router {
        routes.layer(from_fn_with_state(self.clone(), only_hosts))
    }

    /// The whole of a server: whatever else is asked is answered 404.
    pub fn alone(self) -> Router {
        let routes = self.routes().fallback(not_found);
        self.guard(routes)
    }

    fn routes(&self) -> Router {
        Router::new()
            .route("/swarm/heartbeat", post(counted))
            .method_not_allowed_fallback(wrong_method)
            .layer(DefaultBodyLimit::max(self.body_bytes))
            .layer(from_fn_with_state(self.clone(), has_room))
            .with_state(self.clone())
    }
}

/// The route alone, to mount among others.
impl From<Swarm> for Router {
    fn from(swarm: Swarm) -> Self {
        let routes = swarm.routes();
        swarm.guard(routes)
    }
}

/// Who is no host of ours is told so before a byte of its body is read.
async fn only_hosts(State(swarm): State<Swarm>, mut request: Request, next: Next) -> Response {
    let shown = request.extensions().get::<PeerCertificate>();
    let trouble = match shown.map(|shown| swarm.hosts.shown_by(shown.der())) {
        Some(Ok(Some(host))) => {
            request.extensions_mut().insert(Caller(host));
            return next.run(request).await;
        }
        Some(Err(error)) => unavailable(&error),
        Some(Ok(None)) | None => Trouble::new(StatusCode::FORBIDDEN, NO_HOST),
    };
    swarm.refuse(trouble)
}

/// A beat is no longer than its host's deckies can make it, which is known
/// before a byte of it is read. One that is refused is told here too: its
/// worker only sees that it was.
async fn has_room(
    State(swarm): State<Swarm>,
    caller: Option<Extension<Caller>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(Extension(Caller(host))) = caller else { return next.run(request).await };
    match room(&swarm, &host, length(&request)).await {
        Ok(()) => next.run(request).await,
        Err(trouble) => swarm.refuse(trouble),
    }
}

async fn room(swarm: &Swarm, host: &Host, length: usize) -> Result<(), Trouble> {
    if length <= Beat::USUAL_BYTES {
        return Ok(());
    }
    let most = swarm.runner.beat_bytes(&host.id).await?;
    if length <= most {
        return Ok(());
    }
    let why = match length {
        usize::MAX => "it does not say how many bytes it has".to_owned(),
        length => format!("it has {length} bytes, and what is deployed there can make it {most}"),
    };
    log::error!(target: "decnet_lifecycle::http", host:% = host.id, why:% = why; "a beat was refused, so its rows will fail as lost");
    swarm.runner.beat_refused(&host.id, &why);
    Err(Trouble::new(StatusCode::PAYLOAD_TOO_LARGE, why))
}

/// How many bytes a request says that its body has; nobody knows of one that
/// comes in pieces.
fn length(request: &Request) -> usize {
    let headers = request.headers();
    let said = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let unsaid = if headers.contains_key(header::TRANSFER_ENCODING) { usize::MAX } else { 0 };
    said.unwrap_or(unsaid)
}

async fn counted(
    State(swarm): State<Swarm>,
    peer: Option<Extension<PeerCertificate>>,
    body: Given,
) -> Answer {
    let taken = {
        let swarm = swarm.clone();
        to_the_end(async move { heartbeat(&swarm, peer.map(|Extension(peer)| peer), body).await }).await
    };
    let counter = if taken.is_ok() { &swarm.taken } else { &swarm.refused };
    counter.fetch_add(1, Ordering::Relaxed);
    taken
}

async fn heartbeat(swarm: &Swarm, peer: Option<PeerCertificate>, body: Given) -> Answer {
    let body = given(body)?;
    let wrong = |error: BeatError| Trouble {
        status: StatusCode::UNPROCESSABLE_ENTITY,
        detail: json!([{"type": "value_error", "loc": ["body"], "msg": error.to_string()}]),
    };
    let beat = read(body, move |body| Beat::from_json(body).map_err(wrong)).await?;
    let host = swarm.hosts.find(&beat.host).await.map_err(|error| unavailable(&error))?;
    let Some(host) = host else {
        return Err(Trouble::new(StatusCode::NOT_FOUND, "unknown host; add it first"));
    };
    // The body only says which host to compare with.
    if !peer.is_some_and(|shown| host.is_shown_by(shown.der())) {
        return Err(Trouble::new(
            StatusCode::FORBIDDEN,
            "the certificate is not this host's; give the host this one as its new pin",
        ));
    }
    let said = swarm.runner.take_beat(&host.id, &beat).await?;
    Ok(if beat.known_rows.are_named() {
        answer(StatusCode::OK, &serde_json::to_value(&said).unwrap_or_default())
    } else {
        StatusCode::NO_CONTENT.into_response()
    })
}

fn unavailable(error: &DirectoryError) -> Trouble {
    Trouble::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}
