//! The master as a server: requests over HTTP, workers' beats over mTLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::agent::https::{HttpsAgents, Identity, TlsVersions};
use decnet_lifecycle::http::{self, Access, Server, ServerLimits};
use decnet_lifecycle::{Accepted, agent::HostsFile, engine::NoProgress, runner::Backoff, runner::Deadlines};
use serde_json::json;
use smol::future::FutureExt as _;

use crate::args;
use crate::engines::Chosen;
use crate::home::{Home, Make, Wait};
use crate::net::stop_signal;
use crate::output::Output;
use crate::private;
use crate::running::Running;
use crate::store_watch::{unmaintained, until_gone};
use crate::token;
use crate::{Complaint, Done};

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
    let bus = crate::buses::bus(args.bus)?;
    let mut builder = chosen
        .runner(store.clone(), Arc::new(NoProgress))
        .deadlines(deadlines)
        .sweep_every(args.deadlines.sweep_every)
        .keep_closed(args.keep_closed)
        .bus(bus);
    if let Some(identity) = &identity {
        let versions = if args.tls12 { TlsVersions::Also12 } else { TlsVersions::Only13 };
        let agents = HttpsAgents::new(identity.clone()).tls(versions);
        builder = builder.swarm(Arc::new(agents), hosts.clone());
    }
    let (runner, recovered) = builder.build()?.recover().await?;
    let known = runner.clone();
    crate::logger::hide(move || known.secrets());

    let beats = http::swarm(runner.clone(), hosts);
    let routes = http::api(runner.clone(), Access::Bearer(token::load(&home.token_path())?))
        .swarm(&beats)
        .stop(&stop)
        .alone();
    let mut limits = ServerLimits::default();
    limits.request = args.request_timeout;
    let api = listen(args.listen).await?.limits(limits);
    let swarm = match &identity {
        Some(identity) => {
            let server = listen(args.swarm).await?;
            Some(server.limits(limits).tls(identity.server_config()?, beats.knows()))
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
        let watched = {
            let runner = runner.clone();
            async move {
                runner.watch_drift(args.watch_every, heal).await;
                std::future::pending().await
            }
        };
        async move { runner.maintain().or(watched).await }
    });
    let keeper = maintained.abort_handle();
    let swarm = swarm.map(|server| tokio::spawn(server.run(beats.alone(), stop.clone())));
    // A master that does not sweep any more must not go on as if it did.
    let broke = tokio::select! {
        () = api.run(routes, stop) => None,
        ended = maintained => Some(unmaintained(ended)),
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

/// A server at this address.
pub async fn listen(address: SocketAddr) -> Result<Server, Complaint> {
    Server::bind(address).await.map_err(|error| Complaint(format!("can't listen on {address}: {error}")))
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
