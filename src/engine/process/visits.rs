//! The log of who came: JSON lines, bounded, rotated.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use serde_json::json;

use super::files::{Files, open_append};
use crate::lifecycle::{DeckyName, ServiceName};

/// The log of who came.
#[derive(Debug)]
pub(super) struct Visits {
    files: Files,
    decky: DeckyName,
    service: ServiceName,
    bound: u64,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    written: u64,
}

/// What happened.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event<'a> {
    /// A client came.
    Connect,
    /// The first of what it said.
    Input(&'a [u8]),
    /// It is gone; how much it said in all, and why it is gone.
    Close { bytes: usize, reason: &'static str },
    /// Clients that were turned away since this was last said.
    Refused(u64),
}

impl Visits {
    pub(super) fn open(files: Files, decky: DeckyName, service: ServiceName, bound: u64) -> io::Result<Self> {
        let open = Mutex::new(Open::at(&files)?);
        Ok(Self { files, decky, service, bound, open })
    }

    /// Writes one line. The log is best effort: a full disk must not stop the
    /// decoy, and there is nobody to tell.
    pub(super) fn write(&self, peer: SocketAddr, event: Event<'_>) {
        let line = self.line(peer, event);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.written + line.len() as u64 > self.bound && open.written > 0 {
            let moved = fs::rename(self.files.log(), self.files.old_log()).and_then(|()| Open::at(&self.files));
            match moved {
                Ok(new) => *open = new,
                // Never beyond the bound.
                Err(_) => return,
            }
        }
        // In one write, so that lines stay whole.
        if open.file.write_all(line.as_bytes()).is_ok() {
            open.written += line.len() as u64;
        }
    }

    fn line(&self, peer: SocketAddr, event: Event<'_>) -> String {
        let ts = format!("{:.6}", jiff::Timestamp::now());
        let (decky, service) = (&self.decky, &self.service);
        let value = match event {
            Event::Connect => json!({
                "ts": ts, "decky": decky, "service": service, "peer": peer, "event": "connect",
            }),
            Event::Input(bytes) => json!({
                "ts": ts, "decky": decky, "service": service, "peer": peer, "event": "input",
                "bytes": bytes.len(), "text": bytes.escape_ascii().to_string(),
            }),
            Event::Close { bytes, reason } => json!({
                "ts": ts, "decky": decky, "service": service, "peer": peer, "event": "close",
                "bytes": bytes, "reason": reason,
            }),
            Event::Refused(count) => json!({
                "ts": ts, "decky": decky, "service": service, "peer": peer, "event": "refused",
                "count": count,
            }),
        };
        format!("{value}\n")
    }
}

impl Open {
    fn at(files: &Files) -> io::Result<Self> {
        let file = open_append(&files.log())?;
        let written = file.metadata()?.len();
        Ok(Self { file, written })
    }
}
