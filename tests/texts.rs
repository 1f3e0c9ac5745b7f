//! Words from outside: one function makes them fit to be shown, and whatever
//! takes some passes them through it.

use decnet_lifecycle::lifecycle::text::{is_shown, json, one_line};
use decnet_lifecycle::{
    beat::{Beat, Delta, Reported},
    fleet::DeckyRuntime,
    *,
};
use proptest::prelude::*;
use regex_syntax::hir::{Class, HirKind};

/// What may not be printed as it is, by Unicode's own tables: controls, breaks
/// and spaces other than the plain one, what has no form or steers the reading
/// direction, and what is no character. Marks that stand before numbers are
/// formats by name and show.
const UNFIT: &str = r"[[\p{Cc}\p{Zl}\p{Zp}\p{Zs}\p{Cf}\p{Default_Ignorable_Code_Point}\p{Bidi_Control}\p{Noncharacter_Code_Point}]--[\x20\p{Prepended_Concatenation_Mark}]]";

#[test]
fn every_character_there_is_shows_or_is_left_out() {
    let unfit = regex_syntax::parse(UNFIT).unwrap();
    let HirKind::Class(Class::Unicode(unfit)) = unfit.kind() else { panic!("{unfit:?}") };
    let is_unfit = |c: char| unfit.ranges().iter().any(|range| (range.start()..=range.end()).contains(&c));
    for c in char::MIN..=char::MAX {
        assert_eq!(is_shown(c), !is_unfit(c), "U+{:04X}", u32::from(c));
        let line = one_line(&format!("a{c}b"), 10);
        let wanted = if is_shown(c) { format!("a{c}b") } else { line.clone() };
        assert_eq!(line, wanted, "U+{:04X}", u32::from(c));
        assert!(
            ["ab", "a b", "a\\nb"].contains(&line.as_str()) || is_shown(c),
            "U+{:04X}: {line:?}",
            u32::from(c)
        );
    }
}

#[test]
fn line_breaks_of_every_kind_are_shown_and_start_no_line() {
    for end in ["\n", "\r", "\r\n", "\u{b}", "\u{c}", "\u{85}", "\u{2028}", "\u{2029}"] {
        assert_eq!(one_line(&format!("{end}a{end}INFO b{end}{end}"), 80), "a\\nINFO b", "{end:?}");
    }
    assert_eq!(one_line("a\n\r\n\tb", 80), "a\\n\\n b");
    assert_eq!(
        (one_line("ab\n", 2), one_line("a\nb", 2), one_line("a\nb", 3)),
        ("ab".into(), "a".into(), "a\\n".into())
    );
    assert_eq!(one_line("\u{200b} \u{feff}\n", 80), "");
    assert_eq!(one_line("é".repeat(100).as_str(), 7), "é".repeat(7));
    assert_eq!(one_line(&format!("a{}", " ".repeat(1 << 20)), 7), "a");
}

proptest! {
    #[test]
    fn a_fitted_text_is_one_line_within_its_room_and_stays_so(text in any::<String>(), unfit in UNFIT, room in 0..200_usize) {
        for text in [text.clone(), format!("{text}{unfit}{text}"), format!("{unfit}{text}{unfit}")] {
            let line = one_line(&text, room);
            prop_assert!(line.chars().all(is_shown) && line.chars().count() <= room);
            prop_assert_eq!(one_line(&line, room), line);
            let said = serde_json::json!({ &text: [&text] });
            let written = json(&said);
            prop_assert!(written.chars().all(is_shown));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), said);
            let failure = Failure::new(FailureKind::Reported, &text);
            prop_assert!(failure.message().chars().all(is_shown));
            prop_assert_eq!(Failure::new(FailureKind::Reported, failure.message()), failure);
        }
    }
}

/// What a hostile worker may write for a word.
const FORGED: &str =
    "\u{202e}up\u{2066}\u{200b}\u{feff}\u{2028}INFO x\n\u{1b}[2J\u{9b}1m\u{ad}\u{e0041}\u{7f}";

#[test]
fn a_worker_s_words_hide_nothing_and_start_no_line() {
    let body = serde_json::json!({
        "host_uuid": "w1", "agent_version": FORGED,
        "status": {"runtime": {"a": {"running": true, "services": {FORGED: FORGED}}}},
        "lifecycle": [{"decky_name": "a", "operation": "deploy", "status": "failed", "error": FORGED}],
    });
    let beat = Beat::from_json(body.to_string().as_bytes()).unwrap();
    let runtime = beat.status.runtime.values().next().unwrap();
    let (name, state) = runtime.services.iter().next().unwrap();
    let Some(Delta { report: Reported::Failed(error), .. }) = beat.deltas[0].clone() else {
        panic!("{beat:?}")
    };
    let failure = Failure::new(FailureKind::Reported, &error).to_string();
    // A runtime that came another way than by a beat is shown no less safely.
    let raw = DeckyRuntime { running: true, services: [(FORGED.to_owned(), FORGED.to_owned())].into() };
    for word in
        [name, state, beat.agent_version.as_ref().unwrap(), &failure, &runtime.to_string(), &raw.to_string()]
    {
        assert!(word.chars().all(is_shown), "{word:?}");
        assert!(word.contains("up\\nINFO x\\n[2J1m"), "{word:?}");
    }
}
