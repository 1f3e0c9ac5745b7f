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
    /// The tool refuses the file because of these deckies; if it names none,
    /// of somebody in the file.
    File { line: String, because_of: BTreeSet<DeckyName> },
    /// One of the group is at fault, or each; so many tries are left.
    Some { line: String, tries_left: u32 },
}

/// Deckies to bring up together.
struct Group {
    deckies: BTreeSet<DeckyName>,
    tries: u32,
    /// Whether the file holds these deckies only.
    is_alone: bool,
}

impl Bringing<'_> {
    /// Calls `up` for all deckies at once. If it fails for a reason that may
    /// be one decky's, it is called for halves, down to the ones at fault; who
    /// makes the tool refuse the whole file is taken out of it.
    /// What `up` said yes to is not in the answer: containers tell the rest.
    pub(super) async fn all(&self, deckies: BTreeSet<DeckyName>) -> BTreeMap<DeckyName, Failure> {
        let failed = |line: &str| Failure::new(FailureKind::Engine, line);
        let mut failures = BTreeMap::new();
        let mut file = self.file.clone();
        let mut written = None;
        let mut queue = vec![Group { deckies, tries: TRIES, is_alone: false }];
        while let Some(mut group) = queue.pop() {
            group.deckies.retain(|decky| {
                let cancelled = self.work.is_cancelled(decky);
                if cancelled {
                    let why = Failure::new(FailureKind::Cancelled, "cancelled while it came up");
                    failures.insert(decky.clone(), why);
                }
                !cancelled && !failures.contains_key(decky)
            });
            if group.deckies.is_empty() {
                continue;
            }
            let shown = if group.is_alone {
                let mut alone = file.clone();
                alone.cut_to(&group.deckies);
                alone
            } else {
                file.clone()
            };
            if let Err(failure) = self.write(&shown, &mut written) {
                failures.extend(group.deckies.into_iter().map(|decky| (decky, failure.clone())));
                continue;
            }
            match self.group(&group, &shown).await {
                Ok(()) => {}
                Err(Refused::Stopped) => queue.push(group),
                Err(Refused::All(line)) => {
                    let others = queue.drain(..).flat_map(|group| group.deckies);
                    failures.extend(group.deckies.into_iter().chain(others).map(|d| (d, failed(&line))));
                }
                Err(Refused::File { line, because_of }) if !because_of.is_empty() => {
                    for decky in because_of {
                        file.remove(&decky);
                        // Others of the fleet are only left out.
                        if self.work.deckies.contains_key(&decky) {
                            failures.insert(decky, failed(&line));
                        }
                    }
                    queue.push(group);
                }
                Err(Refused::File { .. }) if !group.is_alone => queue.push(Group { is_alone: true, ..group }),
                Err(Refused::File { line, .. } | Refused::Some { line, .. }) if group.deckies.len() == 1 => {
                    if group.is_alone {
                        group.deckies.iter().for_each(|decky| file.remove(decky));
                    }
                    failures.extend(group.deckies.into_iter().map(|decky| (decky, failed(&line))));
                }
                Err(Refused::File { .. }) => queue.extend(group.halves(TRIES)),
                // Each part is tried at least once.
                Err(Refused::Some { tries_left, .. }) => queue.extend(group.halves(tries_left.max(1))),
            }
        }
        if let Err(failure) = self.write(&file, &mut written) {
            log::warn!(target: "decnet_lifecycle::engine", error:% = failure; "the compose file is not whole");
        }
        failures
    }

    /// Writes the file, unless it says this already.
    fn write(&self, file: &ComposeFile, written: &mut Option<ComposeFile>) -> Result<(), Failure> {
        if written.as_ref().unwrap_or(self.file) == file {
            return Ok(());
        }
        super::file::write(self.path, file)?.keep_new();
        *written = Some(file.clone());
        Ok(())
    }

    async fn group(&self, group: &Group, file: &ComposeFile) -> Result<(), Refused> {
        let Group { deckies: group, tries, .. } = group;
        let tries = *tries;
        let mut services: Vec<String> =
            group.iter().flat_map(|decky| file.keys(decky)).map(str::to_owned).collect();
        if services.len() == file.len() {
            // All there are: the tool is quicker when they aren't named.
            services.clear();
        }
        let teller = Teller::new(self.work, file);
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
                Ok(ran) => Trouble::of(&ran, file),
                Err(RunError::Stopped) => return Err(Refused::Stopped),
                Err(error) => return Err(Refused::All(error.to_string())),
            };
            let is_last = attempt == tries || trouble.heals == Heals::Never;
            match trouble.reach {
                _ if !is_last => {}
                Reach::All => return Err(Refused::All(trouble.line)),
                Reach::File(because_of) => {
                    return Err(Refused::File { line: trouble.line, because_of });
                }
                Reach::Some => {
                    return Err(Refused::Some { line: trouble.line, tries_left: tries - attempt });
                }
            }
            for decky in group {
                super::note(
                    self.work,
                    decky,
                    &format!("trying again in {} s: {}", wait.as_secs(), trouble.line),
                );
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

impl Group {
    fn halves(mut self, tries: u32) -> Vec<Self> {
        let middle = self.deckies.iter().nth(self.deckies.len() / 2).cloned();
        let rest = middle.map(|middle| self.deckies.split_off(&middle)).unwrap_or_default();
        let half = |deckies| Self { deckies, tries, is_alone: self.is_alone };
        [rest, self.deckies].map(half).into_iter().collect()
    }
}
