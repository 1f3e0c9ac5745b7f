//! Whether deckies really are up: each container runs, is healthy where it
//! can say so, and has stayed so for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::engine::Work;
use crate::lifecycle::{DeckyName, Failure, FailureKind};

use super::containers::{self, Detail, State};
use super::document::ComposeFile;
use super::failed;
use super::settings::ComposeSettings;
use super::tool::Tool;

const STEP: Duration = Duration::from_millis(250);

/// Where a decky stands at one look.
enum Standing {
    Up(BTreeMap<String, String>),
    Coming(String),
    Failed { container: String, what: String },
}

/// When a decky was first seen up, and when its containers had started.
struct Seen {
    at: Duration,
    started: BTreeMap<String, String>,
}

/// Looks until each decky is decided: up, or not and why.
pub(super) async fn wait(
    tool: &Tool,
    settings: &ComposeSettings,
    work: &Work,
    file: &ComposeFile,
    deckies: &BTreeSet<DeckyName>,
) -> BTreeMap<DeckyName, Result<(), Failure>> {
    let clock = &work.clock;
    let until = clock.monotonic().saturating_add(settings.patience);
    let mut decided = BTreeMap::new();
    let mut seen: BTreeMap<DeckyName, Seen> = BTreeMap::new();
    while decided.len() < deckies.len() {
        let now = clock.monotonic();
        let left: Vec<&DeckyName> = deckies.iter().filter(|decky| !decided.contains_key(*decky)).collect();
        let details = look(tool, settings, work, file, &left).await;
        let is_late = now >= until;
        for decky in left {
            let verdict = match &details {
                _ if work.is_cancelled(decky) => {
                    Some(Err(Failure::new(FailureKind::Cancelled, "cancelled while it came up")))
                }
                Err(failure) if is_late || failure.message().starts_with("unverified") => {
                    Some(Err(failure.clone()))
                }
                Err(_) => None,
                Ok(details) => {
                    match settled(&mut seen, decky, stand(decky, file, details), now, settings.settle) {
                        Standing::Up(_) => {
                            work.note(decky, "up");
                            Some(Ok(()))
                        }
                        Standing::Coming(what) if is_late => {
                            Some(Err(failed(&format!("{what} after {} s", settings.patience.as_secs()))))
                        }
                        Standing::Coming(_) => None,
                        Standing::Failed { container, what } => {
                            let words = containers::last_words(tool, settings, clock, &container).await;
                            let words = words.map(|words| format!(": {words}")).unwrap_or_default();
                            Some(Err(failed(&format!("{container} {what}{words}"))))
                        }
                    }
                }
            };
            if let Some(verdict) = verdict {
                decided.insert(decky.clone(), verdict);
            }
        }
        if decided.len() < deckies.len() {
            clock.sleep(STEP.min(settings.settle.max(Duration::from_millis(1)))).await;
        }
    }
    decided
}

/// Where a decky stands in the light of earlier looks: one that is up is still
/// coming until its containers have stayed as they are.
fn settled(
    seen: &mut BTreeMap<DeckyName, Seen>,
    decky: &DeckyName,
    standing: Standing,
    now: Duration,
    settle: Duration,
) -> Standing {
    let Standing::Up(started) = standing else {
        seen.remove(decky);
        return standing;
    };
    let before = seen.entry(decky.clone()).or_insert_with(|| Seen { at: now, started: started.clone() });
    if let Some((name, _)) = started.iter().find(|(name, at)| before.started.get(*name) != Some(*at)) {
        return Standing::Failed { container: name.clone(), what: "restarted by itself".to_owned() };
    }
    if now.saturating_sub(before.at) < settle {
        return Standing::Coming(format!("{decky} has not stayed up"));
    }
    Standing::Up(started)
}

async fn look(
    tool: &Tool,
    settings: &ComposeSettings,
    work: &Work,
    file: &ComposeFile,
    deckies: &[&DeckyName],
) -> Result<BTreeMap<String, Detail>, Failure> {
    let there = containers::list(tool, settings, &work.clock).await?;
    let there: BTreeSet<&str> = there.iter().map(|container| container.name.as_str()).collect();
    let wanted: Vec<&str> =
        deckies.iter().flat_map(|decky| file.containers(decky)).filter(|name| there.contains(name)).collect();
    containers::inspect(tool, settings, &work.clock, &wanted).await
}

fn stand(decky: &DeckyName, file: &ComposeFile, details: &BTreeMap<String, Detail>) -> Standing {
    let mut started = BTreeMap::new();
    let mut coming = None;
    for name in file.containers(decky) {
        let bad = |what: String| Standing::Failed { container: name.to_owned(), what };
        let Some(detail) = details.get(name) else {
            coming.get_or_insert(format!("{name} was not made"));
            continue;
        };
        let said = if detail.error.is_empty() { String::new() } else { format!(" ({})", detail.error) };
        match detail.state {
            State::Ended => return bad(format!("ended with code {}{said}", detail.exit_code)),
            State::Restarting => return bad(format!("keeps ending with code {}{said}", detail.exit_code)),
            State::Unhealthy => return bad("is unhealthy".to_owned()),
            State::Coming => {
                coming.get_or_insert(format!("{name} is not up{said}"));
            }
            State::Up => {
                started.insert(name.to_owned(), detail.started_at.clone());
            }
        }
    }
    match coming {
        Some(what) => Standing::Coming(what),
        None => Standing::Up(started),
    }
}
