//! Completions: what a shell offers, and the deckies, rows and hosts that there
//! are among it. Whatever goes wrong offers nothing.

use std::path::PathBuf;
use std::time::Duration;

use clap::Command;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, Shell};
use decnet_lifecycle::agent::HostsFile;
use decnet_lifecycle::fleet::Archetype;
use decnet_lifecycle::store::{PlacementQuery, Query, Store};
use smol::future::FutureExt as _;

use crate::home::Home;
use crate::output::line;
use crate::{Complaint, Done};

/// The name that shells know this program by.
const NAME: &str = "decnet-lifecycle";
/// How long somebody who pressed a key is kept waiting.
const PATIENCE: Duration = Duration::from_secs(1);
/// The newest rows that are offered by the ends of their ids.
const ROWS: usize = 20;

/// Answers a shell that asks what may come next; else does nothing.
pub fn answer(commands: fn() -> Command) {
    CompleteEnv::with_factory(commands).complete();
}

/// Prints what has a shell ask this program.
pub fn script(shell: Shell) -> Result<Done, Complaint> {
    let shell = shell.to_string();
    let shells = Shells::builtins();
    let Some(completer) = shells.completer(&shell) else {
        return Err(Complaint(format!("there are no completions for {shell}")));
    };
    let mut script = Vec::new();
    completer.write_registration("COMPLETE", &NAME.replace('-', "_"), NAME, NAME, &mut script)?;
    line(String::from_utf8_lossy(&script).trim_end());
    Ok(Done::Well)
}

/// The deckies that are placed.
pub fn deckies() -> Vec<CompletionCandidate> {
    looked_up(async |store| {
        let placements = store.placements(&PlacementQuery::All).await.ok()?;
        Some(
            placements
                .into_iter()
                .map(|placement| CompletionCandidate::new(placement.decky.as_str()))
                .collect(),
        )
    })
}

/// How rows may be named: by their deckies, and the newest by the ends of their
/// ids.
pub fn rows() -> Vec<CompletionCandidate> {
    let mut all = deckies();
    all.extend(looked_up(async |store| {
        let page = store.query(&Query::new().limit(ROWS)).await.ok()?;
        let rows = page.records.iter().map(|row| {
            let id = row.id.to_string();
            let end = id.get(id.len().saturating_sub(8)..).unwrap_or_default().to_owned();
            let help = format!("{} {} {}", row.decky, row.operation, row.status());
            CompletionCandidate::new(end).help(Some(help.into()))
        });
        Some(rows.collect())
    }));
    all
}

/// The worker hosts.
pub fn hosts() -> Vec<CompletionCandidate> {
    let hosts = home().and_then(|home| HostsFile::new(home.hosts_path()).list().ok());
    hosts.into_iter().flatten().map(|host| CompletionCandidate::new(host.id.as_str())).collect()
}

pub fn archetypes() -> Vec<CompletionCandidate> {
    let one = |archetype: &Archetype| {
        CompletionCandidate::new(archetype.slug).help(Some(archetype.description.into()))
    };
    Archetype::ALL.iter().map(one).collect()
}

fn looked_up(
    look: impl AsyncFnOnce(&dyn Store) -> Option<Vec<CompletionCandidate>>,
) -> Vec<CompletionCandidate> {
    let found = async {
        let store = home()?.open_reader().await.ok()??;
        look(&*store).await
    };
    let late = async {
        smol::Timer::after(PATIENCE).await;
        None
    };
    smol::block_on(found.or(late)).unwrap_or_default()
}

/// What the words so far, or the environment, say of where rows are.
fn home() -> Option<Home> {
    let words: Vec<String> = std::env::args().collect();
    let said = |option: &str| {
        let place =
            words.iter().rposition(|word| word == option || word.starts_with(&format!("{option}=")))?;
        match words.get(place)?.split_once('=') {
            Some((_, value)) => Some(value.to_owned()),
            None => words.get(place + 1).cloned(),
        }
    };
    let set = |name: &str| std::env::var(name).ok();
    let data = said("--data").or_else(|| set("DECNET_LIFECYCLE_DATA")).map(PathBuf::from);
    Home::new(data, said("--store").or_else(|| set("DECNET_LIFECYCLE_STORE"))).ok()
}
