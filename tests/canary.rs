//! Planted secrets in messages as real tools write them: none may be seen, by
//! how it is written or because it is known. And texts that must stay readable.

mod shapes;

use decnet_lifecycle::{Failure, FailureKind, FleetConfig, lifecycle::Secrets};
use fastrand::Rng;
use shapes::{ANY, HARMLESS, base64, cases, leaks, secret, spellings, told};

fn kept(text: &str) -> String {
    Failure::new(FailureKind::Engine, text).message().to_owned()
}

#[test]
fn what_is_written_like_a_secret_is_hidden_in_every_tool_s_messages() {
    let mut random = Rng::with_seed(14);
    let mut leaked = Vec::new();
    for _ in 0..cases() {
        let (message, secret) = told(&mut random);
        let shown = kept(&message);
        if leaks(&shown, &secret) {
            leaked.push(format!("{secret}\n  in {message}\n  as {shown}"));
        }
    }
    assert!(leaked.is_empty(), "{} leaked:\n{}", leaked.len(), leaked[..leaked.len().min(12)].join("\n"));
}

#[test]
fn a_known_secret_is_hidden_however_it_is_quoted_coded_or_cut() {
    let mut random = Rng::with_seed(41);
    let mut leaked = Vec::new();
    // Each in some twenty shapes.
    for _ in 0..cases().div_ceil(10) {
        let known = secret(&mut random, ANY);
        let secrets = Secrets::new([&known]);
        let shapes = spellings(&mut random, &known);
        for (place, message) in shapes.iter().enumerate() {
            // A coding in lowercase is another secret, but for its coding.
            let secrets = if place == 9 { Secrets::new([known.to_lowercase()]) } else { secrets.clone() };
            let shown = secrets.hide(message);
            let coded = base64(format!("me:{known}").as_bytes());
            if leaks(&shown, &known) || shown.contains(&coded) || (place == 15 && shown.len() > 24) {
                leaked.push(format!("{known}\n  in {message}\n  as {shown}"));
            }
        }
    }
    assert!(leaked.is_empty(), "{} leaked:\n{}", leaked.len(), leaked[..leaked.len().min(12)].join("\n"));
}

#[test]
fn harmless_texts_stay_as_they_are() {
    for text in HARMLESS {
        assert_eq!(kept(text), text);
        let secrets =
            Secrets::new(["toor", "hunter2", "correct horse battery staple", "Gr33n+Mango!x", "abc"]);
        assert_eq!(secrets.hide(text), text);
    }
}

#[test]
fn a_fleet_s_own_secrets_are_known() {
    let text = include_str!("data/fleet-unihost-3.json");
    let mut fleet: serde_json::Value = serde_json::from_str(text).unwrap();
    fleet["deckies"][0]["service_config"] = serde_json::json!({
        "ssh": {"password": "toor-2026", "banner": "welcome home", "users": [{"name": "anna", "passwd": "blumen"}]},
        "redis": {"requirepass": "r3d!s pw", "url": "redis://:ap%40ss-77@db/0", "auth": "bWU6bGV0bWVpbi05OQ=="},
        "ldap": {"credentials": {"cn=admin": "ldapsecret"}, "pin_password": 481_516, "env": ["DB_PASSWORD=env-pw-1", "A=plainly"]},
    });
    let fleet = FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap();
    let secrets = Secrets::of(&fleet);
    for known in [
        "toor-2026",
        "blumen",
        "r3d!s pw",
        "ap%40ss-77",
        "ap@ss-77",
        "letmein-99",
        "ldapsecret",
        "481516",
        "env-pw-1",
    ] {
        assert_eq!(secrets.hide(&format!("say {known}.")), "say [scrubbed].", "{known}");
    }
    assert_eq!(secrets.hide("welcome home anna, plainly db"), "welcome home anna, plainly db");
    // Short ones only as words of their own: `blumen` is no part of another.
    assert_eq!(secrets.hide("blumenau blumen"), "blumenau [scrubbed]");
}
