//! One call of the engine: a deploy, a mutate or a teardown, from the lock to
//! the report.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use crate::engine::{Report, Work};
use crate::fleet::FleetConfig;
use crate::lifecycle::{DeckyName, Failure};

use super::containers::{self, Seen};
use super::doctor::lacks;
use super::document::ComposeFile;
use super::engine::{ComposeEngine, Keep};
use super::failed;
use super::file;
use super::mend::Mender;
use super::network;
use super::project_lock::ProjectLock;
use super::staging;
use super::tool::{Build, Tool};
use super::up::Bringing;
use super::verdict::Judge;

/// What a bring-up works with, once it has the lock.
struct Parts<'p> {
    tool: &'p Tool,
    lock: &'p ProjectLock,
    composed: &'p ComposeFile,
    build: Build,
    keep: Keep,
}

impl ComposeEngine {
    async fn lock(&self, work: &Work) -> Result<ProjectLock, Failure> {
        let dir = &self.setup().dir;
        let path = dir.join(format!("{}.lock", self.setup().settings.project));
        let failed = |error: std::io::Error| {
            failed(&format!("the engine's directory {}: {error}; check its permissions", dir.display()))
        };
        file::make_dir(dir).map_err(failed)?;
        let waiting = |holder: &str| {
            for decky in work.deckies.keys() {
                super::note(work, decky, &format!("waits: the project is held by {holder}"));
            }
        };
        ProjectLock::take(&path, &*work.clock, waiting).await.map_err(failed)
    }

    /// Brings the deckies of a call up, and removes what a failed one has got
    /// new.
    pub(super) async fn bring_up(&self, work: &Work, build: Build, keep: Keep) -> Result<Report, Failure> {
        let settings = &self.setup().settings;
        let composed = self.composed(&work.fleet).map_err(|problems| failed(&problems.to_string()))?;
        for (decky, note) in composed.notes.iter().filter(|(decky, _)| work.deckies.contains_key(decky)) {
            super::note(work, decky, &note.to_string());
        }
        let mut composed = composed.file;
        let mut report = Report::new();
        let mut wanted: BTreeSet<DeckyName> = work.deckies.keys().cloned().collect();
        fail(&mut report, &mut wanted, unbuildable(&mut composed, &work.fleet));
        let unready = staging::stage(&settings.templates, &mut composed, &work.fleet);
        fail(&mut report, &mut wanted, unready.into_iter().collect());
        let absent = absent(&composed, &wanted);
        fail(&mut report, &mut wanted, absent);
        let tool = self.tool(&work.clock).await?;
        let lock = self.lock(work).await?;
        let parts = Parts { tool: &tool, lock: &lock, composed: &composed, build, keep };
        let done = self.bring(work, parts, wanted, &mut report).await;
        if done.is_err()
            && containers::see(&tool, settings, &work.clock).await.is_ok_and(|all| all.is_empty())
        {
            network::remove_if_unused(&tool, settings, &work.clock).await;
        }
        done.map(|()| report)
    }

    /// The order matters. What is there is looked at before anything is changed,
    /// so that `tidy` can tell what this call has made. What would make `up` fail
    /// is mended before it, and the file is there when it reads it. Whatever `up`
    /// said, the containers are judged. What failed deckies have got new goes
    /// last, when nobody waits for it any more. A call that is dropped midway
    /// leaves the file from before (`Before`).
    async fn bring(
        &self,
        work: &Work,
        parts: Parts<'_>,
        mut wanted: BTreeSet<DeckyName>,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let Parts { tool, lock, composed, build, keep } = parts;
        let settings = &self.setup().settings;
        let before = containers::see(tool, settings, &work.clock).await?;
        let there = network::ensure(tool, settings, work, &before).await?;
        let mender = Mender { tool, settings, work, file: composed };
        let held = mender.prepare(&wanted, &before, &there).await?;
        fail(report, &mut wanted, held);
        let path = self.compose_path();
        let mut before_file = file::write(&path, composed)?;
        let dice = || self.dice().f64();
        let bringing =
            Bringing { tool, settings, work, file: composed, path: &path, lock, build, dice: &dice };
        let refused = bringing.all(wanted.clone()).await;
        fail(report, &mut wanted, refused);
        let again = mender.orphans(&wanted).await?;
        if !again.is_empty() {
            fail(report, &mut wanted, bringing.all(again).await);
        }
        let doors = self.all_doors(&work.fleet, &wanted);
        let judge = Judge { tool, settings, work, file: composed, doors: &doors };
        for (decky, outcome) in judge.wait(&wanted, &before).await {
            match outcome {
                Ok(()) => report.succeeded(decky),
                Err(failure) => report.failed(decky, failure),
            }
        }
        self.tidy(tool, work, composed, &before, report).await?;
        if keep == Keep::Always || work.deckies.keys().all(|decky| report.outcome(decky).is_ok()) {
            before_file.keep_new();
        }
        Ok(())
    }

    /// Where each service of these deckies should answer, by its container.
    fn all_doors(
        &self,
        fleet: &FleetConfig,
        deckies: &BTreeSet<DeckyName>,
    ) -> BTreeMap<String, Vec<SocketAddr>> {
        let of_decky = fleet.deckies.iter().filter(|decky| deckies.contains(&decky.name));
        of_decky
            .flat_map(|decky| decky.services.iter().map(move |service| (decky, service)))
            .map(|(decky, service)| {
                (self.setup().catalogue.container(&decky.name, service), self.doors(service, decky.ip))
            })
            .collect()
    }

    /// Removes what failed deckies have got new and what the others no longer
    /// need; with the last container, the network.
    async fn tidy(
        &self,
        tool: &Tool,
        work: &Work,
        composed: &ComposeFile,
        before: &[Seen],
        report: &mut Report,
    ) -> Result<(), Failure> {
        let settings = &self.setup().settings;
        let known: BTreeSet<&str> = before.iter().map(|container| container.id.as_str()).collect();
        let there = containers::see(tool, settings, &work.clock).await?;
        let stray: Vec<&Seen> = there
            .iter()
            .filter(|container| work.deckies.contains_key(&container.decky))
            .filter(|container| match report.outcome(&container.decky) {
                // New, and its decky is not up.
                Err(_) => !known.contains(container.id.as_str()),
                // Of a service that the decky no longer offers.
                Ok(()) => !composed.has(&container.name),
            })
            .collect();
        match containers::remove(tool, settings, &work.clock, &stray).await {
            Ok(()) if stray.len() == there.len() => {
                network::remove_if_unused(tool, settings, &work.clock).await;
            }
            Ok(()) => {}
            Err(error) => {
                for decky in stray.iter().map(|container| &container.decky) {
                    if report.outcome(decky).is_ok() {
                        let text = format!("up, but its old containers could not be removed: {error}");
                        report.failed(decky.clone(), failed(&text));
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes down what carries the deckies' labels, whether a fleet names them
    /// or not.
    pub(super) async fn take_down(&self, work: &Work) -> Result<Report, Failure> {
        let settings = &self.setup().settings;
        let tool = self.tool(&work.clock).await?;
        let _lock = self.lock(work).await?;
        let named = |container: &&Seen| work.deckies.contains_key(&container.decky);
        let there = containers::see(&tool, settings, &work.clock).await?;
        let doomed: Vec<&Seen> = there.iter().filter(named).collect();
        for container in &doomed {
            super::note(work, &container.decky, &format!("stopping {}", container.name));
        }
        let removed = containers::remove(&tool, settings, &work.clock, &doomed).await;
        let left = containers::see(&tool, settings, &work.clock).await?;
        let mut still: BTreeMap<&DeckyName, &str> = BTreeMap::new();
        for container in left.iter().filter(named) {
            still.insert(&container.decky, &container.name);
        }
        let mut report = Report::new();
        for decky in work.deckies.keys() {
            match still.get(decky) {
                None => report.succeeded(decky.clone()),
                Some(name) => {
                    let why =
                        removed.as_ref().err().map_or("it is still there".to_owned(), ToString::to_string);
                    report.failed(decky.clone(), failed(&format!("{name} could not be removed: {why}")));
                }
            }
        }
        self.forget(&tool, work, &report, left.is_empty()).await?;
        Ok(report)
    }

    /// Takes what was torn down out of the compose file; the last one takes
    /// file and network with it.
    async fn forget(&self, tool: &Tool, work: &Work, report: &Report, is_last: bool) -> Result<(), Failure> {
        let path = self.compose_path();
        if is_last {
            file::remove(&path);
            network::remove_if_unused(tool, &self.setup().settings, &work.clock).await;
            return Ok(());
        }
        // The file itself says what else is up; the fleet may not.
        let Some(mut composed) = file::read(&path) else { return Ok(()) };
        for decky in work.deckies.keys().filter(|decky| report.outcome(decky).is_ok()) {
            composed.remove(decky);
        }
        file::write(&path, &composed)?.keep_new();
        Ok(())
    }
}

/// These fail, and are not waited for.
fn fail(report: &mut Report, wanted: &mut BTreeSet<DeckyName>, failures: BTreeMap<DeckyName, Failure>) {
    for (decky, failure) in failures {
        wanted.remove(&decky);
        report.failed(decky, failure);
    }
}

/// The deckies of a call that the compose file doesn't have.
fn absent(composed: &ComposeFile, wanted: &BTreeSet<DeckyName>) -> BTreeMap<DeckyName, Failure> {
    let is_absent = |decky: &&DeckyName| composed.containers(decky).next().is_none();
    let failure = |decky: &DeckyName| {
        let text = format!("the fleet has no decky {decky} on this machine; deploy it with its fleet file");
        (decky.clone(), failed(&text))
    };
    wanted.iter().filter(is_absent).map(failure).collect()
}

/// Takes out the deckies whose images would be built from folders that can't
/// be built: a compose tool may refuse the whole file for one of them.
fn unbuildable(file: &mut ComposeFile, fleet: &FleetConfig) -> BTreeMap<DeckyName, Failure> {
    let mut refused = BTreeMap::new();
    for decky in fleet.names() {
        let lacking =
            file.build_contexts(decky).find_map(|context| Some((context, lacks(Path::new(context))?)));
        let Some((context, what)) = lacking else { continue };
        let text = format!(
            "the template {context} {what}; install DECNET's templates, or name their folder with the setting \
             `templates`"
        );
        file.remove(decky);
        refused.insert(decky.clone(), failed(&text));
    }
    refused
}
