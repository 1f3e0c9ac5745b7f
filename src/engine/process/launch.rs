//! A decoy that was started and isn't trusted yet.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::decoy::reach;
use super::files::{Files, Ready, new_token, open_append};
use super::services::Kind;
use crate::lifecycle::{DeckyName, ServiceName};

/// How long one attempt to talk to a decoy may take.
const CALL: Duration = Duration::from_secs(2);
/// How much of its last words a failure shows.
const LAST_WORDS: u64 = 1024;
/// What a decoy needs of the master's environment; secrets are not in it.
const ENVIRONMENT: [&str; 3] = ["PATH", "LD_LIBRARY_PATH", "LLVM_PROFILE_FILE"];

/// What is needed to start one decoy.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) program: PathBuf,
    pub(super) leading: Vec<OsString>,
    pub(super) files: Files,
    pub(super) decky: DeckyName,
    pub(super) service: ServiceName,
    pub(super) hostname: String,
    pub(super) listen: SocketAddr,
}

/// A started decoy. Dropped, it is killed and its files are cleared, unless
/// it was released.
#[derive(Debug)]
pub(super) struct Launch {
    plan: Plan,
    token: String,
    child: Option<Child>,
    said_before: u64,
    /// The engine's claim on the decky ends after the last of its launches.
    _claim: Arc<File>,
}

/// How a started decoy is doing.
#[derive(Debug)]
pub(super) enum Progress {
    /// Not listening yet.
    Starting,
    /// It listens and answers.
    Answers,
    /// It listens, but didn't answer this time.
    Mute(SocketAddr, io::Error),
    /// It ended; with its last words.
    Ended(ExitStatus, String),
}

impl Plan {
    /// Starts the decoy. Blocks.
    pub(super) fn start(self, claim: Arc<File>) -> io::Result<Launch> {
        let files = &self.files;
        let token = new_token();
        files.forget_ready()?;
        files.write_token(&token)?;
        let out = open_append(&files.out())?;
        // What it says is for the next start to read, not to keep.
        if out.metadata()?.len() > 64 * LAST_WORDS {
            out.set_len(0)?;
        }
        let said_before = out.metadata()?.len();
        let mut command = Command::new(&self.program);
        command
            .args(&self.leading)
            .args(["--service", self.service.as_str(), "--listen"])
            .arg(self.listen.to_string())
            .args(["--decky", self.decky.as_str(), "--hostname", &self.hostname, "--home"])
            .arg(files.base())
            .env_clear()
            .envs(ENVIRONMENT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            // Of its own group: an interrupt at the master's terminal is not for it.
            .process_group(0);
        match command.spawn() {
            Ok(child) => Ok(Launch { token, child: Some(child), said_before, _claim: claim, plan: self }),
            Err(err) => {
                let _ = files.clear(&token);
                Err(err)
            }
        }
    }
}

impl Launch {
    pub(super) const fn service(&self) -> &ServiceName {
        &self.plan.service
    }

    pub(super) const fn listen(&self) -> SocketAddr {
        self.plan.listen
    }

    /// Looks how it is doing, and talks to it if it listens. Blocks, within
    /// bounds.
    pub(super) fn look(&mut self) -> io::Result<Progress> {
        if let Some(child) = self.child.as_mut()
            && let Some(status) = child.try_wait()?
        {
            return Ok(Progress::Ended(status, self.last_words()));
        }
        match self.plan.files.read_ready()? {
            Some(ready) if ready.token == self.token => Ok(match answers(&ready, true) {
                Ok(()) => Progress::Answers,
                Err(err) => Progress::Mute(ready.addr, err),
            }),
            _ => Ok(Progress::Starting),
        }
    }

    /// Lets it live; the handle is for reaping it.
    pub(super) fn release(mut self) -> Option<Child> {
        self.child.take()
    }

    /// The end of what it said since it was started.
    pub(super) fn last_words(&self) -> String {
        tail(&self.plan.files, self.said_before).unwrap_or_default()
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        // Not reaped yet, so that the id is still this child's and nobody else's.
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            let _ = self.plan.files.clear(&self.token);
        }
    }
}

/// Connects, and if `greeting` is asked for, hears the first of what a
/// service that speaks first has to say.
pub(super) fn answers(ready: &Ready, greeting: bool) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&reach(ready.addr), CALL)?;
    if greeting && Kind::of(&ready.service).greets() {
        stream.set_read_timeout(Some(CALL))?;
        stream.read_exact(&mut [0])?;
    }
    Ok(())
}

fn tail(files: &Files, from: u64) -> io::Result<String> {
    let mut file = File::open(files.out())?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(LAST_WORDS))))?;
    let mut bytes = Vec::new();
    file.take(LAST_WORDS).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}
