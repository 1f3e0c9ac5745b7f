//! The built-in catalogue, against facts of the original's: each service, each
//! setting, each system.

use std::collections::BTreeSet;

use decnet_lifecycle::engine::compose::{Catalogue, ComposeEngine, ComposeSettings};
use decnet_lifecycle::{
    FleetConfig, ServiceName,
    fleet::{Archetype, Distro},
};
use serde_json::{Map, Value, json};

const FACTS: &str = include_str!("original/catalogue-facts.json");

/// Where ours differs from the original, and is meant to.
mod intended {
    use serde_json::{Value, json};

    /// Base containers carry their decky's name, to be found by it.
    pub fn base_labels(decky: &str) -> Value {
        json!({"decnet.fleet.decky": decky})
    }

    /// A `$` of a setting stays one; there a compose tool would take it for a
    /// variable of the machine's own.
    pub fn dollars(text: &str) -> String {
        text.replace('$', "$$")
    }

    /// What a fleet may have shown to a decky lies below folders that the
    /// operator names; there it is any folder of the machine.
    pub const SHARED: &str = "/SENTINEL";

    /// The mails of imap and pop3 without `email_seed` are a setting of the
    /// engine; there it is a folder of the source tree.
    pub const BAIT: &str = "/srv/bait";

    /// In `b64:..` of a textarea is the text; there the decoy gets the code.
    pub const ENCODED: (&str, &str) = ("b64:PGgxPsOpPC9oMT4=", "<h1>\u{e9}</h1>");
}

fn facts() -> Value {
    serde_json::from_str(FACTS).unwrap()
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap()
}

fn engine() -> ComposeEngine {
    let mut settings = ComposeSettings::default();
    settings.templates = "/t".into();
    settings.artifacts = "/a".into();
    settings.shared = vec![intended::SHARED.into()];
    ComposeEngine::new("/x").settings(settings)
}

/// One decky with this changed.
fn fleet(change: impl FnOnce(&mut Value)) -> FleetConfig {
    let mut decky = json!({"name": "web_server", "ip": "10.0.0.9", "services": ["ftp"], "distro": "alpine",
        "base_image": "base:1", "build_base": "build:1", "hostname": "srv-1", "nmap_os": "linux"});
    change(&mut decky);
    let fleet = json!({"mode": "unihost", "interface": "eth0", "subnet": "10.0.0.0/24", "gateway": "10.0.0.1",
        "deckies": [decky]});
    FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap()
}

fn with_service(service: &str, settings: Value) -> FleetConfig {
    fleet(|decky| {
        decky["services"] = json!([service]);
        decky["service_config"] = json!({service: settings});
    })
}

fn composed(engine: &ComposeEngine, fleet: &FleetConfig) -> Value {
    let file: Value = serde_json::from_str(&engine.compose(fleet).unwrap().to_json()).unwrap();
    file["services"].clone()
}

fn of_decky(text: &Value) -> String {
    text.as_str().unwrap().replace("<decky>", "web_server").replace("<artifacts>", "/a")
}

/// What the original's composer makes of a service without settings.
fn expected(service: &str, fact: &Value, all: &Value) -> Value {
    let mut environment: Map<String, Value> = object(&fact["environment_default"])
        .iter()
        .map(|(name, value)| (name.clone(), json!(intended::dollars(&of_decky(value)))))
        .collect();
    environment.insert("HOSTNAME".into(), json!("srv-1"));
    let mut args = fact["build_args_fixed"].clone();
    if fact["build_arg_BASE_IMAGE"] == "decky.build_base" {
        args["BASE_IMAGE"] = json!("build:1");
    }
    let mut made = json!({
        "container_name": of_decky(&fact["container_name"]),
        "restart": fact["restart"],
        "build": {"context": format!("/t/{}", fact["build_dir_below_templates"].as_str().unwrap()), "args": args},
        "environment": environment,
        "network_mode": "service:web_server",
        "depends_on": ["web_server"],
        "logging": all["every_service_container"]["logging"],
        "labels": {"decnet.fleet.service": "true", "decnet.fleet.decky": "web_server",
                   "decnet.fleet.service_name": service},
    });
    let volumes: Vec<String> = fact["volumes"].as_array().unwrap().iter().map(of_decky).collect();
    if !volumes.is_empty() {
        made["volumes"] = json!(volumes);
    }
    if fact["cap_add"] != json!([]) {
        made["cap_add"] = fact["cap_add"].clone();
    }
    made
}

fn services(facts: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object(&facts["services"]).iter().filter(|(_, fact)| fact.get("fleet_singleton").is_none())
}

#[test]
fn each_service_is_made_as_the_original_makes_it() {
    let facts = facts();
    let engine = engine();
    for (name, fact) in services(&facts) {
        let made = composed(&engine, &with_service(name, json!({})));
        let key = of_decky(&fact["compose_service_key"]);
        assert_eq!(object(&made).keys().collect::<Vec<_>>(), ["web_server", &key]);
        assert_eq!(made[&key], expected(name, fact, &facts), "{name}");
    }
    let known: BTreeSet<String> = Catalogue::builtin().services().map(ServiceName::to_string).collect();
    assert_eq!(known, services(&facts).map(|(name, _)| name.clone()).collect());
    assert_eq!(known.len(), 28);
}

#[test]
fn each_setting_does_what_it_does_in_the_original() {
    let facts = facts();
    let engine = engine();
    let mut tried = 0;
    for (name, fact) in services(&facts) {
        let plain = expected(name, fact, &facts);
        let key = of_decky(&fact["compose_service_key"]);
        let made = |settings: Value| composed(&engine, &with_service(name, settings))[&key].clone();
        for (setting, rule) in object(&fact["service_config"]) {
            let sample = &rule["sample_value"];
            let mut wanted = plain.clone();
            for (variable, value) in object(&rule["sets_env"]) {
                let value = value.as_str().unwrap().replace("<value>", sample.as_str().unwrap_or_default());
                wanted["environment"][variable] = json!(value);
            }
            for volume in rule["adds_volumes"].as_array().into_iter().flatten() {
                let rest = volume.as_str().unwrap().split_once(">:").unwrap().1;
                let volume = json!(format!("{}:{rest}", sample.as_str().unwrap()));
                match wanted["volumes"].as_array_mut() {
                    Some(volumes) => volumes.push(volume),
                    None => wanted["volumes"] = json!([volume]),
                }
            }
            assert_eq!(made(json!({ setting: sample })), wanted, "{name}.{setting}");
            // As an INI file has it, whose values are all text.
            let text = match sample {
                Value::String(text) => text.clone(),
                Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
                other => other.to_string(),
            };
            assert_eq!(made(json!({ setting: text })), wanted, "{name}.{setting} as text");
            if rule["when_false"] == "as default" {
                assert_eq!(made(json!({ setting: false })), plain, "{name}.{setting} off");
                assert_eq!(made(json!({ setting: "no" })), plain, "{name}.{setting} off");
            }
            if let Some(written) = rule.get("when_object") {
                let made = made(json!({ setting: {"A": "b"} }));
                let variable = object(&rule["sets_env"]).keys().next().unwrap();
                assert_eq!(made["environment"][variable], *written, "{name}.{setting}");
            }
            if rule["type"] == "textarea" {
                let (code, text) = intended::ENCODED;
                let made = made(json!({ setting: code }));
                let variable = object(&rule["sets_env"]).keys().next().unwrap();
                assert_eq!(made["environment"][variable], text, "{name}.{setting}");
            }
            for choice in rule["enum"].as_array().into_iter().flatten() {
                made(json!({ setting: choice }));
            }
            for nothing in [json!(null), json!("")] {
                assert_eq!(made(json!({ setting: nothing })), plain, "{name}.{setting} unset");
            }
            tried += 1;
        }
        let other = with_service(name, json!({"nobody_declared_it": "x"}));
        assert_eq!(composed(&engine, &other)[&key], plain, "{name}");
        let told = engine.left_out(&other).unwrap();
        assert_eq!(told.len(), 1, "{told:?}");
        let start =
            format!("deckies[0].services[0]: service_config.{name}.nobody_declared_it: {name} has no such");
        assert!(told[0].to_string().starts_with(&start), "{}", told[0]);
    }
    assert_eq!(tried, 51);
}

#[test]
fn each_system_looks_as_in_the_original() {
    let facts = facts();
    let engine = engine();
    let base = &facts["base_container"];
    let cloak = &base["if_system_has_cloak"];
    for (system, fact) in
        object(&facts["systems"]).iter().chain([(&"plan9".to_owned(), &facts["systems"]["linux"])])
    {
        let fleet = fleet(|decky| {
            decky["nmap_os"] = json!(system);
            decky["services"] = json!(["smb", "http", "https"]);
        });
        let mut wanted = json!({
            "container_name": "web_server", "hostname": "srv-1", "restart": base["restart"],
            "networks": {"decnet_lan": {"ipv4_address": "10.0.0.9"}}, "sysctls": fact["sysctls"],
            "labels": intended::base_labels("web_server"),
        });
        if fact["cloak"].is_null() {
            wanted["image"] = json!("base:1");
            wanted["command"] = base["command"].clone();
            wanted["cap_add"] = base["cap_add"].clone();
        } else {
            wanted["build"] = json!({"context": format!("/t/{}", cloak["build_dir_below_templates"].as_str().unwrap()),
                                     "args": {"BASE_IMAGE": "build:1"}});
            wanted["command"] = cloak["command"].clone();
            wanted["cap_add"] = cloak["cap_add"].clone();
            wanted["environment"] = json!({"DECNET_NMAP_OS": system, "DECNET_OPEN_PORTS": "80,139,443,445",
                                           "DECKY_IP": "10.0.0.9"});
            assert_eq!(object(&cloak["environment"]).len(), 3);
        }
        assert_eq!(composed(&engine, &fleet)["web_server"], wanted, "{system}");
    }
}

#[test]
fn open_ports_are_those_that_the_original_lists() {
    let facts = facts();
    for (name, fact) in services(&facts) {
        let fleet = fleet(|decky| {
            decky["nmap_os"] = json!("windows");
            decky["services"] = json!([name]);
        });
        let mut ports: Vec<u64> =
            fact["ports_tcp_or_udp_as_listed"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
        ports.sort_unstable();
        let listed = ports.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let made = composed(&engine(), &fleet);
        assert_eq!(made["web_server"]["environment"]["DECNET_OPEN_PORTS"], listed, "{name}");
    }
}

#[test]
fn archetypes_and_distributions_are_the_originals() {
    let facts = facts();
    assert_eq!(Archetype::ALL.len(), object(&facts["archetypes"]).len());
    for archetype in Archetype::ALL {
        let ours = json!({"services": archetype.services, "preferred_distros": archetype.distros,
                          "nmap_os": archetype.nmap_os});
        assert_eq!(ours, facts["archetypes"][archetype.slug], "{}", archetype.slug);
    }
    assert_eq!(Distro::ALL.len(), object(&facts["distros"]).len());
    for distro in Distro::ALL {
        let fact = &facts["distros"][distro.slug];
        assert_eq!(json!([distro.image, distro.build_base]), json!([fact["image"], fact["build_base"]]));
    }
}

#[test]
fn a_service_of_the_whole_fleet_is_left_out_with_a_word() {
    let fleet = fleet(|decky| decky["services"] = json!(["ssh", "sniffer"]));
    let made = composed(&engine(), &fleet);
    assert_eq!(object(&made).keys().collect::<Vec<_>>(), ["web_server", "web_server-ssh"]);
    let told = engine().left_out(&fleet).unwrap();
    assert_eq!(told.len(), 1);
    let wanted = "deckies[0].services[1]: sniffer gets no container: it is one for the whole fleet, no service of a \
                  decky; take it off the list";
    assert_eq!(told[0].to_string(), wanted);
    // Whoever defines it has it.
    let own =
        Catalogue::builtin().with_json(br#"{"services": {"sniffer": {"image": "own/sniffer:1"}}}"#).unwrap();
    assert_eq!(composed(&engine().catalogue(own), &fleet)["web_server-sniffer"]["image"], "own/sniffer:1");
}

#[test]
fn values_that_do_not_fit_are_told_and_never_shown() {
    let engine = engine();
    let told = |service: &str, settings: Value| {
        let told = engine.compose(&with_service(service, settings)).unwrap_err();
        assert_eq!(told.list().len(), 1, "{told}");
        told.to_string().split_once(&format!("service_config.{service}.")).unwrap().1.to_owned()
    };
    let secret = "hunter2";
    for (service, settings, wanted) in [
        ("http", json!({"response_code": secret}), "response_code: this text won't do; write a whole number"),
        ("http", json!({"response_code": [1]}), "response_code: a list won't do; write a whole number"),
        (
            "http",
            json!({"fake_app": secret}),
            "fake_app: this text won't do; write one of none, wordpress, phpmyadmin, tomcat, jenkins",
        ),
        (
            "http",
            json!({"http_versions": ["http/3"]}),
            "http_versions: this text won't do; write one of http/1.1, http/2",
        ),
        ("rdp", json!({"nla": secret}), "nla: this text won't do; write true or false"),
        ("ssh", json!({"password": {secret: 1}}), "password: an object won't do; write text"),
        (
            "https",
            json!({"tls_key": "b64:?"}),
            "tls_key: this text won't do; after b64: write the base64 of UTF-8 text",
        ),
        (
            "imap",
            json!({"email_seed": "mails"}),
            "email_seed: \"mails\" is no folder to share; write an absolute path without ':' and '..'; such as /srv/decnet/site",
        ),
        (
            "http",
            json!({"files": "/SENTINEL/../etc"}),
            "files: \"/SENTINEL/../etc\" is no folder to share; write an absolute path without ':' and '..'; such as /srv/decnet/site",
        ),
        (
            "http",
            json!({"files": "/etc"}),
            "files: /etc lies in no folder that deckies may be shown (/SENTINEL); move it there, or name its folder with the setting `shared`",
        ),
    ] {
        let told = told(service, settings);
        assert_eq!(told, wanted);
        assert!(!told.contains(secret));
    }
}

#[test]
fn bait_stands_in_for_mails() {
    let mut settings = ComposeSettings::default();
    settings.bait = Some(intended::BAIT.into());
    let engine = ComposeEngine::new("/x").settings(settings);
    for (service, variable) in [("imap", "IMAP_EMAIL_SEED"), ("pop3", "POP3_EMAIL_SEED")] {
        let made = composed(&engine, &with_service(service, json!({})));
        let made = &made[format!("web_server-{service}")];
        assert_eq!(made["volumes"], json!([format!("{}:/var/spool/decnet-emails/seed:ro", intended::BAIT)]));
        assert_eq!(made["environment"][variable], "/var/spool/decnet-emails/seed");
    }
}

#[test]
fn names_that_no_image_may_have_get_an_image_that_may() {
    let named = |name: &str| {
        let fleet = fleet(|decky| decky["name"] = json!(name));
        composed(&engine(), &fleet)[format!("{name}-ftp")]["image"].clone()
    };
    // The tool's own name for it will do, as in the original.
    assert_eq!((named("web_server"), named("decky-01")), (Value::Null, Value::Null));
    let (upper, lower) = (named("DC01"), named("dc_01_"));
    assert!(upper.as_str().unwrap().starts_with("decnet-dc01-ftp-"), "{upper}");
    assert!(lower.as_str().unwrap().starts_with("decnet-dc-01-ftp-"), "{lower}");
    assert_ne!(named("DC01"), named("Dc01"));
    // Docker's containers have two letters at least.
    let told = engine().compose(&fleet(|decky| decky["name"] = json!("a"))).unwrap_err().to_string();
    assert!(told.contains("Docker takes no names of one letter; rename the decky"), "{told}");
}

#[test]
fn what_a_catalogue_file_is_that_it_should_not_be_is_named() {
    let own = r#"{"services": {"gopher": {"image": "x"}}}"#;
    let wide = |bytes: &[u8], mark: &[u8]| -> Vec<u8> {
        mark.iter().copied().chain(bytes.iter().flat_map(|byte| [*byte, 0])).collect()
    };
    let twice =
        own.replace(r#""gopher": {"image": "x"}"#, r#""gopher": {"image": "x"}, "gopher": {"image": "y"}"#);
    for (bytes, says) in [
        ([b"\xef\xbb\xbf".as_slice(), own.as_bytes()].concat(), "byte order mark"),
        (wide(own.as_bytes(), b"\xff\xfe"), "UTF-16"),
        (wide(own.as_bytes(), b""), "UTF-16 without"),
        (twice.into_bytes(), "the key \"gopher\" stands twice"),
    ] {
        let told = Catalogue::builtin().with_json(&bytes).unwrap_err().to_string();
        assert!(told.contains(says), "{told}");
    }
    assert!(Catalogue::builtin().with_json(own.as_bytes()).is_ok());
}
