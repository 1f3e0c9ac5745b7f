//! Names that say that a secret follows, and how it follows.

use std::ops::Range;

use super::value::{Place, Quote, value};
use super::{from, is_word, line_end, skip};

/// What a secret's name ends in, in lowercase with `_` for every joint.
const SECRET: [&str; 44] = [
    "password",
    "passwords",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "access_key",
    "accesskey",
    "secret_key",
    "secretkey",
    "private_key",
    "privatekey",
    "auth_key",
    "authkey",
    "encryption_key",
    "encryptionkey",
    "signing_key",
    "signingkey",
    "account_key",
    "accountkey",
    "shared_key",
    "sharedkey",
    "master_key",
    "masterkey",
    "session_key",
    "sessionkey",
    "license_key",
    "licensekey",
    "credential",
    "credentials",
    "requirepass",
    "masterauth",
    "connectionstring",
    "connection_string",
    "session_id",
    "sessionid",
    "sessid",
    "accesssignature",
    "bearer",
    "dockerconfigjson",
];

/// Names that are a secret's only as a word of their own.
const SECRET_WORDS: [&str; 6] = ["pass", "pw", "psk", "sig", "auth", "authtoken"];

/// What may stand after a secret's name and still be part of it.
const TAILS: [&str; 12] = [
    "value",
    "text",
    "string",
    "str",
    "plain",
    "plaintext",
    "base64",
    "b64",
    "hash",
    "hashed",
    "data",
    "encrypted",
];

/// Values that are none, however they follow.
const NOTHING: [&str; 13] = [
    "true",
    "false",
    "yes",
    "no",
    "null",
    "none",
    "nil",
    "undefined",
    "unset",
    "empty",
    "some",
    "string",
    "-",
];

/// Words that follow a secret's name in a sentence, and are no secret.
const PROSE: &str = " a an and are as at authentication authenticator auth be been before but by can cannot can't \
 called changed command configured contains correct could credentials created default denied deprecated did disabled \
 do does doesn't enabled env environment error errors exceeded expected expired expires expiry failed failure field \
 file files for found from generation given handshake has have helper ignored in incorrect insecure into invalid is \
 isn't it its length limit lookup longer malformed manager may method mismatch missing must name needs never no not \
 of on only optional option or parameter parse policy prompt protected provided rate refused rejected required \
 requires reset rotation scope server service set setting should specified store supplied than that the then they \
 this to too type unauthorized unexpected unknown unsupported until update url used user using validation value \
 variable variables was were when which while will with without wrong you your ";

/// How much a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// What follows is secret.
    Secret,
    /// It may be; where words follow in a sentence, they aren't.
    Perhaps,
    /// The whole rest of the line is secret.
    Line,
}

/// The secret that the name at `at` announces.
pub(super) fn named(text: &str, at: usize) -> Option<Range<usize>> {
    let end = skip(text, at, is_name);
    let name = text.get(at..end).filter(|name| !name.is_empty())?;
    let said = said(name).or_else(|| cut_name(text, at, name))?;
    let (after, is_closed) = past_closers(text, end);
    let opening = if is_closed { None } else { Quote::before(text, at) };
    let before = text.get(..at)?.chars().next_back();
    let place =
        Place { is_query: matches!(before, Some('?' | '&')), within: opening, is_line: said == Said::Line };
    if before == Some('<') && from(text, end).starts_with('>') {
        let start = end + 1;
        let stop = from(text, start).find('<').map_or(line_end(text, start), |found| start + found);
        return value(text, start, Place::default()).map(|_| start..stop);
    }
    if let Some(follows) = separated(text, end, after) {
        let hidden = value(text, follows.value, place)?;
        let given = text.get(hidden.clone())?;
        let is_bare = hidden.start == follows.value;
        let is_nothing = NOTHING.contains(&given.to_ascii_lowercase().as_str());
        let is_version = follows.is_double && is_version(given);
        let in_sentence = is_bare && follows.is_prose && is_prose(given);
        let is_doubtful = said == Said::Perhaps && is_bare && given.bytes().all(|b| b.is_ascii_digit());
        let is_place = is_bare && names_place(name, given);
        let parsing = follows.is_prose && complains_of_syntax(text, at);
        let announces = is_bare && announces(text, &hidden);
        let is_none =
            announces || is_nothing || is_version || in_sentence || is_doubtful || is_place || parsing;
        return (!is_none).then_some(hidden);
    }
    if let Some(start) = paired(text, at, after, is_closed) {
        return value(text, start, Place::default());
    }
    if matches!(before, Some('=' | '/')) {
        return None;
    }
    spaced(text, at, name, end)
}

pub(super) fn is_secret(name: &str) -> bool {
    said(name).is_some()
}

const fn is_name(c: char) -> bool {
    is_word(c) || matches!(c, '-' | '.')
}

fn said(name: &str) -> Option<Said> {
    let tail = name.len().saturating_sub(96);
    let name = name.get(tail..).unwrap_or_default();
    let plain = name.to_ascii_lowercase().replace(['-', '.'], "_");
    if plain.ends_with("authorization") || plain == "cookie" || plain.ends_with("set_cookie") {
        return Some(Said::Line);
    }
    let mut plain = plain.as_str();
    for _ in 0..3 {
        plain = plain.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
        if SECRET.iter().any(|word| plain.ends_with(word)) {
            return Some(if plain == "token" || plain == "secret" { Said::Perhaps } else { Said::Secret });
        }
        let is_long_key = plain.ends_with("key") && (plain.contains("secret") || plain.contains("private"));
        let is_signed = (plain.ends_with("signature") || plain.ends_with("credential"))
            && (plain.contains("amz") || plain.contains("goog") || plain.contains("shared"));
        if is_long_key || is_signed {
            return Some(Said::Secret);
        }
        let last = plain.rsplit('_').next().unwrap_or_default();
        if SECRET_WORDS.contains(&last) {
            let is_alone = plain.trim_start_matches('_') == last && last != "pw" && last != "psk";
            return Some(if is_alone { Said::Perhaps } else { Said::Secret });
        }
        match TAILS.iter().find_map(|tail| plain.strip_suffix(tail)) {
            Some(shorter) => plain = shorter,
            None => break,
        }
    }
    let camel = ["Pass", "Pw", "Psk", "Auth"].iter().find_map(|word| name.strip_suffix(word));
    camel.filter(|rest| rest.ends_with(|c: char| c.is_ascii_lowercase())).map(|_| Said::Secret)
}

/// A name of which a tail was cut off at the very start of the text.
fn cut_name(text: &str, at: usize, name: &str) -> Option<Said> {
    let plain = name.to_ascii_lowercase().replace('-', "_");
    let ends = SECRET.iter().any(|word| word.len() > plain.len() && word.ends_with(&plain));
    let is_told = from(text, at + name.len()).starts_with(['=', '"', '\'']);
    (at == 0 && plain.len() >= 4 && plain != "word" && ends && is_told).then_some(Said::Secret)
}

/// Past quotes and brackets that close around a name; whether a quote did.
fn past_closers(text: &str, end: usize) -> (usize, bool) {
    let mut at = end;
    let mut is_closed = false;
    while at - end < 12 {
        if let Some(quote) = Quote::at(text, at) {
            at += quote.len();
            is_closed = true;
        } else if from(text, at).starts_with([']', ')', '}']) {
            at += 1;
        } else {
            break;
        }
    }
    (at, is_closed)
}

struct Follows {
    value: usize,
    /// By a word, or by a colon as sentences have it.
    is_prose: bool,
    is_double: bool,
}

/// Where the value is that follows by `=`, `:`, `is` and the like.
fn separated(text: &str, end: usize, after: usize) -> Option<Follows> {
    let is_space = |c| matches!(c, ' ' | '\t');
    if from(text, end).starts_with('(') && Quote::at(text, end + 1).is_some() {
        return Some(Follows { value: end + 1, is_prose: false, is_double: false });
    }
    let place = skip(text, after, is_space);
    let rest = from(text, place);
    if rest.starts_with("::") || rest.starts_with("://") {
        return None;
    }
    let signs = [":=", "=>", "==", "->", "=", ":", "%3D", "%3d", "%3A", "%3a"];
    if let Some(sign) = signs.iter().find(|sign| rest.starts_with(**sign)) {
        let mut start = skip(text, place + sign.len(), is_space);
        if from(text, start).starts_with(['|', '>']) && *sign == ":" {
            let line = line_end(text, start);
            start = skip(text, line, char::is_whitespace);
        }
        let is_prose = *sign == ":" && start > place + 1 && after == end;
        return Some(Follows { value: start, is_prose, is_double: *sign == "==" });
    }
    let words =
        ["is", "was", "has value", "has the value", "with value", "value", "set to", "equals", "contains"];
    words.iter().find_map(|words| {
        let next =
            rest.get(..words.len()).filter(|next| next.eq_ignore_ascii_case(words) && place > after)?;
        let start = skip(text, place + next.len(), |c| is_space(c) || matches!(c, '=' | ':'));
        let is_word =
            start > place + next.len() && (*words != "contains" || Quote::at(text, start).is_some());
        is_word.then_some(Follows { value: start, is_prose: true, is_double: false })
    })
}

/// Where the value is of `{"name": "PASSWORD", "value": ..}`, of `("password",
/// ..)`, and of `"--password", ".."`.
fn paired(text: &str, at: usize, after: usize, is_closed: bool) -> Option<usize> {
    if !is_closed {
        return None;
    }
    let next = skip(text, after, |c| c.is_whitespace() || c == ',');
    let inner = Quote::at(text, next).map_or(next, |quote| next + quote.len());
    let word = from(text, inner).get(.."value".len()).filter(|word| word.eq_ignore_ascii_case("value"));
    if let Some(word) = word {
        let (closed, _) = past_closers(text, inner + word.len());
        let place = skip(text, closed, |c| matches!(c, ' ' | '\t'));
        if from(text, place).starts_with([':', '=']) {
            return Some(skip(text, place + 1, |c| matches!(c, ' ' | '\t')));
        }
    }
    let quote = Quote::before(text, at)?;
    let follows = from(text, after).starts_with(',') && Quote::at(text, next).is_some();
    let opened = text.get(..at - quote.len())?.chars().next_back();
    let is_pair = matches!(opened, Some('(' | '[')) || from(text, at).starts_with('-');
    (follows && is_pair).then_some(next)
}

/// The value that follows a name by nothing but space.
fn spaced(text: &str, at: usize, name: &str, end: usize) -> Option<Range<usize>> {
    let is_option = name.starts_with('-');
    let start = skip(text, end, |c| matches!(c, ' ' | '\t') || (is_option && c.is_whitespace()));
    if start == end {
        return None;
    }
    let quoted = Quote::at(text, start);
    let is_env = text.get(..at)?.trim_end().ends_with("ENV");
    let hidden = value(text, start, Place { is_line: is_env, ..Place::default() })?;
    let given = text.get(hidden.clone())?;
    if quoted.is_none() && announces(text, &hidden) {
        return None;
    }
    let plain = name.to_ascii_lowercase();
    let is_constant = name.contains('_') || matches!(plain.as_str(), "requirepass" | "masterauth");
    if is_option {
        let is_source = ["id=", "type=", "src=", "env="].iter().any(|key| given.starts_with(key));
        return (!is_source && !given.starts_with('-')).then_some(hidden);
    }
    if complains_of_syntax(text, at) {
        return None;
    }
    let is_password =
        ["password", "passphrase", "passcode", "passwd"].iter().any(|word| plain.ends_with(word));
    if quoted.is_some() {
        let is_random = given.len() >= 12 && is_mixed(given);
        return (is_password || is_constant || is_random).then_some(hidden);
    }
    let is_shown = is_prose(given) || given.starts_with(['(', '-', '/', '=', '<']);
    let is_random = is_password && plain != "passwd" && is_mixed(given);
    ((is_constant || is_random) && !is_shown).then_some(hidden)
}

/// Whether a value is the name of another, as in `auth: Authorization: ..`.
fn announces(text: &str, given: &Range<usize>) -> bool {
    let name = text.get(given.clone()).unwrap_or_default();
    let is_name = name.chars().all(is_name) && said(name).is_some();
    is_name && separated(text, given.end, past_closers(text, given.end).0).is_some()
}

pub(super) fn is_prose(given: &str) -> bool {
    let word = given.trim_matches(|c: char| !c.is_alphanumeric() && c != '\'').to_ascii_lowercase();
    word.is_empty() || PROSE.contains(&format!(" {word} "))
}

/// Letters and digits, as no word has them.
fn is_mixed(given: &str) -> bool {
    let has = |of: fn(&u8) -> bool| given.bytes().any(|byte| of(&byte));
    has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && !given.starts_with(|c: char| c.is_ascii_digit())
}

fn is_version(given: &str) -> bool {
    given.starts_with(|c: char| c.is_ascii_digit()) && given.contains('.')
}

/// `PWD=/root`, and where a key lies.
fn names_place(name: &str, given: &str) -> bool {
    let is_directory = matches!(name, "PWD" | "OLDPWD" | "pwd" | "cwd");
    let is_file = [".pem", ".key", ".crt", ".txt"].iter().any(|end| given.ends_with(end));
    given.starts_with('/') && (is_directory || is_file)
}

/// `unexpected token X` is about a language.
fn complains_of_syntax(text: &str, at: usize) -> bool {
    let before = super::line_before(text, at).trim_end().to_ascii_lowercase();
    ["unexpected", "illegal", "syntax", "expected", "near"].iter().any(|word| before.ends_with(word))
}
