//! What the compose format and Docker can hold: what they can't would make a
//! tool refuse the whole file, or fail late.

use super::document::HealthCheck;
use super::text::Text;

/// The longest container and host names: those of DNS.
const NAME: usize = 63;
/// The longest name of an image, and of its tag.
const IMAGE: usize = 255;
const TAG: usize = 128;

/// What is wrong with an image's name, such as `debian:12` or
/// `registry.example:5000/a/b@sha256:..`.
pub(super) fn image(text: &str) -> Result<(), &'static str> {
    let (named, digest) = match text.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (text, None),
    };
    // A colon before the last slash is a port's.
    let (name, tag) = match named.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (named, None),
    };
    let path = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
            if !host.chars().all(plain) {
                return Err("its registry is no host's name");
            }
            path
        }
        _ => name,
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part = |part: &str| {
        part.starts_with(plain)
            && part.ends_with(plain)
            && part.chars().all(|c| plain(c) || matches!(c, '.' | '_' | '-'))
            && !part.contains("..")
    };
    if text.is_empty() {
        return Err("it is empty");
    }
    if name.len() > IMAGE || !path.split('/').all(part) {
        return Err(
            "an image's name has lowercase letters and digits, and between them '.', '_', '-' and '/'",
        );
    }
    let in_tag = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let fits = |tag: &str| {
        tag.len() <= TAG
            && tag.starts_with(in_tag)
            && tag.chars().all(|c| in_tag(c) || matches!(c, '.' | '-'))
    };
    if tag.is_some_and(|tag| !fits(tag)) {
        return Err("its tag has letters, digits, '_', '.' and '-' only, at most 128");
    }
    let whole = |digest: &str| {
        digest.split_once(':').is_some_and(|(kind, hash)| {
            kind == "sha256"
                && hash.len() == 64
                && hash.chars().all(|c| c.is_ascii_digit() || matches!(c, 'a'..='f'))
        })
    };
    if digest.is_some_and(|digest| !whole(digest)) {
        return Err("its digest is sha256: and 64 hexadecimal digits");
    }
    Ok(())
}

/// Whether Docker takes it for a container's name.
pub(super) fn container(name: &str) -> Result<(), String> {
    match name.len() {
        0 | 1 => Err("Docker takes no names of one letter".to_owned()),
        2..=NAME => Ok(()),
        length => Err(format!("a container's name has at most {NAME} letters, this one has {length}")),
    }
}

/// Whether the kernel takes it for a host's name.
pub(super) fn hostname(name: &str) -> Result<(), String> {
    if name.len() <= NAME { Ok(()) } else { Err(format!("a host's name has at most {NAME} letters")) }
}

/// What is wrong with a health check.
pub(super) fn health(check: &HealthCheck) -> Result<(), String> {
    let words: Vec<&str> = check.test.iter().map(Text::as_str).collect();
    match words.as_slice() {
        ["NONE"] | ["CMD", _, ..] | ["CMD-SHELL", _] => {}
        _ => return Err("its test is [\"CMD\", program, ..], [\"CMD-SHELL\", line] or [\"NONE\"]".to_owned()),
    }
    let times =
        [("interval", &check.interval), ("timeout", &check.timeout), ("start_period", &check.start_period)];
    for (name, time) in times {
        let Some(time) = time else { continue };
        if !is_duration(time.as_str()) {
            return Err(format!("its {name} is no duration; write such as \"90s\" or \"1m30s\""));
        }
    }
    Ok(())
}

/// `1m30s`, as both generations of compose tools read it, and at least a
/// millisecond, as Docker wants it.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            _ => return false,
        };
        let Ok(number) = number.parse::<f64>() else { return false };
        seconds += number * scale;
        rest = after;
    }
    (1e-3..=1e9).contains(&seconds)
}

/// The first thing that stands twice in a list.
pub(super) fn double<'t>(all: impl Iterator<Item = &'t str>) -> Option<&'t str> {
    let mut seen = std::collections::BTreeSet::new();
    all.into_iter().find(|one| !seen.insert(*one))
}

#[cfg(test)]
mod tests {
    use super::{image, is_duration};

    #[test]
    fn images_are_named_as_docker_has_it() {
        for good in [
            "debian",
            "debian:12",
            "debian:bookworm-slim@sha256:f9c6a2fd2ddbc23e336b6257a5245e31f996953ef06cd13a59fa0a1df2d5c252",
            "registry.example:5000/a/b_c/d--e:V1.2-x",
            "localhost/x",
            "dl.invalid/none:1",
            "x",
        ] {
            assert_eq!(image(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "Debian",
            "a b",
            "debian:",
            ":1",
            "debian@sha256:12",
            "a//b",
            "-a",
            "a:b c",
            "a/B",
            "http://a",
            "a..b",
        ] {
            assert!(image(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_what_both_tools_read() {
        for good in ["5s", "1m30s", "1.5h", "500ms", "1000us"] {
            assert!(is_duration(good), "{good}");
        }
        for bad in ["5", "5 parsecs", "s", "", "1m 30s", "-5s", "0s", "1us", "1.2.3s", "1d"] {
            assert!(!is_duration(bad), "{bad}");
        }
    }
}
