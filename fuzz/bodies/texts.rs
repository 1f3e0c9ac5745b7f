//! Words from outside, and secrets in them.

use decnet_lifecycle::lifecycle::text::{is_shown, json, one_line};
use decnet_lifecycle::{Failure, FailureKind, lifecycle::Secrets};

/// Any text becomes one line that shows, and stays it; as JSON it says the
/// same.
pub fn text(data: &[u8]) {
    let said = String::from_utf8_lossy(data);
    for room in [0, 1, 7, 64, 4_096] {
        let line = one_line(&said, room);
        assert!(line.chars().all(is_shown) && line.chars().count() <= room, "{line:?}");
        assert_eq!(one_line(&line, room), line);
    }
    let value = serde_json::Value::from(&*said);
    let written = json(&value);
    assert!(written.chars().all(is_shown), "{written:?}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), value);
    let failure = Failure::new(FailureKind::Reported, &said);
    assert!(
        failure.message().chars().all(is_shown) && failure.to_string().chars().count() <= Failure::MAX_LEN
    );
    assert_eq!(Failure::new(FailureKind::Reported, failure.message()), failure);
}

/// A secret (the first line) is hidden in a text (the rest) wherever it stands,
/// as it is and as JSON.
pub fn secrets(data: &[u8]) {
    let said = String::from_utf8_lossy(data);
    let (secret, rest) = said.split_once('\n').unwrap_or((&said, ""));
    let secrets = Secrets::new([secret]);
    let hidden = secrets.hide(rest);
    if secrets.is_empty() {
        return assert_eq!(hidden, rest);
    }
    let known = secret.trim();
    if known.chars().count() < 8 || known.chars().count() > 256 || !known.chars().all(is_shown) {
        return;
    }
    // What stands in a secret's place may complete another that begins or ends
    // as it does.
    const MARK: &str = "[scrubbed]";
    let runs_into = |first: &str, second: &str| {
        first.char_indices().any(|(place, _)| second.starts_with(first.get(place..).unwrap_or_default()))
    };
    if MARK.contains(known) || known.contains(MARK) || runs_into(known, MARK) || runs_into(MARK, known) {
        return;
    }
    assert!(!hidden.contains(known), "{known:?} in {hidden:?}");
    let shown = secrets.hide(&serde_json::json!({"a": known}).to_string());
    let quoted = serde_json::Value::from(known).to_string();
    let inner = quoted.trim_matches('"');
    assert!(
        !shown.contains(known) && !shown.contains(inner) && shown.contains("[scrubbed]"),
        "{known:?} in {shown:?}"
    );
}
