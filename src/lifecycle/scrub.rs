//! Takes secrets out of text that is about to be kept or shown, by how they
//! are written: after a name that says so, in a URL, in a command, in a shape
//! that only secrets have.

use std::ops::Range;

mod commands;
mod names;
mod shapes;
mod value;

pub(super) const HIDDEN: &str = "[scrubbed]";

/// What was hidden may bring what stands around it together.
const PASSES: usize = 4;

/// Replaces every secret that its spelling gives away. Keeps everything else
/// as it is; scrubbing twice changes nothing.
pub(crate) fn scrub(text: &str) -> String {
    let mut shown = text.to_owned();
    for _ in 0..PASSES {
        let again = once(&shown);
        if again == shown {
            break;
        }
        shown = again;
    }
    shown
}

/// Whether this is a name that secrets have.
pub(super) fn names_secret(name: &str) -> bool {
    names::is_secret(name)
}

/// The secrets that the text's spelling gives away; of a URL's `user:password`
/// the password.
pub(super) fn secrets_of(text: &str) -> impl Iterator<Item = &str> {
    secrets(text).filter_map(|secret| {
        let is_url = text.get(..secret.start)?.ends_with("://");
        let told = text.get(secret)?;
        Some(if is_url { told.split_once(':').map_or(told, |(_, password)| password) } else { told })
    })
}

/// Every secret, told by whatever stands before it in the text as it was: what
/// is hidden itself may announce another.
fn secrets(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.char_indices().filter_map(|(at, _)| found(text, at)).filter(|secret| secret.end > secret.start)
}

fn once(text: &str) -> String {
    let mut hidden: Vec<Range<usize>> = secrets(text).collect();
    hidden.sort_unstable_by_key(|secret| (secret.start, secret.end));
    let mut kept = String::with_capacity(text.len());
    let mut at = 0;
    for secret in hidden {
        if secret.start >= at {
            kept.push_str(text.get(at..secret.start).unwrap_or_default());
            kept.push_str(HIDDEN);
        }
        at = at.max(secret.end);
    }
    kept.push_str(from(text, at));
    kept
}

/// The secret that is told by what stands at `at`.
fn found(text: &str, at: usize) -> Option<Range<usize>> {
    let rest = from(text, at);
    if rest.starts_with("-----BEGIN") {
        return Some(shapes::pem(text, at));
    }
    if let Some(url) = rest.strip_prefix("://") {
        return shapes::userinfo(text, at + (rest.len() - url.len()));
    }
    // Names, options, tokens and hashes start so, and most characters don't.
    if !rest.starts_with(|c: char| is_word(c) || matches!(c, '-' | '$')) {
        return None;
    }
    let before = text.get(..at)?.chars().next_back();
    if before.is_some_and(|c| is_word(c) || c == '-') || rest.starts_with(HIDDEN) {
        return None;
    }
    shapes::token(text, at)
        .or_else(|| names::named(text, at))
        .or_else(|| shapes::scheme(text, at))
        .or_else(|| commands::option(text, at))
        .or_else(|| commands::statement(text, at))
}

pub(super) fn from(text: &str, at: usize) -> &str {
    text.get(at..).unwrap_or_default()
}

/// What names and tokens are made of.
const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The first position from `at` on that isn't one of these.
fn skip(text: &str, at: usize, of: impl Fn(char) -> bool) -> usize {
    let rest = from(text, at);
    at + (rest.len() - rest.trim_start_matches(of).len())
}

/// The end of the line, or of what is written as one: breaks may be escaped.
fn line_end(text: &str, at: usize) -> usize {
    let rest = from(text, at);
    let breaks = ["\n", "\r", "\\n", "\\r"];
    at + breaks.iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len())
}

/// What stands before on the same line, as far as it matters.
fn line_before(text: &str, at: usize) -> &str {
    let mut start = at.saturating_sub(300);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let before = text.get(start..at).unwrap_or_default();
    before.rsplit(['\n', '\r']).next().unwrap_or_default()
}
