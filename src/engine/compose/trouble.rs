//! What a program's complaint means: the line to show, whether trying again
//! can help, and whom it concerns.

use super::command::Ran;

/// What a failed `up` complained of.
pub(super) struct Trouble {
    pub(super) line: String,
    pub(super) heals: Heals,
    pub(super) reach: Reach,
}

/// Whether trying again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heals {
    Maybe,
    Never,
}

/// Whom the trouble concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Every decky there is.
    All,
    /// Perhaps one decky of the call.
    Some,
}

/// What no second try mends. The first five are the original's.
const INCURABLE: [&str; 27] = [
    "manifest unknown",
    "manifest for",
    "not found",
    "pull access denied",
    "repository does not exist",
    "no such service",
    "no such image",
    "is invalid because",
    "is invalid:",
    "unsupported config",
    "additional property",
    "yaml:",
    "permission denied",
    "operation not permitted",
    "could not be found",
    "address already in use",
    "port is already allocated",
    "is already in use by container",
    "no configured subnet",
    "invalid address",
    "invalid reference format",
    "unable to prepare context",
    "cannot locate specified dockerfile",
    "oci runtime create failed",
    "failed to create shim",
    "build path",
    "unknown flag",
];

/// What every decky of the machine suffers from.
const EVERYBODYS: [&str; 9] = [
    "cannot connect to the docker daemon",
    "couldn't connect to docker daemon",
    "is the docker daemon running",
    "error while fetching server api version",
    "permission denied while trying to connect",
    "unsupported config",
    "yaml:",
    "declared as external, but could not be found",
    "no space left on device",
];

/// What a line of no use says.
const NOISE: [&str; 3] = ["encountered errors while bringing up", "to solve this", "see 'docker"];

impl Trouble {
    pub(super) fn of(ran: &Ran) -> Self {
        let text = format!("{}\n{}", ran.stderr.text(), ran.stdout.text()).to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        Self {
            line: useful_line(ran),
            heals: if says(&INCURABLE) { Heals::Never } else { Heals::Maybe },
            reach: if says(&EVERYBODYS) { Reach::All } else { Reach::Some },
        }
    }
}

/// The one line of a complaint that tells most.
pub(super) fn useful_line(ran: &Ran) -> String {
    let (stderr, stdout) = (ran.stderr.text(), ran.stdout.text());
    line_of(&stderr)
        .or_else(|| line_of(&stdout))
        .unwrap_or_else(|| format!("it said nothing ({})", ran.status))
}

fn line_of(text: &str) -> Option<String> {
    let lines: Vec<String> = text.split(['\n', '\r']).map(without_colours).collect();
    let useful: Vec<&str> = lines
        .iter()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty())
        .filter(|line| !NOISE.iter().any(|noise| line.to_lowercase().contains(noise)))
        .collect();
    let has = |words: &[&str]| {
        useful.iter().find(|line| words.iter().any(|word| line.to_lowercase().contains(word)))
    };
    has(&EVERYBODYS)
        .or_else(|| has(&INCURABLE))
        .or_else(|| has(&["error", "failed", "denied", "cannot", "can't", "no such"]))
        .or_else(|| useful.last())
        .map(|line| (*line).to_owned())
}

/// A line without terminal sequences.
fn without_colours(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        text.push_str(before);
        let after = after.strip_prefix('[').unwrap_or(after);
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        rest = rest.strip_prefix(|c: char| c.is_ascii_alphabetic()).unwrap_or(rest);
    }
    text.push_str(rest);
    text
}
