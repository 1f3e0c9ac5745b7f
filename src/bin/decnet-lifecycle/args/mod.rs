//! The command line's arguments.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use decnet_lifecycle::engine::compose::{DockerName, NetworkDriver};
use decnet_lifecycle::{DeckyName, HostId, RequestKey, ServiceName, Status};

use crate::logger::LogForm;
use crate::logs::Logs;
use crate::row_name::RowName;

mod swarm;

pub use swarm::{Hosts, Pki, Serve, Worker};

/// Deploys a fleet of deckies and tracks each one to its end.
///
/// Rows live in one file (lifecycle.redb) in the data directory, or in a
/// PostgreSQL database (--store). Exit codes:
/// 0 all went well, 1 a row failed, 2 bad input, 124 not in time, 130
/// interrupted.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Args {
    /// Where rows, state and decoys' files live
    /// [default: $XDG_STATE_HOME/decnet-lifecycle, else ~/.local/state/decnet-lifecycle]
    #[arg(long, global = true, env = "DECNET_LIFECYCLE_DATA", value_name = "DIR", verbatim_doc_comment)]
    pub data: Option<PathBuf>,
    /// Keep rows in a PostgreSQL database: postgres://USER@HOST/DATABASE. One master at a time:
    /// several at once are not supported yet, and a second one is refused. The password is taken
    /// from PGPASSWORD; decoys' files stay in the data directory, and so do a worker's own rows
    #[arg(long, global = true, env = "DECNET_LIFECYCLE_STORE", value_name = "URL", hide_env_values = true)]
    pub store: Option<String>,
    /// One JSON object a line, for machines
    #[arg(long, global = true)]
    pub json: bool,
    /// Log to stderr: accepted requests, ended rows and more; twice for all. A
    /// server logs errors and warnings in any case
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// How the log is written
    #[arg(long, global = true, value_enum, default_value_t = LogForm::Text, value_name = "FORM")]
    pub log: LogForm,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the deckies of a fleet file up, and wait until each is up or has failed
    Deploy(Deploy),
    /// Say what a deploy would change, and what stands in its way: exit 0 nothing to do, 1 changes, 2 refused
    Plan(Deploy),
    /// Show what is placed, and what really runs of it: exit 1 if something is missing
    Ps {
        /// Only these deckies
        deckies: Vec<DeckyName>,
    },
    /// List rows, newest first
    Ls(Ls),
    /// Show one row, its history, and why it is where it is
    Show {
        /// Its decky (the newest row is meant), its id, or the end of that
        row: RowName,
    },
    /// Wait until rows have ended: exit 0 all succeeded, 1 one failed, 124 not all have ended in time
    Wait {
        /// Each by its decky (the newest row is meant), its id, or the end of that [default: all that are open]
        rows: Vec<RowName>,
        /// For how long at most: 90s, 30m, 12h, 7d
        #[arg(long, value_name = "TIME", value_parser = age)]
        timeout: Option<Duration>,
    },
    /// Follow changes as they are committed, also beside a running deploy
    Watch {
        /// Start after this revision; 0 shows all there are [default: from now on]
        #[arg(long, value_name = "REVISION")]
        from: Option<u64>,
    },
    /// Give a deployed decky other services
    Mutate(Mutate),
    /// Take deckies down, or all
    Teardown(Teardown),
    /// Bring everything back that is placed here and doesn't run, as after a restart of the machine
    Up {
        /// Wait while another master holds the store
        #[arg(long)]
        wait: bool,
    },
    /// Show what a decky's services have said: visitors and what they typed, or containers' words
    Logs(Logs),
    /// Ask a row to stop
    Cancel {
        /// Its decky (the newest row is meant), its id, or the end of that
        row: RowName,
        /// Wait while another master holds the store
        #[arg(long)]
        wait: bool,
    },
    /// End rows that an earlier master left open, or that are past their deadline
    Sweep {
        /// Wait while another master holds the store
        #[arg(long)]
        wait: bool,
    },
    /// Remove closed rows
    Prune {
        /// Keep rows that closed within this time: 90s, 30m, 12h, 7d
        #[arg(long, value_name = "AGE", default_value = "30d", value_parser = age)]
        older_than: Duration,
        /// Wait while another master holds the store
        #[arg(long)]
        wait: bool,
    },
    /// Print all rows as JSON lines, newest first
    Export {
        /// Print what is placed instead, in the format of DECNET's own state file
        #[arg(long)]
        state: bool,
    },
    /// Look for what could keep containers from coming up here, and say what to do
    Doctor {
        /// Look for what this fleet needs, too
        fleet: Option<PathBuf>,
        #[command(flatten)]
        compose: Compose,
    },
    /// Print the compose file that a deploy would write; nothing is changed
    ComposeFile {
        /// The fleet file: NAME.ini, else JSON
        fleet: PathBuf,
        #[command(flatten)]
        compose: Compose,
    },
    /// Be the master: take requests over HTTP, and workers' beats over mTLS
    Serve(Serve),
    /// Be a worker: take the master's dispatches, and say in beats how they ended
    Worker(Worker),
    /// Make certificates for a master and its workers
    #[command(subcommand)]
    Pki(Pki),
    /// Say which worker hosts there are
    #[command(subcommand)]
    Hosts(Hosts),
    /// Hear DECNET's bus
    #[command(subcommand)]
    Bus(Bus),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub enum Bus {
    /// Print the events whose topics match a pattern, as they come
    Tap {
        /// Tokens split by `.`: `*` is any one, `>` all the rest
        #[arg(default_value = "decky.*.lifecycle")]
        pattern: String,
        /// The bus's socket [default: $DECNET_BUS_SOCKET, else /run/decnet/bus.sock, else ~/.decnet/bus.sock]
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
pub struct Deploy {
    /// The fleet file, in one of DECNET's own formats: NAME.ini, else JSON
    pub fleet: PathBuf,
    /// Only these deckies
    #[arg(long, value_delimiter = ',', value_name = "DECKY,..")]
    pub only: Option<Vec<DeckyName>>,
    /// Take a decky that is placed on another host down there first
    #[arg(long = "move")]
    pub relocate: bool,
    /// Take down what is placed and the fleet file doesn't name
    #[arg(long)]
    pub prune: bool,
    /// Only say what it would change, as `plan` does
    #[arg(long)]
    pub dry_run: bool,
    /// What brings deckies up; auto takes compose where a daemon answers and
    /// the fleet's templates are there, else the process engine
    #[arg(long, value_enum, default_value_t = EngineChoice::Auto)]
    pub engine: EngineChoice,
    #[command(flatten)]
    pub terms: Terms,
    // Last: its heading would hold for what follows.
    #[command(flatten)]
    pub compose: Compose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineChoice {
    /// Whichever can be used here
    Auto,
    /// Containers, by a compose tool
    Compose,
    /// Small decoy processes on loopback
    Process,
}

/// How containers are made; a deploy's choice holds for what comes after it.
#[derive(Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Containers")]
pub struct Compose {
    /// The compose project [default: decnet]
    #[arg(long, value_name = "NAME")]
    pub project: Option<DockerName>,
    /// The deckies' network [default: decnet_lan]
    #[arg(long, value_name = "NAME")]
    pub network: Option<DockerName>,
    /// macvlan, ipvlan or bridge [default: as the fleet says]
    #[arg(long, value_name = "DRIVER")]
    pub network_driver: Option<NetworkDriver>,
    /// Where the services' build contexts lie [default: /usr/lib/decnet/templates]
    #[arg(long, value_name = "DIR", env = "DECNET_TEMPLATES")]
    pub templates: Option<PathBuf>,
    /// Where services leave what they caught [default: /var/lib/decnet/artifacts]
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// A folder whose files a fleet may show to deckies, read-only; may be repeated
    /// [default: /srv/decnet, /usr/lib/decnet]
    #[arg(long, value_name = "DIR")]
    pub share: Vec<PathBuf>,
    /// The mails that imap and pop3 show where no email_seed is set
    #[arg(long, value_name = "DIR")]
    pub bait: Option<PathBuf>,
    /// A catalogue file with services of your own
    #[arg(long, value_name = "FILE")]
    pub catalogue: Option<PathBuf>,
    /// The compose tool: docker or docker-compose, by name or path
    #[arg(long, value_name = "PROGRAM")]
    pub compose_program: Option<PathBuf>,
}

impl Compose {
    /// Whether anything was said of them.
    pub fn is_given(&self) -> bool {
        *self != Self::default()
    }

    /// Whether containers are meant by what was said. Where templates lie may
    /// stand in the environment, and what a catalogue says of services holds
    /// for fleets, whatever is deployed.
    pub fn means_containers(&self) -> bool {
        let (templates, catalogue) = (self.templates.clone(), self.catalogue.clone());
        *self != Self { templates, catalogue, ..Self::default() }
    }
}

#[derive(Debug, clap::Args)]
pub struct Mutate {
    /// The decky
    pub decky: DeckyName,
    /// Its services from now on
    #[arg(long, value_delimiter = ',', required = true, value_name = "SERVICE,..")]
    pub services: Vec<ServiceName>,
    #[command(flatten)]
    pub terms: Terms,
}

#[derive(Debug, clap::Args)]
pub struct Teardown {
    /// The deckies, placed or only found running; all that are placed if none is named
    pub deckies: Vec<DeckyName>,
    /// Only forget them, whatever of them may run on: for a host that is gone
    #[arg(long, requires = "deckies")]
    pub forget: bool,
    #[command(flatten)]
    pub terms: Terms,
}

#[derive(Debug, clap::Args)]
pub struct Terms {
    /// Name the request: asking twice under one key does it once
    #[arg(long)]
    pub key: Option<RequestKey>,
    /// Take over from open rows of the same deckies
    #[arg(long)]
    pub supersede: bool,
    /// Wait while another master holds the store
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, clap::Args)]
pub struct Ls {
    /// Only this decky's
    #[arg(long)]
    pub decky: Option<DeckyName>,
    /// Only this worker host's
    #[arg(long)]
    pub host: Option<HostId>,
    /// Only rows in this status
    #[arg(long, value_parser = status)]
    pub status: Option<Status>,
    /// Only rows that have not ended
    #[arg(long)]
    pub open: bool,
    /// At most this many rows
    #[arg(long, default_value_t = 50)]
    pub limit: usize,
}

fn status(text: &str) -> Result<Status, String> {
    let all = [Status::Pending, Status::Running, Status::Succeeded, Status::Failed];
    all.into_iter()
        .find(|status| status.as_str() == text)
        .ok_or_else(|| "a status is pending, running, succeeded or failed".to_owned())
}

fn age(text: &str) -> Result<Duration, String> {
    let wrong = || "an age is a number and s, m, h or d, such as 12h".to_owned();
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let number =
        text.get(..text.len() - 1).and_then(|number| number.parse::<u32>().ok()).ok_or_else(wrong)?;
    Ok(Duration::from_secs(u64::from(number) * unit))
}
