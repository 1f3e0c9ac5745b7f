//! A worker as a server: its agent over mTLS, its beats to the master.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use decnet_lifecycle::agent::https::Identity;
use decnet_lifecycle::http::{self, ServerLimits};
use decnet_lifecycle::worker::{HttpsMaster, Master as _, Worker};
use decnet_lifecycle::{
    Accepted, HostId,
    agent::{HostsFile, Pins},
    runner::Deadlines,
};
use serde_json::json;

use crate::args;
use crate::engines::Chosen;
use crate::enrolment::Enrolment;
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
    let place = Place::of(home, &args)?;
    let own = home.of_worker(&place.name)?;
    let identity = Identity::load(&place.bundle)?;
    private::check(home)?;
    private::check(&own)?;
    let store = own.writer(Make::IfMissing, Wait::NotOffered).await?;
    let chosen = Chosen::for_staying(&own, &*store, args.local.engine, &args.local.compose).await?;
    let stop = stop_signal()?;

    let mut deadlines = Deadlines::default();
    deadlines.run = args.run;
    let worker = Worker::builder(place.name.clone(), store.clone(), chosen.engine())
        .settled_file(own.settled_path())
        .compose_path(chosen.compose_path())
        .deadlines(deadlines)
        .beat_every(args.beat_every)
        .build()?;
    let (worker, recovered) = worker.recover().await?;
    let known = worker.clone();
    crate::logger::hide(move || known.runner().secrets());
    let pins = match args.master_pin.split_first() {
        None => Pins::ca_only(),
        Some((one, more)) => Pins::certificates(*one, more.iter().copied()),
    };
    let master = HttpsMaster::new(identity.clone(), &place.master, pins.clone());
    let mut agent = http::agent(worker.clone(), &place.master, pins);
    if args.allow_self_destruct {
        agent = agent.self_destruct(stop.clone());
    }
    let mut limits = ServerLimits::default();
    limits.request = REQUEST;
    let server =
        serve::listen(place.listen).await?.limits(limits).tls(identity.server_config()?, agent.knows());
    announce(out, &place, server.address()?, &chosen, recovered.failed);
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

/// Which host this is, and where its master, its agent and its certificate are.
struct Place {
    name: HostId,
    master: String,
    listen: SocketAddr,
    bundle: PathBuf,
}

impl Place {
    /// As asked, else as an enrolment bundle says, else by default.
    fn of(home: &Home, args: &args::Worker) -> Result<Self, Complaint> {
        let enrolled = args.bundle.as_deref().map(Enrolment::read).transpose()?.flatten();
        let of_bundle = enrolled.as_ref().map(|enrolled| enrolled.host.clone());
        let Some(name) = args.name.clone().or(of_bundle) else {
            return Err(Complaint("the bundle does not say which host this is; name it".into()));
        };
        let listen = match (args.listen, &enrolled) {
            (Some(listen), _) => listen,
            (None, Some(enrolled)) => SocketAddr::from(([0, 0, 0, 0], enrolled.port)),
            (None, None) => listed(home, &name)?,
        };
        let of_bundle = enrolled.as_ref().map(|enrolled| enrolled.master.clone());
        let master = args.master.clone().or(of_bundle).unwrap_or_else(|| "127.0.0.1:8770".to_owned());
        let bundle = enrolled.map(|enrolled| enrolled.identity).or_else(|| args.bundle.clone());
        let bundle = bundle.unwrap_or_else(|| home.pki_dir().join(name.as_str()));
        Ok(Self { name, master, listen, bundle })
    }
}

/// Where the hosts file says that a host's agent is, or by default.
fn listed(home: &Home, name: &HostId) -> Result<SocketAddr, Complaint> {
    let hosts = HostsFile::new(home.hosts_path()).list()?;
    let Some(host) = hosts.into_iter().find(|host| host.id == *name) else {
        return Ok(SocketAddr::from(([127, 0, 0, 1], 8765)));
    };
    host.address.parse().map_err(|_| {
        Complaint(format!(
            "the hosts file says {}, which is a name; say with --listen at which address",
            host.address
        ))
    })
}

fn announce(out: &Output, place: &Place, agent: SocketAddr, chosen: &Chosen, failed: usize) {
    if failed > 0 {
        crate::output::aside(&format!(
            "note: {failed} operation(s) that an earlier start left open have been failed; the master will hear"
        ));
    }
    out.say(
        || json!({"event": "working", "host": place.name, "agent": agent, "master": place.master, "engine": chosen.name()}),
        || {
            let (name, master, engine) = (&place.name, &place.master, chosen.name());
            format!("worker {name}: agent on {agent}, beats to {master}, engine {engine}; Ctrl-C stops it")
        },
    );
}
