//! The command line's arguments.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use clap_complete::engine::ArgValueCandidates;
use decnet_lifecycle::{DeckyName, FailureKind, HostId, Operation, RequestKey, ServiceName, Status};

use crate::complete::{deckies, hosts, rows};
use crate::logger::LogForm;
use crate::output::Colour;
use crate::row_name::RowName;

mod fleet;
mod logs;
mod parse;
mod swarm;

pub use fleet::{Compose, Deploy, EngineChoice, Init, Schema};
pub use logs::{Logs, Speaker};
pub use parse::Moment;
use parse::{age, kind, moment, operation, status};
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
    /// Colours: where a terminal shows it (and NO_COLOR is not set), always, or never
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto, value_name = "WHEN")]
    pub color: Colour,
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
    /// Write a fleet file to begin with; nothing is overwritten
    Init(Init),
    /// Say what of a fleet file would be refused wherever it is deployed
    Check {
        /// The fleet file: NAME.ini, NAME.toml, else JSON; - is standard input
        fleet: PathBuf,
        /// Which engine it is for; auto is compose where options of containers are given
        #[arg(long, value_enum, default_value_t = EngineChoice::Auto)]
        engine: EngineChoice,
        #[command(flatten)]
        compose: Compose,
    },
    /// Print what a fleet file or a catalogue may hold, as JSON Schema
    Schema {
        /// Of which
        of: Schema,
    },
    /// Bring the deckies of a fleet file up, and wait until each is up or has failed
    Deploy(Deploy),
    /// Say what a deploy would change, and what stands in its way: exit 0 nothing to do, 1 changes, 2 refused
    Plan(Deploy),
    /// Show what is placed, and what really runs of it: exit 1 if something is missing
    Ps {
        /// Only these deckies
        #[arg(add = ArgValueCandidates::new(deckies))]
        deckies: Vec<DeckyName>,
    },
    /// List rows, newest first
    Ls(Ls),
    /// Show one row, its history, and why it is where it is
    Show {
        /// Its decky (the newest row is meant), its id, or the end of that
        #[arg(add = ArgValueCandidates::new(rows))]
        row: RowName,
    },
    /// Wait until rows have ended: exit 0 all succeeded, 1 one failed, 124 not all have ended in time
    Wait {
        /// Each by its decky (the newest row is meant), its id, or the end of that [default: all that are open]
        #[arg(add = ArgValueCandidates::new(rows))]
        rows: Vec<RowName>,
        /// For how long at most: 90s, 30m, 12h, 7d
        #[arg(long, value_name = "TIME", value_parser = age)]
        timeout: Option<Duration>,
    },
    /// Follow changes as they are committed, also beside a running deploy
    Watch(Watch),
    /// Give deployed deckies other services
    Mutate(Mutate),
    /// Give deckies the services back that they had before their last mutate; once more, and it is undone
    Undo(Undo),
    /// Do what failed once more: what the newest rows of deckies were to bring about
    Retry(Retry),
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
    /// Ask rows to stop
    Cancel {
        /// Each by its decky (the newest row is meant), its id, or the end of that
        #[arg(required = true, add = ArgValueCandidates::new(rows))]
        rows: Vec<RowName>,
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
    /// Copy the store into a new file, beside a running master too; a plain copy of a store in use is torn
    Backup {
        /// The file to make
        file: PathBuf,
    },
    /// Put a backup into a data directory that has no store
    Restore {
        /// What `backup` made
        file: PathBuf,
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
    /// Put each change into a stream of NATS' JetStream, once and in order, also beside a running master
    Mirror(Mirror),
    /// Hear DECNET's bus
    #[command(subcommand)]
    Bus(Bus),
    /// Print what has a shell complete commands, deckies and rows: `source <(decnet-lifecycle completions bash)`
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
pub struct Mirror {
    /// The servers: nats://[USER@]HOST[:PORT][,HOST..] or tls://..; secrets are taken from
    /// NATS_PASSWORD, NATS_TOKEN or NATS_CREDS (a .creds file), the CA from NATS_CA or ?ca=FILE
    pub url: String,
    /// The stream, which has to keep the subjects decnet.feed.> (or ?prefix=PREFIX of the URL) alone
    #[arg(long, value_name = "NAME")]
    pub stream: String,
    /// Begin after this revision if the stream is empty [default: with the oldest change there is]
    #[arg(long, value_name = "REVISION")]
    pub from: Option<u64>,
    /// End once the stream has all there is
    #[arg(long)]
    pub once: bool,
}

#[derive(Debug, clap::Args)]
pub struct Mutate {
    /// The deckies
    #[arg(required = true, value_name = "DECKY", add = ArgValueCandidates::new(deckies))]
    pub deckies: Vec<DeckyName>,
    /// Their services from now on
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "SERVICE,..",
        required_unless_present_any = ["add", "remove"],
        conflicts_with_all = ["add", "remove"]
    )]
    pub services: Option<Vec<ServiceName>>,
    /// Add these to those that each has
    #[arg(long, value_delimiter = ',', value_name = "SERVICE,..")]
    pub add: Vec<ServiceName>,
    /// Take these from those that each has
    #[arg(long, value_delimiter = ',', value_name = "SERVICE,..")]
    pub remove: Vec<ServiceName>,
    #[command(flatten)]
    pub terms: Terms,
}

#[derive(Debug, clap::Args)]
pub struct Teardown {
    /// The deckies, placed or only found running; all that are placed if none is named
    #[arg(add = ArgValueCandidates::new(deckies))]
    pub deckies: Vec<DeckyName>,
    /// Only forget them, whatever of them may run on: for a host that is gone
    #[arg(long, requires = "deckies")]
    pub forget: bool,
    /// Take all down without a question
    #[arg(long, short = 'y')]
    pub yes: bool,
    #[command(flatten)]
    pub terms: Terms,
}

#[derive(Debug, clap::Args)]
pub struct Undo {
    /// The deckies
    #[arg(required = true, value_name = "DECKY", add = ArgValueCandidates::new(deckies))]
    pub deckies: Vec<DeckyName>,
    #[command(flatten)]
    pub terms: Terms,
}

#[derive(Debug, clap::Args)]
pub struct Retry {
    /// The deckies, whose newest row must have failed
    #[arg(
        value_name = "DECKY",
        required_unless_present = "failed",
        conflicts_with = "failed",
        add = ArgValueCandidates::new(deckies)
    )]
    pub deckies: Vec<DeckyName>,
    /// All deckies whose newest row has failed
    #[arg(long)]
    pub failed: bool,
    #[command(flatten)]
    pub terms: Terms,
}

#[derive(Debug, Clone, clap::Args)]
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
pub struct Watch {
    /// Only these deckies
    #[arg(add = ArgValueCandidates::new(deckies))]
    pub deckies: Vec<DeckyName>,
    /// Only this worker host's
    #[arg(long, add = ArgValueCandidates::new(hosts))]
    pub host: Option<HostId>,
    /// Start after this revision; 0 shows all there are [default: from now on]
    #[arg(long, value_name = "REVISION")]
    pub from: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub struct Ls {
    /// Only this decky's
    #[arg(long, add = ArgValueCandidates::new(deckies))]
    pub decky: Option<DeckyName>,
    /// Only this worker host's
    #[arg(long, add = ArgValueCandidates::new(hosts))]
    pub host: Option<HostId>,
    /// Only rows in one of these: pending, running, succeeded, failed
    #[arg(long, value_delimiter = ',', value_name = "STATUS,..", value_parser = status)]
    pub status: Vec<Status>,
    /// Only rows of this operation: deploy, mutate, teardown
    #[arg(long, value_parser = operation)]
    pub operation: Option<Operation>,
    /// Only rows that failed by one of these kinds, as `Unreachable`
    #[arg(long, value_delimiter = ',', value_name = "KIND,..", value_parser = kind)]
    pub error: Vec<FailureKind>,
    /// Only rows accepted within this time, or since this one: 12h, 2026-11-24, 2026-11-24T09:00
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Moment>,
    /// Only rows accepted before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Moment>,
    /// Only rows that have not ended
    #[arg(long)]
    pub open: bool,
    /// At most this many rows
    #[arg(long, default_value_t = 50)]
    pub limit: usize,
    /// Whole ids, times and details, however wide the terminal is
    #[arg(long)]
    pub wide: bool,
}
