//! Takes secrets out of text that is about to be kept or shown.

const HIDDEN: &str = "[scrubbed]";

/// Words after which a value is a secret, in lowercase. A word counts where
/// it ends a longer one too: `SSH_ROOT_PASSWORD`, `--api-key`.
const SECRET_WORDS: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "api_key",
    "api-key",
    "apikey",
    "access_key",
    "private_key",
    "pwd",
];

/// Replaces what follows a secret's name, credentials in URLs, bearer tokens
/// and PEM blocks. Keeps everything else as it is.
pub(crate) fn scrub(text: &str) -> String {
    words(&pem(text))
}

fn pem(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.split_once("-----BEGIN") {
        kept.push_str(before);
        kept.push_str(HIDDEN);
        rest = match from.split_once("-----END") {
            Some((_, tail)) => tail.split_once("-----").map_or("", |(_, after)| after),
            None => "",
        };
    }
    kept.push_str(rest);
    kept
}

/// Goes over the text token by token (a token ends at white space) and
/// keeps the white space as it was.
fn words(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut hide_next = false;
    for piece in text.split_inclusive(char::is_whitespace) {
        let token = piece.trim_end_matches(char::is_whitespace);
        let space = piece.strip_prefix(token).unwrap_or("");
        if token.is_empty() {
            kept.push_str(space);
            continue;
        }
        let (shown, hides) =
            if hide_next && !is_separator(token) { hidden(token) } else { one(token, hide_next) };
        kept.push_str(&shown);
        kept.push_str(space);
        hide_next = hides;
    }
    kept
}

fn is_separator(token: &str) -> bool {
    matches!(token, "=" | ":" | "=>" | "is")
}

fn hidden(token: &str) -> (String, bool) {
    let announces = matches!(token.to_ascii_lowercase().as_str(), "bearer" | "basic");
    let tail = token.trim_start_matches(|c: char| !matches!(c, ',' | ';' | '}' | ')' | ']'));
    let tail = if tail.chars().all(|c| matches!(c, ',' | ';' | '}' | ')' | ']')) { tail } else { "" };
    (format!("{HIDDEN}{tail}"), announces)
}

/// What to show of a token, and whether the next one is a secret.
fn one(token: &str, hide_next: bool) -> (String, bool) {
    let lower = token.to_ascii_lowercase();
    if matches!(lower.trim_matches(['"', '\'', ':']), "bearer") {
        return (token.to_owned(), true);
    }
    if let Some(at) = separator_after_secret(&lower) {
        let (name, value) = token.split_at(at);
        return match value {
            "" => (name.to_owned(), true),
            _ => (format!("{name}{HIDDEN}"), false),
        };
    }
    if names_secret(lower.trim_matches(['"', '\'', ',', '-']))
        && (lower.starts_with('-') || lower.contains('_'))
    {
        return (token.to_owned(), true);
    }
    (url(token), hide_next && is_separator(token))
}

/// Where the value starts in `name=value` or `name:value`, if the name is a
/// secret's.
fn separator_after_secret(lower: &str) -> Option<usize> {
    let mut searched = 0;
    while let Some(found) = lower.get(searched..)?.find(['=', ':']) {
        let at = searched + found;
        let name = lower.get(..at)?.trim_end_matches(['"', '\'']);
        let name = name.rsplit(['&', '?', ',', '{', ';', '"', '\'']).next().unwrap_or(name);
        if names_secret(name) {
            return Some(at + 1);
        }
        searched = at + 1;
    }
    None
}

fn names_secret(name: &str) -> bool {
    SECRET_WORDS.iter().any(|word| name.ends_with(word))
        || name == "authorization"
        || name == "pass"
        || name.ends_with("_pass")
}

/// Hides `user:password` in `scheme://user:password@host`.
fn url(token: &str) -> String {
    let Some((scheme, rest)) = token.split_once("://") else {
        return token.to_owned();
    };
    match rest.split_once('@') {
        Some((who, host)) if who.contains(':') && !who.contains('/') => format!("{scheme}://{HIDDEN}@{host}"),
        _ => token.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::scrub;

    #[test]
    fn secrets_are_hidden_in_every_usual_spelling() {
        for (given, wanted) in [
            ("password=hunter2 rest", "password=[scrubbed] rest"),
            ("SSH_ROOT_PASSWORD: hunter2", "SSH_ROOT_PASSWORD: [scrubbed]"),
            ("run --api-key abc123 --fast", "run --api-key [scrubbed] --fast"),
            ("token = abc", "token = abc"),
            ("auth_token = abc", "auth_token = [scrubbed]"),
            ("Authorization: Bearer abc.def", "Authorization: [scrubbed] [scrubbed]"),
            ("pull https://user:pw@registry/x failed", "pull https://[scrubbed]@registry/x failed"),
            (r#"{"password":"x","a":1}"#, r#"{"password":[scrubbed]"#),
            ("GET /?a=1&token=xyz", "GET /?a=1&token=[scrubbed]"),
            ("key -----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY----- end", "key [scrubbed] end"),
            ("-----BEGIN PRIVATE KEY-----\nabc", "[scrubbed]"),
        ] {
            assert_eq!(scrub(given), wanted, "{given}");
        }
    }

    #[test]
    fn plain_text_is_left_alone() {
        for text in [
            "no such image for decky-03",
            "exit status: 1",
            "a  b\n\tc",
            "https://host/path@v1",
            "secret",
            "",
        ] {
            assert_eq!(scrub(text), text);
        }
    }
}
