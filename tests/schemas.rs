//! The published schemas say what the parsers say: samples that are taken and
//! samples that are refused.

use decnet_lifecycle::FleetConfig;
use decnet_lifecycle::engine::compose::Catalogue;
use serde_json::{Value, json};

const FLEET: &str = include_str!("../docs/schema/fleet.json");
const CATALOGUE: &str = include_str!("../docs/schema/catalogue.json");

/// A sample, what is done to it, and whether it is a good one still.
type Case = (&'static str, fn(&mut Value), bool);

fn agree(schema: &str, sample: &Value, cases: &[Case], parse: impl Fn(&[u8]) -> Result<(), String>) {
    let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    for (what, spoil, is_good) in cases {
        let mut changed = sample.clone();
        spoil(&mut changed);
        let parsed = parse(changed.to_string().as_bytes());
        let said: Vec<String> = schema.iter_errors(&changed).map(|error| error.to_string()).collect();
        assert_eq!(parsed.is_ok(), *is_good, "the parser of {what}: {parsed:?}");
        assert_eq!(said.is_empty(), *is_good, "the schema of {what}: {said:?}");
    }
}

fn fleet(bytes: &[u8]) -> Result<(), String> {
    FleetConfig::from_json(bytes).map(drop).map_err(|error| error.to_string())
}

#[test]
fn the_schema_of_fleets_says_what_the_parser_says() {
    let samples = [
        include_str!("../examples/fleet.json"),
        include_str!("../examples/fleet-swarm.json"),
        include_str!("../examples/compose/fleet.json"),
        include_str!("data/fleet-unihost-3.json"),
        include_str!("data/fleet-swarm-9.json"),
    ];
    for sample in samples {
        agree(FLEET, &serde_json::from_str(sample).unwrap(), &[("a sample", |_| (), true)], fleet);
    }
    let sample = serde_json::from_str(samples[0]).unwrap();
    let cases: &[Case] = &[
        ("another mode", |f| f["mode"] = json!("both"), false),
        ("no mode", |f| drop(f.as_object_mut().unwrap().remove("mode")), false),
        ("an interface of two lines", |f| f["interface"] = json!("eth0\nup"), false),
        ("a long interface", |f| f["interface"] = json!("e".repeat(4_097)), false),
        ("a subnet without its length", |f| f["subnet"] = json!("192.168.48.0"), false),
        ("a gateway that is a number", |f| f["gateway"] = json!(1), false),
        ("a gateway of words", |f| f["gateway"] = json!("the router"), false),
        ("no deckies", |f| f["deckies"] = json!([]), false),
        ("a log file of null", |f| f["log_file"] = json!(null), true),
        ("a log file that is a list", |f| f["log_file"] = json!([]), false),
        ("ipvlan in words", |f| f["ipvlan"] = json!("yes"), false),
        ("ipvlan", |f| f["ipvlan"] = json!(true), true),
        ("an interval of null", |f| f["mutate_interval"] = json!(null), true),
        ("an interval of half a minute", |f| f["mutate_interval"] = json!(0.5), false),
        ("an interval of all minutes", |f| f["mutate_interval"] = json!(u64::MAX), false),
        ("a field that nobody knows", |f| f["editor"] = json!(1), true),
        ("a decky's field that nobody knows", |f| f["deckies"][0]["servces"] = json!([]), false),
        ("a decky without a name", |f| drop(f["deckies"][0].as_object_mut().unwrap().remove("name")), false),
        ("a name with a dot", |f| f["deckies"][0]["name"] = json!("a.b"), false),
        ("a name with a dash first", |f| f["deckies"][0]["name"] = json!("-a"), false),
        ("a name with an underscore first", |f| f["deckies"][0]["name"] = json!("_a"), false),
        ("a name in capitals", |f| f["deckies"][0]["name"] = json!("DC_01"), true),
        ("a name of 63", |f| f["deckies"][0]["name"] = json!("a".repeat(63)), true),
        ("a name of 64", |f| f["deckies"][0]["name"] = json!("a".repeat(64)), false),
        ("an address of words", |f| f["deckies"][0]["ip"] = json!("here"), false),
        ("no services", |f| f["deckies"][0]["services"] = json!([]), false),
        ("a service twice", |f| f["deckies"][0]["services"] = json!(["ssh", "ssh"]), false),
        ("a service in capitals", |f| f["deckies"][0]["services"] = json!(["SSH"]), false),
        ("a service with a dash first", |f| f["deckies"][0]["services"] = json!(["-ssh"]), false),
        ("a service of null", |f| f["deckies"][0]["services"] = json!([null]), false),
        ("64 services", |f| f["deckies"][0]["services"] = (0..64).map(|n| format!("s{n}")).collect(), true),
        ("65 services", |f| f["deckies"][0]["services"] = (0..65).map(|n| format!("s{n}")).collect(), false),
        ("an image of null", |f| f["deckies"][0]["base_image"] = json!(null), false),
        ("a build base of null", |f| f["deckies"][0]["build_base"] = json!(null), false),
        ("an archetype", |f| f["deckies"][0]["archetype"] = json!("web-server"), true),
        (
            "settings",
            |f| f["deckies"][0]["service_config"] = json!({"http": {"port": 80, "deep": [{}]}}),
            true,
        ),
        ("settings that are text", |f| f["deckies"][0]["service_config"] = json!({"http": "80"}), false),
        ("a time in words", |f| f["deckies"][0]["last_mutated"] = json!("now"), false),
        ("a time", |f| f["deckies"][0]["last_mutated"] = json!(1.5), true),
        ("a host", |f| f["deckies"][0]["host_uuid"] = json!("w1.rack_2"), true),
        ("a host of two words", |f| f["deckies"][0]["host_uuid"] = json!("w 1"), false),
        ("a host with a dash first", |f| f["deckies"][0]["host_uuid"] = json!("-w"), false),
        ("an empty host", |f| f["deckies"][0]["host_uuid"] = json!(""), false),
    ];
    agree(FLEET, &sample, cases, fleet);
}

#[test]
fn the_schema_of_catalogues_says_what_the_parser_says() {
    let catalogue =
        |bytes: &[u8]| Catalogue::builtin().with_json(bytes).map(drop).map_err(|error| error.to_string());
    for own in [
        include_str!("../src/engine/compose/catalogue/builtin.json"),
        include_str!("../examples/compose/catalogue.json"),
    ] {
        agree(CATALOGUE, &serde_json::from_str(own).unwrap(), &[("a sample", |_| (), true)], catalogue);
    }
    // The README's own.
    let readme = include_str!("../README.md");
    let start = readme.find("{\n  \"services\": {").unwrap();
    let sample: Value = serde_json::from_str(readme[start..].split("```").next().unwrap()).unwrap();
    let cases: &[Case] = &[
        ("the README's", |_| (), true),
        ("nothing", |c| *c = json!({}), true),
        ("a list", |c| *c = json!([]), false),
        ("a service that is a list", |c| c["services"]["x"] = json!(["busybox"]), false),
        (
            "a folder that is a list",
            |c| c["services"]["x"] = json!({"image": "a", "volumes": [["artifacts", "/a"]]}),
            false,
        ),
        (
            "a health check that is a list",
            |c| c["services"]["x"] = json!({"image": "a", "healthcheck": [["CMD"]]}),
            false,
        ),
        (
            "a setting that is a list",
            |c| c["services"]["x"] = json!({"image": "a", "settings": {"s": ["string"]}}),
            false,
        ),
        ("a base that is a list", |c| c["bases"] = json!({"x": ["y", ["z"]]}), false),
        ("a word that nobody knows", |c| c["service"] = json!({}), false),
        ("left out", |c| c["left_out"] = json!({"ssh": "not here"}), true),
        ("left out without a reason", |c| c["left_out"] = json!({"ssh": null}), false),
        ("a base of null", |c| c["bases"] = json!({"windows": null}), true),
        ("a base without a command", |c| c["bases"] = json!({"x": {"build": "y"}}), false),
        ("a service in capitals", |c| c["services"]["SSH"] = json!({"image": "x"}), false),
        ("neither image nor build", |c| c["services"]["x"] = json!({}), false),
        ("image and build", |c| c["services"]["x"] = json!({"image": "a", "build": "b"}), false),
        ("build", |c| c["services"]["x"] = json!({"build": "b", "build_args": {"A": "b"}}), true),
        (
            "build_args of an image",
            |c| c["services"]["x"] = json!({"image": "a", "build_args": {"A": "b"}}),
            false,
        ),
        ("an empty image", |c| c["services"]["x"] = json!({"image": ""}), false),
        ("a lone $", |c| c["services"]["x"] = json!({"image": "a$b"}), false),
        ("two $", |c| c["services"]["x"] = json!({"image": "a$$b"}), true),
        ("a control character", |c| c["services"]["x"] = json!({"image": "a\u{7}"}), false),
        (
            "a variable with a dash",
            |c| c["services"]["x"] = json!({"image": "a", "environment": {"A-B": "c"}}),
            false,
        ),
        (
            "a variable of a number",
            |c| c["services"]["x"] = json!({"image": "a", "environment": {"A": 1}}),
            false,
        ),
        ("a container's name", |c| c["services"]["x"] = json!({"image": "a", "container": "b_c.d"}), true),
        (
            "a container's name of two words",
            |c| c["services"]["x"] = json!({"image": "a", "container": "b c"}),
            false,
        ),
        ("a port without its kind", |c| c["services"]["x"] = json!({"image": "a", "ports": ["70"]}), false),
        ("port 0", |c| c["services"]["x"] = json!({"image": "a", "ports": ["0/tcp"]}), false),
        ("port 65535", |c| c["services"]["x"] = json!({"image": "a", "ports": ["65535/udp"]}), true),
        ("port 65536", |c| c["services"]["x"] = json!({"image": "a", "ports": ["65536/udp"]}), false),
        (
            "a folder that steps up",
            |c| {
                c["services"]["x"] =
                    json!({"image": "a", "volumes": [{"from": "artifacts", "to": "/a/../b"}]})
            },
            false,
        ),
        (
            "a folder that is not absolute",
            |c| c["services"]["x"] = json!({"image": "a", "volumes": [{"from": "artifacts", "to": "a"}]}),
            false,
        ),
        (
            "a folder with dots",
            |c| c["services"]["x"] = json!({"image": "a", "volumes": [{"from": "/a/..b", "to": "/..a/b.."}]}),
            true,
        ),
        (
            "another's artifacts",
            |c| {
                c["services"]["x"] =
                    json!({"image": "a", "volumes": [{"from": "artifacts/ssh", "to": "/a", "mode": "ro"}]})
            },
            true,
        ),
        (
            "a mode that is none",
            |c| {
                c["services"]["x"] =
                    json!({"image": "a", "volumes": [{"from": "artifacts", "to": "/a", "mode": "rwx"}]})
            },
            false,
        ),
        (
            "an enum",
            |c| {
                c["services"]["x"] =
                    json!({"image": "a", "settings": {"s": {"type": "enum", "of": ["a"], "variable": "S"}}})
            },
            true,
        ),
        (
            "an enum of nothing",
            |c| {
                c["services"]["x"] =
                    json!({"image": "a", "settings": {"s": {"type": "enum", "variable": "S"}}})
            },
            false,
        ),
        (
            "text of choices",
            |c| {
                c["services"]["x"] = json!({"image": "a", "settings": {"s": {"type": "string", "of": ["a"]}}})
            },
            false,
        ),
        (
            "a path",
            |c| {
                c["services"]["x"] = json!({"image": "a", "settings": {"s": {"type": "path", "to": "/a", "otherwise": "bait"}}})
            },
            true,
        ),
        (
            "a path to nowhere",
            |c| c["services"]["x"] = json!({"image": "a", "settings": {"s": {"type": "path"}}}),
            false,
        ),
        (
            "text to somewhere",
            |c| c["services"]["x"] = json!({"image": "a", "settings": {"s": {"type": "int", "to": "/a"}}}),
            false,
        ),
        (
            "a setting of no type",
            |c| c["services"]["x"] = json!({"image": "a", "settings": {"s": {"variable": "S"}}}),
            false,
        ),
        (
            "a setting's variable of a space",
            |c| c["services"]["x"] = json!({"image": "a", "settings": {"s": "A B"}}),
            false,
        ),
        (
            "retries below zero",
            |c| c["services"]["x"] = json!({"image": "a", "healthcheck": {"test": ["CMD"], "retries": -1}}),
            false,
        ),
        (
            "a health check without a test",
            |c| c["services"]["x"] = json!({"image": "a", "healthcheck": {}}),
            false,
        ),
    ];
    agree(CATALOGUE, &sample, cases, catalogue);
}
