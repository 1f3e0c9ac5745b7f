//! The fleet file: what is accepted, what is refused, and how it is told.

use std::collections::BTreeSet;

use decnet_lifecycle::{
    fleet::{DeployedFleet, FleetError, Mode},
    *,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const UNIHOST: &str = include_str!("data/fleet-unihost-3.json");
const SWARM: &str = include_str!("data/fleet-swarm-9.json");
const SCHEMA: &str = include_str!("data/decnet-config.schema.json");

fn parse(value: &Value) -> Result<FleetConfig, FleetError> {
    FleetConfig::from_json(value.to_string().as_bytes())
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// What is wrong with the unihost sample once this has been done to it.
fn wrong(spoil: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut fleet = value(UNIHOST);
    spoil(&mut fleet);
    match parse(&fleet) {
        Err(FleetError::Invalid(problems)) => problems.list().iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_original_s_own_files_round_trip_with_every_field() {
    for text in [UNIHOST, SWARM, include_str!("../examples/fleet.json")] {
        let fleet = FleetConfig::from_json(text.as_bytes()).unwrap();
        assert_eq!(value(&fleet.to_json()), value(text));
        let state = DeployedFleet { config: fleet.clone(), compose_path: "/x/compose.yml".into() };
        let again = DeployedFleet::from_json(state.to_json().as_bytes()).unwrap();
        assert_eq!(again, state);
        // A state file does where a fleet is asked for.
        assert_eq!(FleetConfig::from_json(state.to_json().as_bytes()).unwrap(), fleet);
    }
}

#[test]
fn fields_and_defaults_are_those_of_the_schema() {
    let schema = value(SCHEMA);
    let mut fleet = value(UNIHOST);
    for (part, object) in [(&schema, "/"), (&schema["$defs"]["DeckyConfig"], "/deckies/0")] {
        let required: BTreeSet<&str> =
            part["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        for (field, rule) in part["properties"].as_object().unwrap() {
            let place = format!("{}/{field}", object.trim_end_matches('/'));
            let mut without = fleet.clone();
            let parent = without.pointer_mut(object.trim_end_matches('/')).unwrap();
            parent.as_object_mut().unwrap().remove(field);
            match parse(&without) {
                Ok(fleet) => {
                    assert!(!required.contains(field.as_str()), "{place} is required");
                    let default = rule.get("default").cloned().unwrap_or_else(|| json!({}));
                    assert_eq!(value(&fleet.to_json()).pointer(&place), Some(&default), "{place}");
                }
                Err(error) => {
                    assert!(required.contains(field.as_str()), "{place}: {error}");
                    assert!(error.to_string().contains("it is missing"), "{error}");
                }
            }
        }
    }
    fleet["unknown_at_the_root"] = json!(1);
    parse(&fleet).unwrap();
    fleet["deckies"][0]["last_mutated"] = json!(7);
    assert!(parse(&fleet).unwrap().deckies[0].last_mutated.eq(&7.0));
}

#[test]
fn every_error_names_its_place_and_what_to_write() {
    let one = |spoil: fn(&mut Value)| {
        let wrong = wrong(spoil);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        wrong[0].clone()
    };
    for (told, wanted) in [
        (
            one(|f| f["deckies"][1]["ip"] = json!("10.0.0.9")),
            "deckies[1].ip: 10.0.0.9 lies outside the subnet 192.168.48.0/20; write a free address from 192.168.48.1 to 192.168.63.254",
        ),
        (
            one(|f| f["deckies"][1]["ip"] = json!("192.168.50.10")),
            "deckies[1].ip: 192.168.50.10 is the address of deckies[0] as well; give each decky an address of its own",
        ),
        (
            one(|f| f["deckies"][2]["ip"] = json!("192.168.48.1")),
            "deckies[2].ip: 192.168.48.1 is the gateway's address; write a free address from 192.168.48.1 to 192.168.63.254",
        ),
        (
            one(|f| f["deckies"][2]["ip"] = json!("192.168.63.255")),
            "deckies[2].ip: 192.168.63.255 is the network's own or its broadcast address; write a free address from 192.168.48.1 to 192.168.63.254",
        ),
        (
            one(|f| f["deckies"][0]["ip"] = json!("not an address")),
            "deckies[0].ip: the text \"not an address\" won't do; write an address such as \"192.168.48.10\"",
        ),
        (
            one(|f| f["deckies"][2]["name"] = json!("decky-01")),
            "deckies[2].name: decky-01 is the name of deckies[0] as well; give each decky a name of its own",
        ),
        (
            one(|f| f["deckies"][0]["name"] = json!("decky 1")),
            "deckies[0].name: a decky name is made of letters, digits, '-' and '_'; ' ' is not one of them; write another name",
        ),
        (
            one(|f| f["deckies"][0]["name"] = json!("decky.web")),
            "deckies[0].name: a decky name can't hold a '.': topics and file names are split at dots; write another name",
        ),
        (
            one(|f| f["deckies"][2]["name"] = json!("DECKY-01")),
            "deckies[2].name: DECKY-01 differs from decky-01 of deckies[0] in case alone; images, host names and some file systems don't tell them apart; rename one",
        ),
        (
            one(|f| f["deckies"][0]["services"] = json!([])),
            "deckies[0].services: a decky offers at least one service; write one such as [\"ssh\"]",
        ),
        (
            one(|f| f["deckies"][0]["services"] = json!(["ssh", "ssh"])),
            "deckies[0].services: ssh is listed twice; list each service once",
        ),
        (
            one(|f| f["deckies"][0]["services"] = json!(["ssh", 1])),
            "deckies[0].services[1]: the number 1 won't do; write a service's name such as \"ssh\"",
        ),
        (
            one(|f| f["deckies"][0]["sevices"] = json!([])),
            "deckies[0].sevices: a decky has no such field; did you mean services?",
        ),
        (
            one(|f| f["deckies"][0]["mutate_interval"] = json!("5")),
            "deckies[0].mutate_interval: the text \"5\" won't do; write a whole number of minutes or null",
        ),
        (
            one(|f| f["deckies"][0]["last_mutated"] = json!(true)),
            "deckies[0].last_mutated: true won't do; write a number of seconds",
        ),
        (
            one(|f| f["mode"] = json!("both")),
            "mode: the text \"both\" won't do; write \"unihost\" or \"swarm\"",
        ),
        (
            one(|f| f["gateway"] = json!("10.0.0.1")),
            "gateway: 10.0.0.1 lies outside the subnet 192.168.48.0/20; write the gateway's address, from 192.168.48.1 to 192.168.63.254",
        ),
        (
            one(|f| f["gateway"] = json!("fd00::1")),
            "gateway: fd00::1 is of another family than the subnet 192.168.48.0/20; write the gateway's address, from 192.168.48.1 to 192.168.63.254",
        ),
        (
            one(|f| f["gateway"] = json!("192.168.48.0")),
            "gateway: 192.168.48.0 is the network's own or its broadcast address; write the gateway's address, from 192.168.48.1 to 192.168.63.254",
        ),
        (
            one(|f| f["gateway"] = json!("192.168.63.255")),
            "gateway: 192.168.63.255 is the network's own or its broadcast address; write the gateway's address, from 192.168.48.1 to 192.168.63.254",
        ),
        (
            one(|f| {
                f["subnet"] = json!("192.168.50.10/31");
                f["deckies"].as_array_mut().unwrap().truncate(1);
            }),
            "subnet: 192.168.50.10/31 has no room for a gateway and a decky; write a network of /30 or larger",
        ),
        (
            one(|f| f["deckies"] = json!([])),
            "deckies: an empty list won't do; write a list of 1 to 16384 deckies",
        ),
        (
            one(|f| *f = json!([1])),
            "an object is wanted here, not a list of 1; write {\"mode\": .., \"deckies\": [..], ..}",
        ),
    ] {
        assert_eq!(told, wanted);
    }
}

#[test]
fn all_errors_are_listed_at_once_and_no_secret_is_among_them() {
    let told = wrong(|fleet| {
        fleet["subnet"] = json!("everywhere");
        fleet["deckies"][0]["name"] = json!("-rm");
        fleet["deckies"][1]["distro"] = json!(7);
        fleet["deckies"][2]["service_config"] = json!({"ssh": "hunter2"});
    });
    let places: Vec<&str> = told.iter().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(places, ["subnet", "deckies[0].name", "deckies[1].distro", "deckies[2].service_config"]);
    assert!(!told.join("\n").contains("hunter2"));
}

#[test]
fn hostile_text_is_an_error_and_never_more() {
    for bytes in [&b""[..], b"nul", b"{\"mode\": NaN}", b"{} x", b"{\"a\": \"\xff\"}"] {
        let error = FleetConfig::from_json(bytes).unwrap_err();
        assert!(matches!(error, FleetError::Syntax { .. }), "{error}");
    }
    for length in 0..UNIHOST.trim_end().len() {
        FleetConfig::from_json(&UNIHOST.as_bytes()[..length]).unwrap_err();
    }
    let large = vec![b' '; FleetConfig::MAX_BYTES + 1];
    assert!(matches!(FleetConfig::from_json(&large).unwrap_err(), FleetError::TooLarge { .. }));
    let told = wrong(|fleet| fleet["mode"] = json!("x\u{1b}[31m".repeat(1_000)));
    assert!(told[0].len() < 300 && !told[0].contains('\u{1b}'), "{told:?}");
}

#[test]
fn what_a_file_is_instead_of_plain_json_is_told_by_name_and_place() {
    let told = |bytes: &[u8]| FleetConfig::from_json(bytes).unwrap_err().to_string();
    let wide = |text: &str, mark: &[u8]| {
        mark.iter().copied().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect::<Vec<u8>>()
    };
    let marked = [b"\xef\xbb\xbf", UNIHOST.as_bytes()].concat();
    assert_eq!(
        told(&marked),
        "the file is UTF-8 with a byte order mark (BOM); save it as UTF-8 without a mark"
    );
    assert_eq!(told(&wide(UNIHOST, b"\xff\xfe")), "the file is UTF-16; save it as UTF-8 without a mark");
    assert_eq!(
        told(&wide(UNIHOST, b"")),
        "the file is UTF-16 without a byte order mark; save it as UTF-8 without a mark"
    );
    assert!(told(&[0xff, 0xfe, 0, 0, b'{', 0, 0, 0]).contains("UTF-32"));
    assert_eq!(
        told(b"{\"mode\": \"unihost\",\n \"deckies\": [],\n \"deckies\": []}"),
        "line 3, column 10: the key \"deckies\" stands twice in one object; keep one of them"
    );
    // At every depth, and whatever the key holds.
    assert!(
        told(b"{\"a\": [{\"x\": {\"p\\u001b\": 1, \"p\\u001b\": \"hunter2\"}}]}")
            .contains("the key \"p\" stands")
    );
    let deep = told(&[b'['; 100_000]);
    assert_eq!(deep, "line 1, column 128: nested deeper than 128 levels; is it the right file?");
    let both = wrong(|fleet| fleet["deckies"] = json!(vec![1; 16_385]));
    assert_eq!(both, ["deckies: a list of 16385 won't do; write a list of 1 to 16384 deckies"]);
    // A state file is read no less strictly.
    assert!(matches!(DeployedFleet::from_json(b"{\"a\": 1, \"a\": 1}"), Err(FleetError::Doubled { .. })));
}

#[test]
fn problems_stop_at_a_hundred_and_say_how_many_more() {
    let mut fleet = value(UNIHOST);
    let decky = fleet["deckies"][0].as_object_mut().unwrap();
    for number in 0..200_000 {
        decky.insert(format!("servicess{number}"), json!(1));
    }
    let Err(FleetError::Invalid(problems)) = parse(&fleet) else { panic!() };
    assert_eq!((problems.list().len(), problems.more()), (100, 199_900));
    assert!(problems.to_string().ends_with("\nand 199,900 more"));
    assert_eq!(problems.to_string().lines().count(), 101);
}

#[test]
fn a_value_that_may_be_a_secret_is_never_in_an_error() {
    for field in [
        "name",
        "services",
        "distro",
        "base_image",
        "build_base",
        "hostname",
        "archetype",
        "service_config",
        "nmap_os",
        "host_uuid",
    ] {
        for secret in
            [json!("hunter2\u{7}"), json!(47_114_711), json!(["hunter2\u{7}"]), json!({"k": "hunter2"})]
        {
            let told = wrong(|fleet| fleet["deckies"][0][field] = secret.clone());
            let told = told.join("\n");
            assert!(
                !told.is_empty() && !told.contains("hunter2") && !told.contains("4711"),
                "{field}: {told}"
            );
        }
    }
    for field in ["interface", "log_file"] {
        let told = wrong(|fleet| fleet[field] = json!("hunter2\n"));
        assert!(!told.join("").contains("hunter2"), "{told:?}");
    }
}

#[test]
fn shards_and_changes_of_services() {
    let fleet = FleetConfig::from_json(SWARM.as_bytes()).unwrap();
    let shards = fleet.shards();
    assert_eq!(shards.local.len(), 2);
    assert_eq!(shards.hosts.values().map(Vec::len).collect::<BTreeSet<_>>(), BTreeSet::from([2, 3]));
    let mut unihost = fleet.clone();
    unihost.mode = Mode::Unihost;
    assert_eq!(unihost.shards().local.len(), 9);
    let name = |text| DeckyName::parse(text).unwrap();
    let ssh = ServiceName::parse("ssh").unwrap();
    let changed = fleet.with_services(&name("decky-03"), vec![ssh.clone()]).unwrap();
    assert_eq!(changed.decky(&name("decky-03")).unwrap().services, std::slice::from_ref(&ssh));
    let unknown = fleet.with_services(&name("deky-03"), vec![ssh.clone()]).unwrap_err();
    assert_eq!(unknown.to_string(), "the fleet has no decky deky-03; did you mean decky-03?");
    assert!(fleet.with_services(&name("decky-03"), vec![]).is_err());
    assert!(fleet.with_services(&name("decky-03"), vec![ssh.clone(), ssh]).is_err());
    let two = BTreeSet::from([name("decky-02"), name("decky-04")]);
    assert!(fleet.restricted_to(&two).unwrap().names().eq(&two));
    assert!(fleet.restricted_to(&BTreeSet::from([name("other")])).is_none());
}

/// Seeds that once failed are kept, and tried first.
fn seeds() -> ProptestConfig {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/proptest-regressions/fleet.txt");
    let kept = proptest::test_runner::FileFailurePersistence::Direct(file);
    ProptestConfig { failure_persistence: Some(Box::new(kept)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(seeds())]
    #[test]
    fn whatever_is_accepted_round_trips(place in 0..40_usize, junk in "[ -~]{0,12}", number in any::<i64>()) {
        let mut fleet = value(UNIHOST);
        let decky = fleet["deckies"][place % 3].as_object_mut().unwrap();
        let field = decky.keys().nth(place % decky.len()).unwrap().clone();
        let replaced = match place % 4 {
            0 => json!(junk),
            1 => json!(number),
            2 => json!([junk]),
            _ => json!({ junk: {} }),
        };
        decky.insert(field, replaced);
        if let Ok(parsed) = parse(&fleet) {
            prop_assert_eq!(FleetConfig::from_json(parsed.to_json().as_bytes()).unwrap(), parsed);
        }
    }
}
