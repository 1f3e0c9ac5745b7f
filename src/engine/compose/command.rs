//! Runs one program: argument lists only, a known environment, bounds on time
//! and output. Stopped or dropped, it takes its process group with it; what it
//! leaves running when it ends by itself goes on.

use std::ffi::OsString;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_process::{Child, Command};
use futures_lite::{AsyncRead, AsyncReadExt as _, FutureExt as _};
use futures_util::FutureExt as _;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::clock::Clock;

/// What is kept of each stream: its end.
const KEPT: usize = 64 << 10;
/// A line is cut here before it is looked at for progress.
const LINE: usize = 4 << 10;
/// Descendants may hold the pipes for this long after the program's end.
const LINGER: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(20);

/// Variables of ours that programs may see: where the daemon is, and how to
/// get there. `COMPOSE_*` would change what is done.
const PASSED_ON: [&str; 14] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "DOCKER_API_VERSION",
    "CONTAINER_HOST",
    "SSH_AUTH_SOCK",
];

/// A program to run.
pub(super) struct Call {
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    /// A file without content: the program's input. It stays open for as long
    /// as the program or a child of it lives.
    pub(super) held: Option<File>,
    pub(super) within: Duration,
    /// From being asked to end to being killed.
    pub(super) grace: Duration,
    /// The most of stdout that is kept; more is an error to the reader.
    pub(super) output: usize,
}

/// What a program left behind.
pub(super) struct Ran {
    pub(super) status: ExitStatus,
    pub(super) stdout: Tail,
    pub(super) stderr: Tail,
}

/// The end of a stream.
#[derive(Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    room: usize,
    pub(super) is_cut: bool,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error("{} can't be started: {error}; is it installed, and may you run it?", program.display())]
    Spawn { program: PathBuf, error: io::Error },
    #[error("{} did not end within {} s and was stopped{said}", program.display(), within.as_secs())]
    TooLong { program: PathBuf, within: Duration, said: String },
    #[error("stopped when asked to")]
    Stopped,
    #[error("{}: {error}", program.display())]
    Io { program: PathBuf, error: io::Error },
}

impl Tail {
    fn new(room: usize) -> Self {
        Self { bytes: Vec::new(), room, is_cut: false }
    }

    fn push(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
        // Cut seldom, so that a flood costs little.
        if self.bytes.len() > self.room * 2 {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let over = self.bytes.len().saturating_sub(self.room);
        self.is_cut |= over > 0;
        self.bytes.drain(..over);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Runs a program to its end, to its time's end, or until `stop` resolves.
/// Dropping the future kills the group at once.
pub(super) async fn run(
    call: Call,
    clock: &dyn Clock,
    stop: impl Future<Output = ()>,
    on_line: &(dyn Fn(&str) + Sync),
) -> Result<Ran, RunError> {
    let Call { program, args, held, within, grace, output } = call;
    let io_failed = |error| RunError::Io { program: program.clone(), error };
    let mut command = std::process::Command::new(&program);
    let passed = PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    command.args(args).env_clear().envs(passed).env("LC_ALL", "C").env("COMPOSE_IGNORE_ORPHANS", "1");
    command.env("COMPOSE_ANSI", "never").env("COMPOSE_PROGRESS", "plain").env("BUILDKIT_PROGRESS", "plain");
    command.process_group(0);
    let mut command = Command::from(command);
    command.stdin(held.map_or_else(Stdio::null, Stdio::from)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.kill_on_drop(true).spawn();
    let child = child.map_err(|error| RunError::Spawn { program: program.clone(), error })?;
    let mut group = Group { child, is_reaped: false };
    let (out, err) = (Mutex::new(Tail::new(output)), Mutex::new(Tail::new(KEPT)));
    let (stdout, stderr) = (group.child.stdout.take(), group.child.stderr.take());
    let mut drain =
        pin!(futures_lite::future::zip(drain(stdout, &out, on_line), drain(stderr, &err, on_line)).fuse());
    let ended = {
        let exit = async { Ended::Exit(group.child.status().await) };
        let reading = async {
            (&mut drain).await;
            std::future::pending().await
        };
        let too_long = async {
            clock.sleep(within).await;
            Ended::TooLong
        };
        let stopped = async {
            stop.await;
            Ended::Stopped
        };
        exit.or(reading).or(too_long).or(stopped).await
    };
    let ended = match ended {
        Ended::Exit(status) => {
            group.is_reaped = true;
            Ok(status.map_err(io_failed)?)
        }
        early => {
            let reading = async {
                (&mut drain).await;
                std::future::pending().await
            };
            group.end(clock, grace).or(reading).await.map_err(io_failed)?;
            Err(early)
        }
    };
    // A descendant may hold the pipes for ever.
    async { (&mut drain).map(drop).await }.or(async { clock.sleep(LINGER).await }).await;
    let (stdout, stderr) = (taken(&out), taken(&err));
    match ended {
        Ok(status) => Ok(Ran { status, stdout, stderr }),
        Err(Ended::TooLong) => {
            let last = stderr.text().lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned);
            let said = last.map(|line| format!("; it last said: {line}")).unwrap_or_default();
            Err(RunError::TooLong { program, within, said })
        }
        Err(_) => Err(RunError::Stopped),
    }
}

enum Ended {
    Exit(io::Result<ExitStatus>),
    TooLong,
    Stopped,
}

fn taken(tail: &Mutex<Tail>) -> Tail {
    let mut tail = std::mem::take(&mut *tail.lock().unwrap_or_else(PoisonError::into_inner));
    tail.cut();
    tail
}

/// Reads a stream to its end, keeps its tail, and shows each line.
async fn drain(stream: Option<impl AsyncRead + Unpin>, tail: &Mutex<Tail>, on_line: &(dyn Fn(&str) + Sync)) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; 16 << 10];
    let mut line: Vec<u8> = Vec::new();
    loop {
        let read = match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => buffer.get(..read).unwrap_or_default(),
        };
        tail.lock().unwrap_or_else(PoisonError::into_inner).push(read);
        for piece in read.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let room = LINE.saturating_sub(line.len()).min(piece.len());
            line.extend_from_slice(piece.get(..room).unwrap_or_default());
            if matches!(piece.last(), Some(b'\n' | b'\r')) {
                on_line(String::from_utf8_lossy(&line).trim());
                line.clear();
            }
        }
        // A flood must leave room for the clock and for who asks to stop.
        futures_lite::future::yield_now().await;
    }
    on_line(String::from_utf8_lossy(&line).trim());
}

/// A program and its descendants, which share its process group. As long as
/// the program is not reaped, the group's number is no stranger's.
struct Group {
    child: Child,
    is_reaped: bool,
}

impl Group {
    fn pid(&self) -> Option<Pid> {
        if self.is_reaped { None } else { i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // It fails only for a group that has ended.
            let _ = kill_process_group(pid, signal);
        }
    }

    fn has_ended(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.pid().is_none_or(|pid| !matches!(waitid(WaitId::Pid(pid), look), Ok(None)))
    }

    /// Asks the group to end, and kills what has not after the grace.
    async fn end(&mut self, clock: &dyn Clock, grace: Duration) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM);
        let until = clock.monotonic().saturating_add(grace);
        while !self.has_ended() && clock.monotonic() < until {
            clock.sleep(STEP).await;
        }
        self.signal(Signal::KILL);
        let status = self.child.status().await;
        self.is_reaped = true;
        status
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
