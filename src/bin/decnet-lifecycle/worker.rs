//! A worker as a server: its agent over mTLS, its beats to the master.

use std::net::SocketAddr;
use std::time::Duration;

use decnet_lifecycle::agent::https::Identity;
use decnet_lifecycle::http::{self, ServerLimits};
use decnet_lifecycle::worker::{HttpsMaster, Master as _, Worker};
use decnet_lifecycle::{
    Accepted,
    agent::{Host, HostsFile, Pin},
    runner::Deadlines,
};
use serde_json::json;

use crate::args;
use crate::engines::Chosen;
use crate::home::{Home, Make, Wait};
use crate::net::stop_signal;
use crate::output::Output;
use crate::private;
use crate::serve;
use crate::store_watch::{unmaintained, until_gone};
use crate::{Complaint, Done};

/// For a request to come and to be answered; a teardown is answered when it is
/// done.
const REQUEST: Duration = Duration::from_secs(5 * 60);
/// For the beat that says goodbye.
const LAST_BEAT: Duration = Duration::from_secs(5);

pub async fn work(home: &Home, out: &Output, args: args::Worker) -> Result<Done, Complaint> {
    let own = home.of_worker(&args.name)?;
    let listen = listen(home, &args)?;
    let bundle = args.bundle.clone().unwrap_or_else(|| home.pki_dir().join(args.name.as_str()));
    let identity = Identity::load(&bundle)?;
    private::check(home)?;
    private::check(&own)?;
    let store = own.writer(Make::IfMissing, Wait::NotOffered).await?;
    let chosen = Chosen::for_staying(&own, &*store, args.local.engine, &args.local.compose).await?;
    let stop = stop_signal()?;

    let mut deadlines = Deadlines::default();
    deadlines.run = args.run;
    let worker = Worker::builder(args.name.clone(), store.clone(), chosen.engine())
        .settled_file(own.settled_path())
        .compose_path(chosen.compose_path())
        .deadlines(deadlines)
        .beat_every(args.beat_every)
        .build()?;
    let (worker, recovered) = worker.recover().await?;
    let known = worker.clone();
    crate::logger::hide(move || known.runner().secrets());
    let pin = args.master_pin.map_or(Pin::CaOnly, Pin::Certificate);
    let master = HttpsMaster::new(identity.clone(), &args.master, pin);
    let asks = Host { id: args.name.clone(), address: args.master.clone(), pin };
    let agent = http::agent(worker.clone(), asks);
    let mut limits = ServerLimits::default();
    limits.request = REQUEST;
    let server = serve::listen(listen).await?.limits(limits).tls(identity.server_config()?, agent.knows());
    announce(out, &args, server.address()?, &chosen, recovered.failed);
    // What was taken and not begun.
    recovered.accepted.into_iter().map(Accepted::run).for_each(|work| drop(tokio::spawn(work)));

    let maintained = tokio::spawn({
        let worker = worker.clone();
        async move { worker.runner().maintain().await }
    });
    let beating = tokio::spawn({
        let (worker, master) = (worker.clone(), master.clone());
        async move { worker.beats(&master).await }
    });
    let keeper = maintained.abort_handle();
    let broke = tokio::select! {
        () = server.run(agent.alone(), stop) => None,
        ended = maintained => Some(unmaintained(ended)),
        gone = until_gone(&*store) => Some(gone),
    };
    if let Some(broke) = broke {
        worker.runner().shutdown(Duration::ZERO).await;
        return Err(broke);
    }
    let left = worker.runner().shutdown(args.local.grace).await;
    keeper.abort();
    beating.abort();
    // What has just ended is worth a last word; without, the next start has it.
    let goodbye = async {
        loop {
            let beat = worker.beat().await.ok()?;
            if beat.deltas() == 0 {
                return Some(());
            }
            let reply = master.heartbeat(beat.body()).await.ok()?;
            worker.settle(&beat, &reply).await.ok()?;
        }
    };
    let told = tokio::time::timeout(LAST_BEAT, goodbye).await.ok().flatten().is_some() && left == 0;
    out.say(
        || json!({"event": "stopped", "left": left, "master_told": told}),
        || match told {
            true => "stopped; the master has heard all".to_owned(),
            false => "stopped; what the master has not heard is told at the next start".to_owned(),
        },
    );
    Ok(Done::Well)
}

/// Where the agent listens: as asked, as the hosts file says, or by default.
fn listen(home: &Home, args: &args::Worker) -> Result<SocketAddr, Complaint> {
    if let Some(listen) = args.listen {
        return Ok(listen);
    }
    let hosts = HostsFile::new(home.hosts_path()).list()?;
    let Some(host) = hosts.into_iter().find(|host| host.id == args.name) else {
        return Ok(SocketAddr::from(([127, 0, 0, 1], 8765)));
    };
    host.address.parse().map_err(|_| {
        Complaint(format!(
            "the hosts file says {}, which is a name; say with --listen at which address",
            host.address
        ))
    })
}

fn announce(out: &Output, args: &args::Worker, agent: SocketAddr, chosen: &Chosen, failed: usize) {
    if failed > 0 {
        crate::output::aside(&format!(
            "note: {failed} operation(s) that an earlier start left open have been failed; the master will hear"
        ));
    }
    out.say(
        || json!({"event": "working", "host": args.name, "agent": agent, "master": args.master, "engine": chosen.name()}),
        || {
            let (name, master, engine) = (&args.name, &args.master, chosen.name());
            format!("worker {name}: agent on {agent}, beats to {master}, engine {engine}; Ctrl-C stops it")
        },
    );
}
