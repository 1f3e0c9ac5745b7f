//! What a program's complaint means: the reason to show, whether trying again
//! can help, and whom it concerns.

use std::collections::BTreeSet;

use crate::lifecycle::DeckyName;

use super::command::Ran;
use super::document::ComposeFile;

/// What a failed `up` complained of.
pub(super) struct Trouble {
    /// Container, image and reason, as far as they are known.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reach {
    /// Every decky there is.
    All,
    /// Every decky of the file, because of these; of somebody in it, if there
    /// are none.
    File(BTreeSet<DeckyName>),
    /// Perhaps one decky of the call.
    Some,
}

/// What no second try mends. The first five are the original's.
const INCURABLE: [&str; 38] = [
    "manifest unknown",
    "manifest for",
    "not found",
    "pull access denied",
    "repository does not exist",
    "no such service",
    "no such image",
    "is invalid:",
    "permission denied",
    "operation not permitted",
    "could not be found",
    "address already in use",
    "port is already allocated",
    "is already in use by container",
    "no configured subnet",
    "invalid address",
    "invalid ipv",
    "invalid reference format",
    "invalid container name",
    "invalid capadd",
    "unable to prepare context",
    "cannot locate specified dockerfile",
    "dockerfile parse error",
    "failed to read dockerfile",
    "copy failed",
    "nullresource",
    "oci runtime create failed",
    "failed to create shim",
    "mount source path",
    "duplicate mount point",
    "paused container",
    "build path",
    "unknown flag",
    "no such option",
    "exec format error",
    "is not a docker command",
    "unknown command",
    "unknown shorthand flag",
];

/// What every decky of the machine suffers from.
const EVERYBODYS: [&str; 9] = [
    "cannot connect to the docker daemon",
    "couldn't connect to docker daemon",
    "is the docker daemon running",
    "error while fetching server api version",
    "permission denied while trying to connect",
    "declared as external, but could not be found",
    "no space left on device",
    "unknown flag",
    "no such option",
];

/// What makes a compose tool refuse the file as a whole.
const FILES: [&str; 13] = [
    "is invalid because",
    "invalid compose project",
    "unsupported config",
    "additional property",
    "validating /",
    "decoding failed due to",
    "yaml:",
    "yaml.parser",
    "yaml.scanner",
    "uses the network stack of service",
    "depends on undefined service",
    "invalid healthcheck",
    "healthcheck.test must",
];

/// What a line of no use says.
const NOISE: [&str; 9] = [
    "encountered errors while bringing up",
    "to solve this",
    "see 'docker",
    "run 'docker",
    "failed to build : build failed",
    "deprecated: the legacy builder",
    "install the buildx component",
    "docs.docker.com/go/buildx",
    "traceback (most recent call last)",
];

/// What stands before a reason and says nothing more.
const PREFIXES: [&str; 6] = [
    "ERROR: ",
    "Error response from daemon: ",
    "failed to create shim task: ",
    "OCI runtime create failed: ",
    "runc create failed: ",
    "unable to start container process: ",
];

impl Trouble {
    pub(super) fn of(ran: &Ran, file: &ComposeFile) -> Self {
        let lines = lines(ran);
        let text = lines.join("\n").to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        let reach = if says(&EVERYBODYS) {
            Reach::All
        } else if says(&FILES) {
            Reach::File(lines.iter().flat_map(|line| blamed(line, file)).collect())
        } else {
            Reach::Some
        };
        let heals =
            if says(&INCURABLE) || matches!(reach, Reach::File(_)) { Heals::Never } else { Heals::Maybe };
        let line = match &reach {
            Reach::Some => explained(&lines, &useful_line(ran), file),
            Reach::All => {
                of_the_daemon(&text).map_or_else(|| reason(&useful_line(ran)).to_owned(), str::to_owned)
            }
            Reach::File(_) => reason(&useful_line(ran)).to_owned(),
        };
        Self { line, heals, reach }
    }
}

/// What a library's trace says of a daemon that can't be reached.
fn of_the_daemon(text: &str) -> Option<&'static str> {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["permissionerror", "permission denied while trying to connect"]) {
        return Some(
            "permission denied by the Docker daemon's socket; join the group that owns it (usually docker), or run this \
             as root",
        );
    }
    says(&["error while fetching server api version"])
        .then_some("the Docker daemon does not answer; start it (systemctl start docker), or set DOCKER_HOST")
}

/// The one line of a complaint that tells most.
pub(super) fn useful_line(ran: &Ran) -> String {
    let (stderr, stdout) = (ran.stderr.text(), ran.stdout.text());
    line_of(&stderr)
        .or_else(|| line_of(&stdout))
        .unwrap_or_else(|| format!("it said nothing ({})", ran.status))
}

fn lines(ran: &Ran) -> Vec<String> {
    let text = format!("{}\n{}", ran.stderr.text(), ran.stdout.text());
    text.split(['\n', '\r']).map(|line| without_colours(line).trim().to_owned()).collect()
}

fn line_of(text: &str) -> Option<String> {
    let lines: Vec<String> = text.split(['\n', '\r']).map(without_colours).collect();
    let useful: Vec<&str> = lines
        .iter()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty() && !line.ends_with("... error"))
        .filter(|line| !NOISE.iter().any(|noise| line.to_lowercase().contains(noise)))
        .collect();
    let has = |words: &[&str]| {
        useful.iter().position(|line| words.iter().any(|word| line.to_lowercase().contains(word)))
    };
    // A program's own trace: what it died of stands last.
    let is_trace = useful.iter().any(|line| line.starts_with("File \""));
    let place = has(&EVERYBODYS)
        .or_else(|| if is_trace { useful.len().checked_sub(1) } else { None })
        .or_else(|| has(&FILES))
        .or_else(|| has(&["returned a non-zero code"]))
        .or_else(|| has(&INCURABLE))
        .or_else(|| has(&["error", "failed", "denied", "cannot", "can't", "no such"]))
        .or_else(|| useful.len().checked_sub(1))?;
    // A heading is followed by what it announces.
    let announced = useful.get(place).filter(|line| line.ends_with(':')).and_then(|_| useful.get(place + 1));
    announced.or_else(|| useful.get(place)).map(|line| (*line).to_owned())
}

/// The deckies that a line of a refusal of the whole file names.
fn blamed(line: &str, file: &ComposeFile) -> Vec<DeckyName> {
    let markers = ["services.", "services[", "ervice \"", "ervice '", "ervices \"", "ervices '"];
    let after = |marker: &&str| line.split(*marker).skip(1).map(name_of).collect::<Vec<_>>();
    markers.iter().flat_map(after).filter_map(|name| file.decky_of(&name)).collect()
}

/// The name that a text starts with.
fn name_of(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect()
}

/// A reason with the container that it is about, and its image.
fn explained(lines: &[String], line: &str, file: &ComposeFile) -> String {
    let mut why = reason(line).to_owned();
    let named = spoken_of(line).filter(|name| file.has(name));
    let of_image = || file.with_image_in(&why).map(str::to_owned);
    let speaker = named.or_else(|| busy(lines, file)).or_else(of_image);
    if let Some(said) = build_words(lines, &why) {
        why = format!("{why}; it said: {said}");
    }
    let Some(speaker) = speaker else { return why };
    if let Some(plain) = in_plain_words(&why, &speaker, file) {
        return plain;
    }
    match file.image(&speaker) {
        Some(image)
            if is_about_image(&why) && !why.contains(image) && !lines.iter().any(|line| builds(line)) =>
        {
            format!("{speaker} (image {image}): {why}")
        }
        _ => format!("{speaker}: {why}"),
    }
}

/// A reason without what stands before it.
fn reason(line: &str) -> &str {
    let line = line.trim();
    let daemons = line.rsplit_once("Error response from daemon: ").map(|(_, why)| why);
    // `one Error Get ..`, as pulls fail.
    let pulls =
        line.split_once(" Error ").filter(|(name, _)| name_of(name).len() == name.len()).map(|(_, why)| why);
    let mut why = daemons.or(pulls).unwrap_or(line);
    loop {
        let mut shorter = why;
        for prefix in PREFIXES {
            shorter = shorter.strip_prefix(prefix).unwrap_or(shorter).trim_start();
        }
        for marker in ["for ", "Cannot start service ", "Cannot create container for service "] {
            let Some(rest) = shorter.strip_prefix(marker) else { continue };
            let rest = rest.get(name_of(rest).len()..).unwrap_or_default();
            if let Some(rest) = rest.strip_prefix("  ").or_else(|| rest.strip_prefix(": ")) {
                shorter = rest;
            }
        }
        let solved = shorter.strip_prefix("failed to solve: ").unwrap_or(shorter);
        let solved = solved.strip_prefix("rpc error: code = Unknown desc = ").unwrap_or(solved);
        let solved = solved.strip_prefix("failed to solve with frontend dockerfile.v0: ").unwrap_or(solved);
        let solved = solved.strip_prefix("failed to create LLB definition: ").unwrap_or(solved);
        if solved == why {
            break;
        }
        why = solved;
    }
    why.strip_suffix(": unknown").or_else(|| why.strip_suffix(": invalid compose project")).unwrap_or(why)
}

/// Complaints that name a container or a network by its id only.
fn in_plain_words(why: &str, speaker: &str, file: &ComposeFile) -> Option<String> {
    let lower = why.to_lowercase();
    if lower.contains("is already in use by container") {
        return Some(format!(
            "the name {speaker} is taken by another container; remove it (docker rm -f {speaker}), or rename the decky"
        ));
    }
    if lower.contains("cannot join network of a non running container") {
        let base = file.decky_of(speaker)?;
        return Some(format!("{speaker}: its base {base} does not run"));
    }
    if lower.starts_with("network ") && lower.ends_with(" not found") {
        return Some(format!("{speaker}: the network that it was made for is gone; deploy again"));
    }
    if lower == "address already in use" {
        let address = file.address(speaker)?;
        return Some(format!("{speaker}: its address {address} is in use by another container"));
    }
    None
}

fn is_about_image(why: &str) -> bool {
    let words =
        ["image", "manifest", "pull", "repository", "registry", "lookup", "get \"http", "head \"http"];
    words.iter().any(|word| why.to_lowercase().contains(word))
}

/// The container that a line is about, by the shapes that tools have:
/// `Container one  Starting`, `one Pulling`, `Creating one ... done`,
/// `ERROR: for one  Cannot ..`, `Service 'one' ..`, `#5 [one 2/2] RUN ..`.
pub(super) fn spoken_of(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().take(4).collect();
    let name = match *words.as_slice() {
        ["Container", name, ..] | ["ERROR:", "for", name, ..] | [">", name, ..] => name,
        [name, "Pulling" | "Pulled" | "Error" | "Warning" | "Interrupted", ..] => name,
        [verb, name, ..] if ACTS.contains(&verb.to_lowercase().as_str()) => name,
        [step, name, ..] if step.starts_with('#') && name.starts_with('[') => name,
        ["Service", name, ..] => name,
        _ => return None,
    };
    let name = name_of(name.trim_start_matches(['[', '\'', '"']));
    (!name.is_empty()).then_some(name)
}

const ACTS: [&str; 7] =
    ["pulling", "creating", "starting", "recreating", "building", "restarting", "stopping"];

fn builds(line: &str) -> bool {
    line.starts_with("Building ") || line.starts_with("#1 [")
}

/// The container that the tool was busy with when it gave up.
fn busy(lines: &[String], file: &ComposeFile) -> Option<String> {
    let known = |line: &String| spoken_of(line).filter(|name| file.has(name));
    // The step of a build that failed is told at the end, between rules.
    let failed = lines.iter().filter(|line| line.starts_with("> [")).find_map(known);
    let is_over =
        |line: &String| ["Created", "Started", "Running", "done", "Pulled"].iter().any(|w| line.ends_with(w));
    failed.or_else(|| lines.iter().filter(|line| !is_over(line)).filter_map(known).next_back())
}

/// What a failed command of a build said last.
fn build_words(lines: &[String], why: &str) -> Option<String> {
    if !why.contains("executor failed running")
        && !why.contains("non-zero code")
        && !why.contains("exit code:")
    {
        return None;
    }
    let from = lines.iter().position(|line| line.starts_with("> ["));
    let said = match from {
        Some(from) => lines.iter().skip(from + 1).take_while(|line| !line.starts_with("---")).last(),
        None => {
            let step = lines.iter().rposition(|line| line.starts_with("---> Running in"))?;
            lines.iter().skip(step + 1).rfind(|line| !line.is_empty())
        }
    }?;
    // Buildkit counts the seconds before each line.
    let said = match said.split_once(' ') {
        Some((seconds, rest)) if seconds.parse::<f64>().is_ok() => rest,
        _ => said,
    };
    (!said.is_empty()).then(|| said.to_owned())
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
