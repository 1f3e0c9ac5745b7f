//! Secrets that are told by their own shape: keys, tokens, credentials in
//! URLs and in headers.

use std::ops::Range;

use super::value::{Place, Quote, value};
use super::{from, is_word, skip};

/// How tokens start, and how many letters and digits follow at least.
const PREFIXES: [(&str, usize); 32] = [
    ("ghp_", 12),
    ("gho_", 12),
    ("ghu_", 12),
    ("ghs_", 12),
    ("ghr_", 12),
    ("github_pat_", 12),
    ("glpat-", 12),
    ("gldt-", 12),
    ("xoxb-", 10),
    ("xoxp-", 10),
    ("xoxa-", 10),
    ("xoxr-", 10),
    ("xoxs-", 10),
    ("AKIA", 12),
    ("ASIA", 12),
    ("AIza", 20),
    ("ya29.", 10),
    ("sk_live_", 10),
    ("sk_test_", 10),
    ("rk_live_", 10),
    ("whsec_", 10),
    ("sk-", 20),
    ("npm_", 20),
    ("pypi-", 20),
    ("dckr_pat_", 10),
    ("hf_", 20),
    ("hvs.", 12),
    ("dop_v1_", 12),
    ("shpat_", 12),
    ("SG.", 16),
    ("AGE-SECRET-KEY-", 8),
    ("eyJ", 100),
];

/// How the hashes of passwords start, as `/etc/shadow` has them.
const HASHES: [&str; 9] = ["$1$", "$2a$", "$2b$", "$2y$", "$5$", "$6$", "$y$", "$argon2", "$apr1$"];

/// Words after `Bearer` that are no token.
const NO_TOKEN: [&str; 18] = [
    "token",
    "tokens",
    "auth",
    "authentication",
    "authorization",
    "realm",
    "scheme",
    "of",
    "and",
    "or",
    "is",
    "error",
    "required",
    "not",
    "header",
    "for",
    "was",
    "the",
];

/// A whole PEM block, or what there is of one.
pub(super) fn pem(text: &str, at: usize) -> Range<usize> {
    let end = from(text, at).find("-----END").map(|found| at + found + "-----END".len());
    let close = end.and_then(|end| from(text, end).find("-----").map(|found| end + found + "-----".len()));
    at..close.unwrap_or(text.len())
}

/// Who is named before the host of a URL whose `://` ends at `at`.
pub(super) fn userinfo(text: &str, at: usize) -> Option<Range<usize>> {
    let rest = from(text, at);
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '<' | '>' | '`' | '\\');
    let whole = rest.get(..rest.find(ends).unwrap_or(rest.len()))?;
    let host = whole.get(..whole.find(['/', '?', '#']).unwrap_or(whole.len()))?;
    let until = match host.rfind('@') {
        // A host in full; what follows is its path.
        Some(found) if is_host(host.get(found + 1..)?) => found,
        Some(found) => whole.rfind('@').unwrap_or(found),
        None if is_host(host) => return None,
        // A password may have any of `/?#` in it.
        None => whole.rfind('@').filter(|_| host.contains(':'))?,
    };
    let who = whole.get(..until)?;
    // Two URLs without a gap are two.
    let until = who.find("://").and_then(|next| who.get(..next)?.find('@')).unwrap_or(until);
    let who = whole.get(..until)?;
    (who != super::HIDDEN && who != "git" && !who.is_empty()).then_some(at..at + until)
}

/// Whether this is a host with or without a port, and not the start of
/// `user:password`.
fn is_host(text: &str) -> bool {
    let (name, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let is_name = name.contains('.') || name == "localhost" || name.starts_with('[') || port.is_empty();
    is_name && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// A token, key or hash that looks like nothing else.
pub(super) fn token(text: &str, at: usize) -> Option<Range<usize>> {
    let rest = from(text, at);
    let is_letter = |c: char| is_word(c) || matches!(c, '-' | '.' | '+' | '/' | '=');
    if let Some((prefix, least)) = PREFIXES.iter().find(|(prefix, _)| rest.starts_with(prefix)) {
        let end = skip(text, at + prefix.len(), |c| is_word(c) || matches!(c, '-' | '.' | '='));
        let token = text.get(at..end)?.trim_end_matches(['.', '-']);
        // A web token has three parts, of which a cut may leave two.
        let is_web = *prefix == "eyJ" && token.len() > 12 && token.contains('.');
        let is_whole = token.len() >= prefix.len() + least && *prefix != "sk-";
        let is_key = *prefix == "sk-" && token.len() > 20 && token.bytes().any(|byte| byte.is_ascii_digit());
        return (is_web || is_whole || is_key).then_some(at..at + token.len());
    }
    if HASHES.iter().any(|hash| rest.starts_with(hash)) {
        let end = skip(text, at, |c| is_letter(c) || matches!(c, '$' | ','));
        return (end - at > 12).then_some(at..end);
    }
    // A data source's `user:password@tcp(host)`.
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'');
    let end =
        rest.char_indices().take(200).take_while(|(_, c)| !ends(*c)).last().map_or(0, |(place, _)| place);
    let word = rest.get(..end)?;
    let host = ["@tcp(", "@unix(", "@tcp6("].iter().find_map(|host| word.find(host))?;
    let colon = word.get(..host)?.find(':')? + 1;
    (colon < host && word.get(colon..host) != Some(super::HIDDEN)).then_some(at + colon..at + host)
}

/// What follows `Bearer` or `Basic` outside of a header.
pub(super) fn scheme(text: &str, at: usize) -> Option<Range<usize>> {
    let end = skip(text, at, |c| c.is_ascii_alphabetic());
    let word = text.get(at..end)?.to_ascii_lowercase();
    if word != "bearer" && word != "basic" {
        return None;
    }
    let closed = Quote::at(text, end).map_or(end, |quote| end + quote.len());
    let start = skip(text, closed, |c| matches!(c, ' ' | '\t' | ':' | ','));
    if start == closed {
        return None;
    }
    let hidden = value(text, start, Place { within: Quote::before(text, at), ..Place::default() })?;
    let given = text.get(hidden.clone())?;
    let is_secret = match word.as_str() {
        "basic" => is_base64(given),
        _ => {
            let plain = given.to_ascii_lowercase();
            let first = plain.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
            !NO_TOKEN.contains(&first)
        }
    };
    is_secret.then_some(hidden)
}

fn is_base64(given: &str) -> bool {
    let body = given.trim_end_matches('=');
    let is_plain =
        body.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_'));
    let is_word = body.len() == given.len() && body.bytes().skip(1).all(|byte| byte.is_ascii_lowercase());
    given.len() >= 6 && is_plain && !is_word
}
