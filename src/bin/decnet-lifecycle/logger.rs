//! Log records on stderr: what went wrong always at a server, more with `-v`.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use clap::ValueEnum;
use decnet_lifecycle::Timestamp;
use decnet_lifecycle::clock::{Clock as _, SystemClock};
use decnet_lifecycle::lifecycle::Secrets;
use decnet_lifecycle::lifecycle::text::{json, without_secrets};
use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use serde_json::Map;

/// The most characters of a record.
const LINE: usize = 8_000;

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogForm {
    /// A line of text each
    Text,
    /// A JSON object each
    Json,
}

struct Stderr {
    form: LogForm,
    clock: SystemClock,
}

/// Gives what is secret by now.
type Known = Box<dyn Fn() -> Secrets + Send + Sync>;

static IS_JSON: AtomicBool = AtomicBool::new(false);
static KNOWN: RwLock<Option<Known>> = RwLock::new(None);

/// From now on these don't stand in the log: of a master or worker that learns
/// ever more of them.
pub fn hide(known: impl Fn() -> Secrets + Send + Sync + 'static) {
    *KNOWN.write().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(known));
}

/// The text without secrets that are known.
pub fn hidden(text: &str) -> String {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    known.as_ref().map_or_else(|| text.to_owned(), |known| known().hide(text))
}

/// The text as it may be seen.
fn shown(text: &str) -> String {
    hidden(&without_secrets(text, LINE))
}

struct Pairs(Map<String, serde_json::Value>);

impl<'kvs> VisitSource<'kvs> for Pairs {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        self.0.insert(key.to_string(), shown(&value.to_string()).into());
        Ok(())
    }
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("decnet_lifecycle")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut pairs = Pairs(Map::new());
        let _ = record.key_values().visit(&mut pairs);
        let (time, level, target) = (self.clock.now(), record.level(), record.target());
        let message = shown(&record.args().to_string());
        match self.form {
            LogForm::Text => {
                let mut said = message;
                for (key, value) in &pairs.0 {
                    let _ = write!(said, " {key}={}", value.as_str().unwrap_or_default());
                }
                eprintln!("{time} {level} {target}: {said}");
            }
            LogForm::Json => eprintln!("{}", object(pairs.0, time, level, target, message)),
        }
    }

    fn flush(&self) {}
}

fn object(
    mut fields: Map<String, serde_json::Value>,
    time: Timestamp,
    level: Level,
    target: &str,
    message: String,
) -> String {
    // What is ours comes last, so that no key passes for it.
    for (key, value) in [
        ("time", time.to_string()),
        ("level", level.to_string()),
        ("target", target.to_owned()),
        ("message", message),
    ] {
        fields.insert(key.to_owned(), value.into());
    }
    json(&fields.into())
}

/// What is said on stderr beside the log, where that is for machines.
pub fn said(text: &str) -> Option<String> {
    let level = if text.starts_with("error: ") { Level::Error } else { Level::Info };
    let said = || object(Map::new(), SystemClock::new().now(), level, "decnet_lifecycle", text.to_owned());
    IS_JSON.load(Ordering::Relaxed).then(said)
}

/// A server says what goes wrong also if it isn't asked to.
pub fn install(verbose: u8, form: LogForm, is_server: bool) {
    IS_JSON.store(form == LogForm::Json, Ordering::Relaxed);
    let level = match verbose {
        0 if is_server => LevelFilter::Warn,
        0 => return,
        1 => LevelFilter::Info,
        _ => LevelFilter::Trace,
    };
    let logger = Stderr { form, clock: SystemClock::new() };
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level);
    }
}
