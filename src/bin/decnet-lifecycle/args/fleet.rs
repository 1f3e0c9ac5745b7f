//! Arguments of the commands about fleet files: `init`, `schema`, `deploy`.

use std::path::PathBuf;

use clap_complete::engine::ArgValueCandidates;
use decnet_lifecycle::DeckyName;
use decnet_lifecycle::engine::compose::{DockerName, NetworkDriver};
use decnet_lifecycle::fleet::Archetype;

use super::Terms;
use crate::complete::archetypes;
use crate::starter::archetype;

#[derive(Debug, clap::Args)]
pub struct Init {
    /// The file to make; - is standard output
    #[arg(default_value = "fleet.json")]
    pub file: PathBuf,
    /// The kind of machine that all of its deckies are, as database-server [default: some of each]
    #[arg(long, value_name = "NAME", value_parser = archetype, add = ArgValueCandidates::new(archetypes))]
    pub from_archetype: Option<&'static Archetype>,
    /// How many deckies
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=200))]
    pub deckies: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Schema {
    Fleet,
    Catalogue,
}

#[derive(Debug, clap::Args)]
pub struct Deploy {
    /// The fleet file, in one of DECNET's own formats: NAME.ini, else JSON; NAME.toml is that
    /// JSON in TOML, and - is standard input
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
