//! The programs: a compose tool, and Docker's own command line.

use std::ffi::OsString;
use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::engine::{CancelToken, LogQuery};
use crate::lifecycle::{Failure, FailureKind};

use super::command::{Call, Ran, RunError, run};
use super::settings::ComposeSettings;
use super::trouble::useful_line;

/// How long a short question to the daemon may take.
const SHORT: Duration = Duration::from_secs(60);
/// How long the daemon's events are listened to at once.
const LISTENS: Duration = Duration::from_secs(60 * 60);
/// How long a container's words are followed.
const FOLLOWS: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// What is listened for.
const EVENTS: [&str; 6] =
    ["event=start", "event=die", "event=pause", "event=unpause", "event=destroy", "event=health_status"];
/// The most that is read of an answer about all containers.
const ANSWER: usize = 64 << 20;

/// What is called, found once.
#[derive(Debug, Clone)]
pub(super) struct Tool {
    /// `docker`: containers, networks.
    pub(super) engine: PathBuf,
    /// The compose tool, with what comes before its own arguments.
    compose: (PathBuf, Vec<OsString>),
    pub(super) version: Version,
}

/// A compose tool's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32, pub(super) u32, pub(super) u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Version {
    /// The first `1.2.3` in a text.
    fn find(text: &str) -> Option<Self> {
        text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
            let mut parts = word.split('.').map(str::parse);
            let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return None };
            Some(Self(major, minor, parts.next().and_then(Result::ok).unwrap_or(0)))
        })
    }
}

impl Tool {
    /// Looks for a compose tool that answers, in the order of the settings'
    /// documentation.
    pub(super) async fn find(settings: &ComposeSettings, clock: &Arc<dyn Clock>) -> Result<Self, Failure> {
        let path = |name: &str| on_path(name);
        let candidates: Vec<(PathBuf, bool)> = match &settings.program {
            Some(named) => {
                let program =
                    if named.components().count() == 1 { on_path(&named.to_string_lossy()) } else { None };
                let program = program.unwrap_or_else(|| named.clone());
                let is_engine = program.file_name().and_then(|name| name.to_str()) == Some("docker");
                vec![(program, is_engine)]
            }
            None => [("docker", true), ("docker-compose", false)]
                .into_iter()
                .filter_map(|(name, is_engine)| Some((path(name)?, is_engine)))
                .collect(),
        };
        let mut said = None;
        for (program, is_engine) in candidates {
            let leading: Vec<OsString> = if is_engine { vec!["compose".into()] } else { Vec::new() };
            let engine = match is_engine {
                true => program.clone(),
                false => path("docker").unwrap_or_else(|| PathBuf::from("docker")),
            };
            let mut tool = Self { engine, compose: (program, leading), version: Version(0, 0, 0) };
            match tool.compose_call(&["version", "--short"], settings, None, clock).await {
                Ok(ran) if ran.status.success() => {
                    if let Some(version) = Version::find(&ran.stdout.text()) {
                        tool.version = version;
                        return Ok(tool);
                    }
                    said.get_or_insert(format!("{} says no version", tool.compose.0.display()));
                }
                Ok(ran) => {
                    said.get_or_insert(format!(
                        "{} compose: {}",
                        tool.compose.0.display(),
                        useful_line(&ran)
                    ));
                }
                Err(error) => {
                    said.get_or_insert(error.to_string());
                }
            }
        }
        let said = said.map(|said| format!(" ({said})")).unwrap_or_default();
        Err(Failure::new(
            FailureKind::Engine,
            &format!("no compose tool answers{said}; install the docker compose plugin or docker-compose"),
        ))
    }

    /// The compose tool's program, with what comes before its arguments.
    pub(super) fn describe(&self) -> String {
        let leading = self.compose.1.iter().map(|word| format!(" {}", word.to_string_lossy()));
        format!("{}{} {}", self.compose.0.display(), leading.collect::<String>(), self.version)
    }

    async fn compose_call(
        &self,
        args: &[&str],
        settings: &ComposeSettings,
        held: Option<File>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Ran, RunError> {
        let mut all = self.compose.1.clone();
        all.extend(args.iter().map(OsString::from));
        let call = Call {
            program: self.compose.0.clone(),
            args: all,
            held,
            within: SHORT,
            grace: settings.grace,
            output: ANSWER,
        };
        run(call, &**clock, std::future::pending(), &|_| {}).await
    }

    /// `up` for some services of a compose file.
    pub(super) async fn up(&self, up: Up<'_>, stop: impl Future<Output = ()>) -> Result<Ran, RunError> {
        let mut args = self.compose.1.clone();
        args.extend(["-p".into(), up.settings.project.as_str().into(), "-f".into(), up.file.into()]);
        args.extend(["up", "-d"].map(OsString::from));
        if up.build == Build::Always {
            args.push("--build".into());
        }
        args.extend(up.services.iter().map(OsString::from));
        let call = Call {
            program: self.compose.0.clone(),
            args,
            held: Some(up.held),
            within: up.settings.up_within,
            grace: up.settings.grace,
            output: 64 << 10,
        };
        run(call, &**up.clock, stop, up.on_line).await
    }

    /// Waits until the daemon tells that a container of the project has started,
    /// ended, gone or stands otherwise; or for long enough.
    pub(super) async fn event(
        &self,
        settings: &ComposeSettings,
        clock: &Arc<dyn Clock>,
    ) -> Result<(), AskError> {
        let label = format!("label=com.docker.compose.project={}", settings.project);
        let mut args =
            vec!["events", "--format", "{{.Action}}", "--filter", "type=container", "--filter", &label];
        for event in EVENTS {
            args.extend(["--filter", event]);
        }
        let args = args.into_iter().map(OsString::from).collect();
        let call = Call {
            program: self.engine.clone(),
            args,
            held: None,
            within: LISTENS,
            grace: settings.grace,
            output: 64 << 10,
        };
        let heard = CancelToken::new();
        let hear = |line: &str| {
            if !line.is_empty() {
                heard.cancel();
            }
        };
        match run(call, &**clock, heard.cancelled(), &hear).await {
            Err(RunError::Stopped | RunError::TooLong { .. }) => Ok(()),
            // It listens until it is stopped, unless it can't.
            Ok(ran) => {
                Err(AskError::Refused { line: useful_line(&ran), is_missing: false, stdout: Vec::new() })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Tells what a container has said, and what it says until it ends if it is
    /// followed.
    pub(super) async fn tell(
        &self,
        name: &str,
        query: &LogQuery,
        settings: &ComposeSettings,
        on_line: &(dyn Fn(&str) + Sync),
    ) -> Result<(), AskError> {
        let tail = query.tail.to_string();
        let mut args = vec!["logs", "--tail", &tail];
        if query.follow {
            args.push("--follow");
        }
        args.extend(["--", name]);
        let call = Call {
            program: self.engine.clone(),
            args: args.into_iter().map(OsString::from).collect(),
            held: None,
            within: if query.follow { FOLLOWS } else { SHORT },
            grace: settings.grace,
            output: 64 << 10,
        };
        let ran = run(call, &*query.clock, std::future::pending(), on_line).await?;
        match ran.status.success() {
            true => Ok(()),
            false => {
                Err(AskError::Refused { line: useful_line(&ran), is_missing: false, stdout: Vec::new() })
            }
        }
    }

    /// The last lines that a container said, on both streams.
    pub(super) async fn logs(
        &self,
        name: &str,
        settings: &ComposeSettings,
        clock: &Arc<dyn Clock>,
    ) -> Option<String> {
        let args = ["logs", "--tail", "5", "--", name].map(OsString::from).to_vec();
        let program = self.engine.clone();
        let call = Call { program, args, held: None, within: SHORT, grace: settings.grace, output: 64 << 10 };
        let ran = run(call, &**clock, std::future::pending(), &|_| {}).await.ok()?;
        // Else these are the engine's words, not the container's.
        if !ran.status.success() {
            return None;
        }
        Some(format!("{}\n{}", ran.stdout.text(), ran.stderr.text()))
    }

    /// A short question or order to the engine.
    pub(super) async fn ask(
        &self,
        args: &[&str],
        grace: Duration,
        clock: &Arc<dyn Clock>,
    ) -> Result<Vec<u8>, AskError> {
        let call = Call {
            program: self.engine.clone(),
            args: args.iter().map(OsString::from).collect(),
            held: None,
            within: SHORT,
            grace,
            output: ANSWER,
        };
        let ran = run(call, &**clock, std::future::pending(), &|_| {}).await?;
        if ran.stdout.is_cut {
            return Err(AskError::Unreadable("answer of more than 64 MiB"));
        }
        if ran.status.success() {
            return Ok(ran.stdout.bytes().to_vec());
        }
        let said = ran.stderr.text().to_lowercase();
        let is_missing = said.contains("no such") || said.contains("not found");
        Err(AskError::Refused { line: useful_line(&ran), is_missing, stdout: ran.stdout.bytes().to_vec() })
    }
}

/// Why the engine gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("{line}")]
    Refused {
        /// The useful line of what it said.
        line: String,
        /// What was asked about isn't there.
        is_missing: bool,
        /// What it said of the rest.
        stdout: Vec<u8>,
    },
    #[error("unverified: the engine's {0} can't be read")]
    Unreadable(&'static str),
    #[error(transparent)]
    Run(#[from] RunError),
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        Self::new(FailureKind::Engine, &error.to_string())
    }
}

/// What one `up` is about.
pub(super) struct Up<'u> {
    pub(super) settings: &'u ComposeSettings,
    pub(super) file: &'u Path,
    pub(super) services: &'u [String],
    pub(super) build: Build,
    pub(super) held: File,
    pub(super) clock: &'u Arc<dyn Clock>,
    pub(super) on_line: &'u (dyn Fn(&str) + Sync),
}

/// Whether images are built anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Build {
    Always,
    IfMissing,
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
}
