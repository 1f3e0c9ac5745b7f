//! What a fleet composes to, against what the original writes.

use decnet_lifecycle::engine::compose::{
    Catalogue, CatalogueError, ComposeEngine, ComposeFile, ComposeSettings,
};
use decnet_lifecycle::{DeckyName, FleetConfig};
use serde_json::{Value, json};

const ORIGINAL: &[u8] = include_bytes!("data/compose-unihost-3.json");

fn fleet() -> FleetConfig {
    FleetConfig::from_json(include_bytes!("data/fleet-unihost-3.json")).unwrap()
}

fn composed(engine: &ComposeEngine, fleet: &FleetConfig) -> Value {
    serde_json::from_str(&engine.compose(fleet).unwrap().to_json()).unwrap()
}

/// The fleet with this in its first decky.
fn with(change: impl FnOnce(&mut Value)) -> FleetConfig {
    let mut value: Value = serde_json::from_str(&fleet().to_json()).unwrap();
    change(&mut value["deckies"][0]);
    FleetConfig::from_json(value.to_string().as_bytes()).unwrap()
}

#[test]
fn a_fleet_composes_to_what_the_original_writes() {
    let mut original: Value = serde_json::from_slice(ORIGINAL).unwrap();
    // Intended: compose tools ignore the version, and newer ones complain.
    original.as_object_mut().unwrap().remove("version");
    // Intended: base containers carry their decky's name, to be found by it.
    for name in ["decky-01", "decky-02", "decky-03"] {
        original["services"][name]["labels"] = json!({"decnet.fleet.decky": name});
    }
    assert_eq!(composed(&ComposeEngine::new("/x"), &fleet()), original);
}

#[test]
fn operating_systems_look_different_and_unknown_ones_like_linux() {
    let ttl = |system: &str| {
        let fleet = with(|decky| decky["nmap_os"] = json!(system));
        composed(&ComposeEngine::new("/x"), &fleet)["services"]["decky-01"]["sysctls"]
            ["net.ipv4.ip_default_ttl"]
            .clone()
    };
    assert_eq!((ttl("linux"), ttl("windows"), ttl("plan9")), (json!("64"), json!("128"), json!("64")));
}

#[test]
fn settings_become_variables_and_a_dollar_stays_a_dollar() {
    let fleet = with(|decky| {
        decky["hostname"] = json!("a$b");
        decky["service_config"] =
            json!({"ssh": {"password": "p$w${HOME}", "user": "x: y\n- z"}, "http": {"server_header": 7}});
    });
    let file = composed(&ComposeEngine::new("/x"), &fleet);
    let ssh = &file["services"]["decky-01-ssh"]["environment"];
    assert_eq!(ssh["SSH_ROOT_PASSWORD"], "p$$w$${HOME}");
    assert_eq!((&ssh["SSH_USER"], &ssh["HOSTNAME"]), (&json!("x: y\n- z"), &json!("a$$b")));
    assert_eq!(file["services"]["decky-01-http"]["environment"]["SERVER_HEADER"], "7");
}

#[test]
fn what_cannot_be_composed_is_told_at_once_with_where_and_what_to_do() {
    let fleet = with(|decky| {
        decky["services"] = json!(["sssh", "ssh", "docker-api"]);
        decky["service_config"] = json!({"ssh": {"user": "\u{1}"}});
    });
    let told = ComposeEngine::new("/x").compose(&fleet).unwrap_err().to_string();
    for wanted in [
        "deckies[0].services[0]: nobody has defined the service sssh; did you mean ssh?",
        "nobody has defined the service docker-api; did you mean docker_api?",
        "service_config.ssh.user: it holds a character that a compose file can't carry",
    ] {
        assert!(told.contains(wanted), "{told}");
    }
    // A decky can't take another's container over by its name.
    let mut two: Value = serde_json::from_str(&self::fleet().to_json()).unwrap();
    two["deckies"][1]["name"] = json!("decky-01-ssh");
    let two = FleetConfig::from_json(two.to_string().as_bytes()).unwrap();
    let told = ComposeEngine::new("/x").compose(&two).unwrap_err().to_string();
    assert!(told.contains("its container would be called decky-01-ssh, as another one is"), "{told}");
    // Nor by the name that a service's container has with dashes.
    let mut two: Value = serde_json::from_str(&self::fleet().to_json()).unwrap();
    two["deckies"][0]["services"] = json!(["docker_api"]);
    two["deckies"][1]["name"] = json!("decky-01-docker-api");
    let two = FleetConfig::from_json(two.to_string().as_bytes()).unwrap();
    let told = ComposeEngine::new("/x").compose(&two).unwrap_err().to_string();
    assert!(told.contains("its container would be called decky-01-docker-api, as another one is"), "{told}");
}

#[test]
fn a_catalogue_of_ones_own_overrides_and_adds() {
    let own = br#"{"services": {
        "ssh": {"image": "own/ssh:1", "volumes": [{"from": "/srv/keys", "to": "/keys", "mode": "ro"}]},
        "gopher": {"build": "/srv/gopher", "capabilities": ["NET_RAW"], "command": ["g", "$$x"], "ports": ["70/tcp"],
                   "healthcheck": {"test": ["CMD", "true"], "interval": "1s", "retries": 2}}}}"#;
    let mut settings = ComposeSettings::default();
    settings.artifacts = "/data".into();
    let engine =
        ComposeEngine::new("/x").settings(settings).catalogue(Catalogue::builtin().with_json(own).unwrap());
    let file = composed(&engine, &with(|decky| decky["services"] = json!(["ssh", "gopher"])));
    let (ssh, gopher) = (&file["services"]["decky-01-ssh"], &file["services"]["decky-01-gopher"]);
    assert_eq!((&ssh["image"], &ssh["volumes"]), (&json!("own/ssh:1"), &json!(["/srv/keys:/keys:ro"])));
    assert!(ssh.get("build").is_none());
    assert_eq!(
        (&gopher["build"]["context"], &gopher["command"]),
        (&json!("/srv/gopher"), &json!(["g", "$$x"]))
    );
    assert_eq!((&gopher["cap_add"], &gopher["healthcheck"]["retries"]), (&json!(["NET_RAW"]), &json!(2)));

    for (bad, why) in [
        (r#"{"services": {"x": {}}}"#, "either \"image\" or \"build\""),
        (r#"{"services": {"x": {"image": "a", "build": "b"}}}"#, "either \"image\" or \"build\""),
        (r#"{"services": {"x": {"image": "a", "privileged": true}}}"#, "unknown field `privileged`"),
        (r#"{"services": {"x": {"image": "$HOME"}}}"#, "a lone $"),
        (r#"{"services": {"x": {"image": "a", "ports": ["22"]}}}"#, "is no port"),
        (r#"{"services": {"x": {"image": "a", "environment": {"A B": "c"}}}}"#, "environment variable"),
        (
            r#"{"services": {"x": {"image": "a", "volumes": [{"from": "../x", "to": "/x"}]}}}"#,
            "no folder to share",
        ),
        (
            r#"{"services": {"x": {"image": "a", "volumes": [{"from": "/a:/etc", "to": "/x"}]}}}"#,
            "no folder to share",
        ),
        (r#"{"services": {"../x": {"image": "a"}}}"#, "service name"),
        (
            r#"{"services": {"x": {"image": "a", "build_args": {"A": "b"}}}}"#,
            "\"build_args\" only with the latter",
        ),
        (r#"{"services": {"x": {"image": "a", "container": "a b"}}}"#, "part of a container's name"),
        (r#"{"services": {"x": {"image": "a", "settings": {"s": "A B"}}}}"#, "environment variable"),
        (
            r#"{"services": {"x": {"image": "a", "settings": {"s": {"type": "word"}}}}}"#,
            "a setting is a variable's name",
        ),
        (
            r#"{"services": {"x": {"image": "a", "settings": {"s": {"type": "enum"}}}}}"#,
            "its choices in \"of\"",
        ),
        (
            r#"{"services": {"x": {"image": "a", "settings": {"s": {"type": "int", "of": ["1"]}}}}}"#,
            "its choices in \"of\"",
        ),
        (r#"{"services": {"x": {"image": "a", "settings": {"s": {"type": "path"}}}}}"#, "where it is shown"),
        (
            r#"{"services": {"x": {"image": "a", "settings": {"s": {"type": "path", "to": "../x"}}}}}"#,
            "no folder to share",
        ),
        (
            r#"{"services": {"x": {"image": "a", "volumes": [{"from": "artifacts/..", "to": "/x"}]}}}"#,
            "service name",
        ),
    ] {
        let told = Catalogue::builtin().with_json(bad.as_bytes()).unwrap_err().to_string();
        assert!(told.contains(why) && told.contains("line 1"), "{bad}: {told}");
    }
    let flood = vec![b' '; Catalogue::MAX_BYTES + 1];
    assert!(matches!(Catalogue::builtin().with_json(&flood), Err(CatalogueError::TooLarge { .. })));
}

#[test]
fn deckies_of_worker_hosts_are_left_out() {
    let fleet = FleetConfig::from_json(include_bytes!("data/fleet-swarm-9.json")).unwrap();
    let local: Vec<&DeckyName> =
        fleet.deckies.iter().filter(|decky| decky.host_uuid.is_none()).map(|decky| &decky.name).collect();
    let file = ComposeEngine::new("/x").compose(&fleet).unwrap();
    assert!(fleet.deckies.len() > local.len());
    assert_eq!(file.len(), local.iter().map(|decky| file.containers(decky).count()).sum::<usize>());
}

#[test]
fn only_a_file_of_this_engine_reads_back() {
    let text = ComposeEngine::new("/x").compose(&fleet()).unwrap().to_json();
    assert!(ComposeFile::from_json(text.as_bytes()).is_ok());
    for (from, to) in [("\"restart\"", "\"privileged\": true, \"restart\""), ("sleep", "$sleep")] {
        assert!(ComposeFile::from_json(text.replace(from, to).as_bytes()).is_err());
    }
}

#[test]
fn what_the_compose_format_and_docker_cannot_hold_is_refused_with_the_fleet() {
    let engine = |entry: Value| {
        let own = json!({"services": {"own": entry}}).to_string();
        ComposeEngine::new("/x").catalogue(Catalogue::builtin().with_json(own.as_bytes()).unwrap())
    };
    let refused =
        |engine: &ComposeEngine, fleet: &FleetConfig| engine.compose(fleet).unwrap_err().to_string();
    let plain = engine(json!({"image": "x"}));
    for (change, told) in [
        (
            json!({"base_image": ""}),
            "deckies[0].base_image: it is empty; write an image such as \"debian:12\"",
        ),
        (json!({"base_image": "Debian 12"}), "deckies[0].base_image: an image's name has lowercase"),
        (json!({"hostname": "h".repeat(64)}), "deckies[0].hostname: a host's name has at most 63 letters"),
        (json!({"name": "g"}), "would be called g: Docker takes no names of one letter; rename the decky"),
    ] {
        let fleet = with(|decky| {
            let fields = decky.as_object_mut().unwrap();
            fields.extend(change.as_object().unwrap().clone());
        });
        let problems = refused(&plain, &fleet);
        assert!(problems.contains(told), "{problems}");
    }
    let own = with(|decky| decky["services"] = json!(["own"]));
    assert!(plain.compose(&own).is_ok());
    for (entry, told) in [
        (json!({"image": "a b"}), "the service own: its image won't do"),
        (json!({"build": "../../etc"}), "its folder steps up with `..`"),
        (
            json!({"image": "x", "capabilities": ["NET_RAW", "NET_RAW"]}),
            "its capability NET_RAW is listed twice",
        ),
        (
            json!({"image": "x", "volumes": [{"from": "/a", "to": "/v"}, {"from": "/b", "to": "/v"}]}),
            "two of its volumes are at /v",
        ),
        (json!({"image": "x", "healthcheck": {"test": []}}), "its test is [\"CMD\", program, ..]"),
        (json!({"image": "x", "healthcheck": {"test": ["true"]}}), "its test is [\"CMD\", program, ..]"),
        (
            json!({"image": "x", "healthcheck": {"test": ["CMD", "true"], "interval": "5 parsecs"}}),
            "its interval is no duration; write such as \"90s\"",
        ),
    ] {
        let problems = refused(&engine(entry.clone()), &own);
        assert!(problems.contains(told) && problems.contains("mend the entry own"), "{entry}: {problems}");
    }
    let bases = json!({"bases": {"linux": {"build": "../../etc", "command": ["x"]}}}).to_string();
    let catalogue = Catalogue::builtin().with_json(bases.as_bytes()).unwrap();
    let problems = refused(&ComposeEngine::new("/nowhere").catalogue(catalogue), &with(|_| {}));
    assert!(problems.contains("would leave the templates") && problems.contains("`bases`"), "{problems}");
}
