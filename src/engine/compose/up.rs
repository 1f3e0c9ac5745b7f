//! Brings deckies up together; one that can't come up holds no other back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::engine::Work;
use crate::lifecycle::{DeckyName, Failure, FailureKind};

use super::command::RunError;
use super::document::ComposeFile;
use super::progress::Teller;
use super::project_lock::ProjectLock;
use super::settings::ComposeSettings;
use super::tool::{Build, Tool, Up};
use super::trouble::{Heals, Reach, Trouble};

/// Each `up` is tried this often, as in the original.
const TRIES: u32 = 3;

/// What one bring-up works with.
pub(super) struct Bringing<'b> {
    pub(super) tool: &'b Tool,
    pub(super) settings: &'b ComposeSettings,
    pub(super) work: &'b Work,
    pub(super) file: &'b ComposeFile,
    pub(super) path: &'b Path,
    pub(super) lock: &'b ProjectLock,
    pub(super) build: Build,
    /// From 0 to 1, for the jitter of each wait.
    pub(super) dice: &'b (dyn Fn() -> f64 + Sync),
}

/// Why a group did not come up.
enum Refused {
    /// Somebody asked one of the group to stop.
    Stopped,
    /// All that is left fails for it.
    All(String),
    /// One of the group is at fault, or each; so many tries are left.
    Some { line: String, tries_left: u32 },
}

impl Bringing<'_> {
    /// Calls `up` for all deckies at once. If it fails for a reason that may
    /// be one decky's, it is called for halves, down to the ones at fault.
    /// What `up` said yes to is not in the answer: containers tell the rest.
    pub(super) async fn all(&self, deckies: BTreeSet<DeckyName>) -> BTreeMap<DeckyName, Failure> {
        let mut failures = BTreeMap::new();
        let mut queue = vec![(deckies, TRIES)];
        while let Some((mut group, tries)) = queue.pop() {
            group.retain(|decky| {
                let cancelled = self.work.is_cancelled(decky);
                if cancelled {
                    let why = Failure::new(FailureKind::Cancelled, "cancelled while it came up");
                    failures.insert(decky.clone(), why);
                }
                !cancelled
            });
            if group.is_empty() {
                continue;
            }
            match self.group(&group, tries).await {
                Ok(()) => {}
                Err(Refused::Stopped) => queue.push((group, tries)),
                Err(Refused::All(line)) => {
                    for decky in group.into_iter().chain(queue.drain(..).flat_map(|(group, _)| group)) {
                        failures.insert(decky, Failure::new(FailureKind::Engine, &line));
                    }
                }
                Err(Refused::Some { line, .. }) if group.len() == 1 => {
                    failures.extend(group.into_iter().map(|d| (d, Failure::new(FailureKind::Engine, &line))));
                }
                Err(Refused::Some { tries_left, .. }) => {
                    // Each part is tried at least once.
                    let tries = tries_left.max(1);
                    let middle = group.iter().nth(group.len() / 2).cloned();
                    if let Some(middle) = middle {
                        let rest = group.split_off(&middle);
                        queue.extend([(rest, tries), (group, tries)]);
                    }
                }
            }
        }
        failures
    }

    async fn group(&self, group: &BTreeSet<DeckyName>, tries: u32) -> Result<(), Refused> {
        let mut services: Vec<String> =
            group.iter().flat_map(|decky| self.file.keys(decky)).map(str::to_owned).collect();
        if services.len() == self.file.len() {
            // All there are: the tool is quicker when they aren't named.
            services.clear();
        }
        let teller = Teller::new(self.work, self.file);
        let mut wait = self.settings.backoff;
        for attempt in 1..=tries {
            let held =
                self.lock.held().map_err(|error| Refused::All(format!("the project's lock: {error}")))?;
            let up = Up {
                settings: self.settings,
                file: self.path,
                services: &services,
                build: self.build,
                held,
                clock: &self.work.clock,
                on_line: &|line| teller.hear(line),
            };
            let trouble = match self.tool.up(up, self.one_is_cancelled(group)).await {
                Ok(ran) if ran.status.success() => return Ok(()),
                Ok(ran) => Trouble::of(&ran),
                Err(RunError::Stopped) => return Err(Refused::Stopped),
                Err(error) => return Err(Refused::All(error.to_string())),
            };
            let is_last = attempt == tries || trouble.heals == Heals::Never;
            match trouble.reach {
                _ if !is_last => {}
                Reach::All => return Err(Refused::All(trouble.line)),
                Reach::Some => {
                    return Err(Refused::Some { line: trouble.line, tries_left: tries - attempt });
                }
            }
            for decky in group {
                self.work.note(decky, &format!("trying again in {} s: {}", wait.as_secs(), trouble.line));
            }
            let pause = wait.mul_f64(0.8 + 0.4 * (self.dice)());
            let cancelled = async {
                self.one_is_cancelled(group).await;
                Err(Refused::Stopped)
            };
            let rested = async {
                self.work.clock.sleep(pause).await;
                Ok(())
            };
            futures_lite::future::or(rested, cancelled).await?;
            wait = wait.saturating_mul(2);
        }
        Ok(())
    }

    async fn one_is_cancelled(&self, group: &BTreeSet<DeckyName>) {
        let mut tokens: FuturesUnordered<_> = group.iter().map(|decky| self.work.cancelled(decky)).collect();
        tokens.next().await;
    }
}
