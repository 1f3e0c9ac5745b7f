//! Secrets in command lines and statements: `-u user:..`, `-p..`, `IDENTIFIED
//! BY '..'`.

use std::ops::Range;

use super::names::is_prose;
use super::value::{Place, Quote, value};
use super::{from, line_before, skip};

/// Options that carry a password, by the programs that have them so.
const BY_PROGRAM: [(&str, &[&str]); 4] = [
    (
        "-p",
        &[
            "mysql",
            "mysqldump",
            "mysqladmin",
            "mariadb",
            "sshpass",
            "login",
            "mongo",
            "mongosh",
            "7z",
            "unzip",
        ],
    ),
    ("-a", &["redis-cli"]),
    ("-P", &["sqlcmd", "bcp", "zip", "unzip"]),
    ("-w", &["ldapsearch", "ldapadd", "ldapmodify", "ldapwhoami", "ldapdelete"]),
];

/// Options that take `user:password`.
const USER_OPTIONS: [&str; 5] = ["-u", "--user", "--proxy-user", "-U", "--creds"];

/// Words that start with `-p` and carry nothing.
const PLAIN: [&str; 4] = ["-python", "-perl", "-php", "-py3"];

/// The secret of the option at `at`.
pub(super) fn option(text: &str, at: usize) -> Option<Range<usize>> {
    let rest = from(text, at);
    if !rest.starts_with('-') {
        return None;
    }
    let of_users = USER_OPTIONS.iter().filter(|option| rest.starts_with(**option));
    let of_user = of_users.max_by_key(|option| option.len()).and_then(|option| of_user(text, at, option));
    if of_user.is_some() {
        return of_user;
    }
    let before = line_before(text, at);
    let runs = |programs: &[&str]| {
        let mut words = before.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
        words.any(|word| programs.contains(&word))
    };
    for (option, programs) in BY_PROGRAM {
        if rest.starts_with(option) && !rest.starts_with("--") && runs(programs) {
            let start = argument(text, at + option.len());
            // A database may follow mysql's -p, and then it asks.
            let is_glued = start == at + option.len();
            let asks = option == "-p" && runs(&["mysql", "mysqldump", "mysqladmin", "mariadb"]);
            if is_glued || !asks {
                let hidden =
                    value(text, start, Place { within: within(text, at, start), ..Place::default() })?;
                return (!text.get(hidden.clone())?.starts_with('-')).then_some(hidden);
            }
        }
    }
    glued(text, at)
}

/// `-pX` by itself, where X is no word, port or path.
fn glued(text: &str, at: usize) -> Option<Range<usize>> {
    let rest = from(text, at);
    let given = rest.strip_prefix("-p")?;
    if PLAIN.iter().any(|plain| rest.starts_with(plain))
        || given.starts_with(|c: char| !c.is_ascii_alphanumeric())
    {
        return None;
    }
    let start = at + "-p".len();
    let hidden = value(text, start, Place { within: within(text, at, start), ..Place::default() })?;
    let given = text.get(hidden.clone())?;
    let is_port =
        given.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.' | b'-' | b'/'));
    let is_word = given.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'=' | b'_'));
    (!is_port && !is_word).then_some(hidden)
}

/// Where an option's argument starts: glued, after space, or in a list.
fn argument(text: &str, at: usize) -> usize {
    let closed =
        Quote::at(text, at).filter(|quote| from(text, at + quote.len()).starts_with([',', ' ', ']']));
    let at = closed.map_or(at, |quote| at + quote.len());
    skip(text, at, |c| c.is_whitespace() || matches!(c, ',' | '='))
}

/// The quotes around a whole option; those of an argument in a list are its
/// own.
fn within(text: &str, at: usize, start: usize) -> Option<Quote> {
    let has_gap = text.get(at..start).is_some_and(|option| option.contains(['"', '\'', ',']));
    if has_gap { None } else { Quote::before(text, at) }
}

fn of_user(text: &str, at: usize, option: &str) -> Option<Range<usize>> {
    let start = argument(text, at + option.len());
    let is_long = option.starts_with("--");
    if is_long && start == at + option.len() {
        return None;
    }
    let given = value(text, start, Place { within: within(text, at, start), ..Place::default() })?;
    let who = text.get(given.clone())?;
    let (user, password) = who.split_once(':').or_else(|| who.split_once('%').filter(|_| option == "-U"))?;
    let is_id = who.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    let is_group = user == password && !line_before(text, at).contains("curl");
    let from_colon = given.start + user.len() + 1;
    let is_hidden = password.is_empty()
        || password.starts_with("//")
        || from(text, from_colon).starts_with(super::HIDDEN);
    (!is_id && !is_group && !is_hidden && !user.contains(char::is_whitespace))
        .then_some(from_colon..given.end)
}

/// The secret of a statement: SQL's `IDENTIFIED BY`, redis' `AUTH`.
pub(super) fn statement(text: &str, at: usize) -> Option<Range<usize>> {
    let rest = from(text, at);
    let head = rest.get(.."identified".len()).unwrap_or_default();
    if head.eq_ignore_ascii_case("identified") {
        let quoted = rest.find(['\'', '"']).filter(|quoted| *quoted < 80)?;
        let words = rest.get(..quoted)?.to_ascii_lowercase();
        if words.contains(" by ") || words.contains(" as ") {
            return value(text, at + quoted, Place::default());
        }
        let second = rest.get(quoted + 1..)?.to_ascii_lowercase();
        let by = second.find(" by ").filter(|by| *by < 60)?;
        return value(text, at + quoted + 1 + by + " by ".len(), Place::default());
    }
    let after = rest.strip_prefix("AUTH")?;
    let (closed, _) = Quote::at(text, at + "AUTH".len()).map_or((0, 0), |quote| (quote.len(), 0));
    let start = skip(text, at + "AUTH".len() + closed, |c| matches!(c, ' ' | '\t'));
    if after.is_empty() || start == at + "AUTH".len() {
        return None;
    }
    let first = value(text, start, Place::default())?;
    let word = text.get(first.clone())?;
    if matches!(word, "default" | "PLAIN" | "LOGIN" | "CRAM-MD5" | "XOAUTH2") {
        return value(text, skip(text, first.end, |c| matches!(c, ' ' | '"' | '\'')), Place::default());
    }
    (!is_prose(word)).then_some(first)
}
