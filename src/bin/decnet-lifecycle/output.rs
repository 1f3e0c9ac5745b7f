//! What is printed, for people and for machines.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use decnet_lifecycle::http::wire;
use decnet_lifecycle::lifecycle::text::{self, one_line};
use decnet_lifecycle::{DeckyName, Record, store::Entry};
use serde_json::{Value, json};

use crate::place::Place;
use crate::table::{self, Width, to_the_second};

/// The most characters of a note, and of any line.
const NOTE: usize = 1_000;
const LINE: usize = 64 << 10;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Colour {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
    colour: bool,
}

impl Output {
    pub fn new(json: bool, colour: Colour) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
        let colour = match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => io::stdout().is_terminal() && !plain,
        };
        Self { json, colour: colour && !json }
    }

    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// Prints one thing: as JSON, or as text.
    pub fn say(&self, value: impl FnOnce() -> Value, text: impl FnOnce() -> String) {
        if self.json { line(&text::json(&value())) } else { line(&words(&text())) }
    }

    /// One committed change.
    pub fn change(&self, entry: &Entry) {
        match self.json {
            true => line(&text::json(&entry.to_told())),
            false => line(&self.change_text(entry)),
        }
    }

    /// The same, with when it was.
    pub fn change_at(&self, entry: &Entry) {
        match self.json {
            true => line(&text::json(&entry.to_told())),
            false => line(&format!("{}  {}", to_the_second(entry.at), self.change_text(entry))),
        }
    }

    fn change_text(&self, entry: &Entry) -> String {
        let error =
            entry.failure.as_ref().map(|failure| format!("  {}", one_line(&failure.to_string(), LINE)));
        let note = if entry.status.is_open() && entry.cancel_requested { "  asked to stop" } else { "" };
        let status = self.status(entry.status.as_str());
        let said = format!(
            "{:<20} {:<8} {status}{}{note}",
            entry.decky,
            entry.operation,
            error.as_deref().unwrap_or_default()
        );
        said.trim_end().to_owned()
    }

    /// A few words on how a decky is coming along.
    pub fn note(&self, decky: &DeckyName, text: &str) {
        self.say(
            || json!({"event": "progress", "decky": decky, "note": text}),
            || format!("{decky:<20} . {}", one_line(text, NOTE)),
        );
    }

    /// Rows, with where each decky's decoys listen beside its newest row.
    pub fn table(&self, records: &[Record], decoys: &[Place], width: Width) {
        if self.json {
            for record in records {
                let mut value = wire::row(record);
                if let Value::Object(fields) = &mut value {
                    let ports = decoys.iter().filter(|decoy| decoy.decky == record.decky);
                    let ports = ports.map(|decoy| (decoy.service.clone(), json!(decoy.at))).collect();
                    fields.insert("decoys".into(), Value::Object(ports));
                }
                line(&text::json(&value));
            }
            return;
        }
        table::rows(records, decoys, width, |status| self.status(status)).iter().for_each(|row| line(row));
    }

    /// A word of a status, as wide as the longest of them.
    pub fn status(&self, status: &str) -> String {
        self.coloured(status, &format!("{status:<9}"))
    }

    /// A text in the colour of a state.
    pub fn coloured(&self, state: &str, text: &str) -> String {
        match state {
            "succeeded" | "up" | "good" => self.paint(text, "32"),
            "failed" | "down" | "bad" => self.paint(text, "31"),
            "running" | "unsure" | "warning" => self.paint(text, "33"),
            _ => text.to_owned(),
        }
    }

    fn paint(&self, text: &str, colour: &str) -> String {
        if self.colour { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Whether there is work that must not end because nobody reads of it.
static IS_AT_WORK: AtomicBool = AtomicBool::new(false);

/// From here on the program does more than show something.
pub fn at_work() {
    IS_AT_WORK.store(true, Ordering::Relaxed);
}

/// Our own lines, with whatever words of others in them made fit to be shown.
/// Who puts such words in a line of several makes them one line first.
fn words(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(shown).collect();
    lines.join("\n")
}

/// A line of ours: spaces at its start are its layout.
fn shown(line: &str) -> String {
    let inner = line.trim_start_matches(' ');
    format!("{}{}", line.get(..line.len() - inner.len()).unwrap_or_default(), one_line(inner, LINE))
}

/// Says something on stderr. What follows a first line is set in, so that no
/// words of others pass for a line of ours.
pub fn aside(text: &str) {
    let said = crate::logger::hidden(&words(text));
    let said = crate::logger::said(&said).unwrap_or_else(|| said.replace('\n', "\n  "));
    // There is nobody left to tell.
    let _ = writeln!(io::stderr().lock(), "{said}");
}

/// Prints a line. A reader that has gone away ends a program that only shows
/// something, as it does for other tools; what can't be written for another
/// reason, such as a full disk, is no success.
pub fn line(text: &str) {
    let Err(error) = writeln!(io::stdout().lock(), "{text}") else { return };
    if IS_AT_WORK.load(Ordering::Relaxed) {
        return;
    }
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    aside(&format!("error: writing to stdout: {error}; what came before is not all"));
    std::process::exit(2);
}
