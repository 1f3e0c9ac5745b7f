//! Arguments of the commands about a swarm: `serve`, `worker`, `pki`, `hosts`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use decnet_lifecycle::{HostId, agent::Fingerprint};

use crate::complete::hosts;

use super::parse::age;
use super::{Compose, EngineChoice};

#[derive(Debug, clap::Args)]
pub struct Serve {
    /// Where the API listens, in plain HTTP: loopback, unless --expose
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,
    /// Let the API, which is plain HTTP, listen on other addresses than loopback
    #[arg(long)]
    pub expose: bool,
    /// Where workers' beats are taken, over mTLS
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8770")]
    pub swarm: SocketAddr,
    /// The master's certificate, key and CA [default: pki/master in the data directory]
    #[arg(long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// How long a request may take to come and to be answered
    #[arg(long, value_name = "AGE", default_value = "60s", value_parser = age)]
    pub request_timeout: Duration,
    /// Speak TLS 1.2 with agents that can't do better
    #[arg(long)]
    pub tls12: bool,
    /// Where events go: the socket of DECNET's bus, or nats://[USER@]HOST[:PORT][,HOST..] or tls://..,
    /// with secrets from NATS_PASSWORD, NATS_TOKEN or NATS_CREDS (a .creds file), the CA from NATS_CA
    /// [default: $DECNET_BUS_SOCKET, else /run/decnet/bus.sock, else ~/.decnet/bus.sock]
    #[arg(long, value_name = "PATH|URL")]
    pub bus: Option<PathBuf>,
    #[command(flatten)]
    pub local: Local,
    #[command(flatten)]
    pub deadlines: DeadlineArgs,
    /// How often what runs is compared with what is placed; also as soon as the engine tells of
    /// something
    #[arg(long, value_name = "AGE", default_value = "1m", value_parser = age)]
    pub watch_every: Duration,
    /// Bring back what is placed and doesn't run: rows whose `show` says why, at most one a minute
    /// for each decky and ever more seldom. What somebody has torn down or cancelled stays so
    #[arg(long)]
    pub heal: bool,
    /// Remove rows that closed longer ago than this
    #[arg(long, value_name = "AGE", default_value = "30d", value_parser = age)]
    pub keep_closed: Duration,
}

/// The engine of a master or worker that stays.
#[derive(Debug, clap::Args)]
pub struct Local {
    /// What brings deckies up here; auto takes what already runs here, else
    /// compose where a daemon answers and the templates are there, else the
    /// process engine
    #[arg(long, value_enum, default_value_t = EngineChoice::Auto)]
    pub engine: EngineChoice,
    /// How long what runs may go on once this is asked to stop
    #[arg(long, value_name = "AGE", default_value = "10s", value_parser = age)]
    pub grace: Duration,
    // Last: its heading would hold for what follows.
    #[command(flatten)]
    pub compose: Compose,
}

/// How long rows may stay open.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Deadlines")]
pub struct DeadlineArgs {
    /// A pending row that nobody starts fails after this
    #[arg(long, value_name = "AGE", default_value = "30m", value_parser = age)]
    pub queue: Duration,
    /// A running row that nobody ends fails after this
    #[arg(long, value_name = "AGE", default_value = "30m", value_parser = age)]
    pub run: Duration,
    /// The running rows of a worker that has not been heard for this long fail
    #[arg(long, value_name = "AGE", default_value = "5m", value_parser = age)]
    pub silence: Duration,
    /// A row that its worker has not named in its beats for this long fails
    #[arg(long, value_name = "AGE", default_value = "90s", value_parser = age)]
    pub unknown: Duration,
    /// How often rows are looked at
    #[arg(long, value_name = "AGE", default_value = "5s", value_parser = age)]
    pub sweep_every: Duration,
}

#[derive(Debug, clap::Args)]
pub struct Worker {
    /// The host that this is, as the master knows it; an enrolment bundle of DECNET's says it as well
    #[arg(required_unless_present = "bundle")]
    pub name: Option<HostId>,
    /// Where its agent listens, over mTLS [default: the port of an enrolment bundle, the address in the
    /// hosts file, else 127.0.0.1:8765]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where the master takes beats [default: as an enrolment bundle says, else 127.0.0.1:8770]
    #[arg(long, value_name = "HOST:PORT")]
    pub master: Option<String>,
    /// The master's certificate, called or calling; once more for each that it has. Without, any of
    /// the CA that is made out to its address or, calling, to `decnet-master`
    #[arg(long, value_name = "FINGERPRINT")]
    pub master_pin: Vec<Fingerprint>,
    /// Do what `POST /self-destruct` of the master asks: take all down, and stop
    #[arg(long)]
    pub allow_self_destruct: bool,
    /// The worker's certificate, key and CA, or an enrolment bundle of DECNET's, unpacked
    /// [default: pki/NAME in the data directory]
    #[arg(long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Beat this often when nothing happens
    #[arg(long, value_name = "AGE", default_value = "30s", value_parser = age)]
    pub beat_every: Duration,
    /// An operation that takes longer than this fails
    #[arg(long, value_name = "AGE", default_value = "30m", value_parser = age)]
    pub run: Duration,
    #[command(flatten)]
    pub local: Local,
}

#[derive(Debug, Subcommand)]
pub enum Pki {
    /// Make a CA and the master's bundle
    Init {
        /// Where [default: pki in the data directory]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Other names and addresses that workers reach the master at
        #[arg(long, value_delimiter = ',', value_name = "NAME,..")]
        san: Vec<String>,
        /// Make bundles of these workers on this machine too, and add them to the hosts file
        #[arg(long, value_delimiter = ',', value_name = "HOST,..")]
        local: Vec<HostId>,
    },
    /// Make a worker's bundle, and print its fingerprint
    Issue {
        /// The host
        name: HostId,
        /// Names and addresses that the master reaches it at
        #[arg(long, value_delimiter = ',', required = true, value_name = "NAME,..")]
        san: Vec<String>,
        /// Where the CA is, and where the bundle goes [default: pki in the data directory]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Hosts {
    /// Add a worker host
    Add {
        /// Its id, `host_uuid` in fleets
        id: HostId,
        /// host:port of its agent
        #[arg(long, value_name = "HOST:PORT")]
        address: String,
        /// Its certificate [default: that of its bundle in the pki directory, if there is one]
        #[arg(long, value_name = "FINGERPRINT", conflicts_with = "ca_only")]
        pin: Option<Fingerprint>,
        /// Trust any certificate of the CA that is made out to its address
        #[arg(long)]
        ca_only: bool,
    },
    /// List the worker hosts
    Ls,
    /// Take a worker host out
    Rm {
        /// Its id
        #[arg(add = ArgValueCandidates::new(hosts))]
        id: HostId,
    },
    /// Admit a second certificate beside the pinned one
    Rotate {
        /// Its id
        #[arg(add = ArgValueCandidates::new(hosts))]
        id: HostId,
        /// The new certificate
        #[arg(long, value_name = "FINGERPRINT")]
        pin: Fingerprint,
    },
    /// End a rotation: admit only the newer certificate
    Settle {
        /// Its id
        #[arg(add = ArgValueCandidates::new(hosts))]
        id: HostId,
    },
}
