//! The master as a server: requests over HTTP, workers' beats over mTLS.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use decnet_lifecycle::agent::https::{HttpsAgents, Identity, TlsVersions};
use decnet_lifecycle::bus::unix::{self as unix_bus, UnixBus};
use decnet_lifecycle::{
    Accepted, Runner, agent::HostsFile, engine::NoProgress, runner::Backoff, runner::Deadlines, store::Store,
};
use serde_json::json;
use tokio::sync::{Semaphore, watch};

use crate::args;
use crate::engines::Chosen;
use crate::home::{Home, Make, Wait};
use crate::net::{Door, Knows, Server, stop_signal};
use crate::output::Output;
use crate::private;
use crate::running::Running;
use crate::store_watch::until_gone;
use crate::token::Token;
use crate::{Complaint, Done};

mod api;
mod feed;
mod metrics;
mod swarm;
mod up;

/// Those who follow the feed with the token, at once.
const FEEDS: usize = 64;
/// Events that wait for the bus at most.
const BUS_CAPACITY: usize = 4_096;

/// What handlers need.
pub struct Master {
    runner: Runner,
    store: Arc<dyn Store>,
    hosts: Arc<HostsFile>,
    token: Token,
    stop: watch::Receiver<bool>,
    /// Places for those who follow the feed.
    feeds: Arc<Semaphore>,
    beats: AtomicU64,
    beats_refused: AtomicU64,
}

pub async fn serve(home: &Home, out: &Output, args: args::Serve) -> Result<Done, Complaint> {
    if !args.listen.ip().is_loopback() && !args.expose {
        return Err(Complaint(format!(
            "{} is not loopback, and the API is plain HTTP; put a TLS proxy before it, or say --expose",
            args.listen
        )));
    }
    private::check(home)?;
    let store = home.writer(Make::IfMissing, Wait::NotOffered).await?;
    let chosen = Chosen::for_staying(home, &*store, args.local.engine, &args.local.compose).await?;
    let hosts = Arc::new(HostsFile::new(home.hosts_path()));
    let identity = identity(home, &args)?;
    let stop = stop_signal()?;

    let mut deadlines = Deadlines::default();
    deadlines.queue = args.deadlines.queue;
    deadlines.run = args.deadlines.run;
    deadlines.silence = args.deadlines.silence;
    deadlines.unknown = args.deadlines.unknown;
    let bus = args.bus.unwrap_or_else(unix_bus::default_socket);
    let mut builder = chosen
        .runner(store.clone(), Arc::new(NoProgress))
        .deadlines(deadlines)
        .sweep_every(args.deadlines.sweep_every)
        .keep_closed(args.keep_closed)
        .bus(Arc::new(UnixBus::new(bus, "decnet-lifecycle", BUS_CAPACITY)));
    if let Some(identity) = &identity {
        let versions = if args.tls12 { TlsVersions::Also12 } else { TlsVersions::Only13 };
        let agents = HttpsAgents::new(identity.clone()).tls(versions);
        builder = builder.swarm(Arc::new(agents), hosts.clone());
    }
    let (runner, recovered) = builder.build()?.recover().await?;
    let known = runner.clone();
    crate::logger::hide(move || known.secrets());

    let master = Arc::new(Master {
        runner: runner.clone(),
        store: Arc::clone(&store),
        hosts,
        token: Token::load(&home.token_path())?,
        stop: stop.clone(),
        feeds: Arc::new(Semaphore::new(FEEDS)),
        beats: AtomicU64::new(0),
        beats_refused: AtomicU64::new(0),
    });
    let api = Server::bind(args.listen, None, args.request_timeout).await?;
    let swarm = match &identity {
        Some(identity) => {
            let hosts = Arc::clone(&master.hosts);
            let knows: Knows = Arc::new(move |shown| matches!(hosts.shown_by(shown), Ok(Some(_))));
            let door = Door::new(identity.server_config()?, knows);
            Some(Server::bind(args.swarm, Some(door), args.request_timeout).await?)
        }
        None => None,
    };
    let running = Running {
        pid: std::process::id(),
        api: api.address()?,
        swarm: swarm.as_ref().map(Server::address).transpose()?,
    };
    let sign = running.put_up(&home.place_path())?;
    announce(out, &running, &chosen, recovered.failed, recovered.accepted.len());
    // What the earlier master's 202s have promised.
    recovered.accepted.into_iter().map(Accepted::run).for_each(|work| drop(tokio::spawn(work)));

    let maintained = tokio::spawn({
        let runner = runner.clone();
        let heal = args.heal.then(Backoff::default);
        async move { tokio::join!(runner.maintain(), runner.watch_drift(args.watch_every, heal)) }
    });
    let keeper = maintained.abort_handle();
    let swarm =
        swarm.map(|server| tokio::spawn(server.run(swarm::router(Arc::clone(&master)), stop.clone())));
    // A master that does not sweep any more must not go on as if it did.
    let broke = tokio::select! {
        () = api.run(api::router(Arc::clone(&master)), stop) => None,
        _ = maintained => Some(Complaint("looking after open rows broke, the log says why; start again".into())),
        gone = until_gone(&*store) => Some(gone),
    };
    if let Some(broke) = broke {
        runner.shutdown(Duration::ZERO).await;
        return Err(broke);
    }
    if let Some(swarm) = swarm {
        let _ = swarm.await;
    }
    let left = runner.shutdown(args.local.grace).await;
    keeper.abort();
    drop(sign);
    out.say(
        || json!({"event": "stopped", "left": left}),
        || match left {
            0 => "stopped; rows that workers are at work on stay open".to_owned(),
            left => format!("stopped; {left} row(s) did not end in time, the next start fails them"),
        },
    );
    Ok(Done::Well)
}

/// The master's own bundle; none if there is none and none was asked for.
fn identity(home: &Home, args: &args::Serve) -> Result<Option<Identity>, Complaint> {
    let bundle = args.bundle.clone().unwrap_or_else(|| home.pki_dir().join("master"));
    if args.bundle.is_none() && !bundle.exists() {
        crate::output::aside(&format!(
            "note: no swarm, for there is no bundle at {}; `pki init` makes one",
            bundle.display()
        ));
        return Ok(None);
    }
    Ok(Some(Identity::load(&bundle)?))
}

fn announce(out: &Output, running: &Running, chosen: &Chosen, failed: usize, again: usize) {
    if again > 0 {
        crate::output::aside(&format!(
            "note: {again} request(s) that an earlier master accepted and did not begin are taken up again"
        ));
    }
    if failed > 0 {
        crate::output::aside(&format!(
            "note: {failed} row(s) that an earlier master left open have been failed"
        ));
    }
    out.say(
        || json!({"event": "serving", "pid": running.pid, "api": running.api, "swarm": running.swarm, "engine": chosen.name()}),
        || {
            let swarm = running.swarm.map_or("no swarm".to_owned(), |swarm| format!("beats on {swarm}"));
            format!("master: API on {}, {swarm}, engine {}; Ctrl-C stops it", running.api, chosen.name())
        },
    );
}
