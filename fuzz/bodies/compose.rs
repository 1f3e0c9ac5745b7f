//! Any fleet that is accepted gives a compose file that says only what a
//! fleet may say.

use std::collections::BTreeSet;

use decnet_lifecycle::FleetConfig;
use decnet_lifecycle::engine::compose::{ComposeEngine, ComposeFile};
use serde_json::{Value, json};

/// The bytes are a fleet file; or a decky's texts and settings.
pub fn compose(data: &[u8]) {
    if let Ok(fleet) = FleetConfig::from_json(data) {
        check(&fleet);
    }
    let text = String::from_utf8_lossy(data);
    let mut words = text.split('\u{1f}').map(str::to_owned);
    let mut word = || words.next().unwrap_or_default();
    let fleet = json!({"mode": "unihost", "interface": word(), "subnet": "10.0.0.0/24", "gateway": "10.0.0.1",
        "deckies": [{"name": "aa", "ip": "10.0.0.2", "services": ["ssh", "docker_api"], "distro": word(),
                     "base_image": word(), "build_base": word(), "hostname": word(), "nmap_os": word(),
                     "service_config": {"ssh": {word(): word(), "password": word()}, word(): {word(): word()},
                                        "docker_api": {word(): [word()], word(): {word(): null}}}},
                    {"name": "bb", "ip": "10.0.0.3", "services": ["http"], "distro": "x", "base_image": "y",
                     "hostname": "z"}]});
    if let Ok(fleet) = FleetConfig::from_json(fleet.to_string().as_bytes()) {
        check(&fleet);
    }
}

fn check(fleet: &FleetConfig) {
    let Ok(file) = ComposeEngine::new("/x").compose(fleet) else { return };
    let text = file.to_json();
    assert_eq!(ComposeFile::from_json(text.as_bytes()).unwrap(), file);
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(keys(&value), ["networks", "services"]);
    assert_eq!(value["networks"], json!({"decnet_lan": {"external": true}}));
    let mut wanted = BTreeSet::new();
    for decky in
        fleet.deckies.iter().filter(|decky| decky.host_uuid.is_none() || fleet.shards().hosts.is_empty())
    {
        wanted.insert(decky.name.to_string());
        for service in &decky.services {
            if service.as_str() != "sniffer" {
                wanted.insert(format!("{}-{service}", decky.name));
            }
        }
    }
    let services: BTreeSet<String> = keys(&value["services"]).into_iter().map(str::to_owned).collect();
    assert_eq!(services, wanted);
    const KNOWN: [&str; 17] = [
        "image",
        "build",
        "container_name",
        "hostname",
        "command",
        "restart",
        "networks",
        "network_mode",
        "depends_on",
        "sysctls",
        "cap_add",
        "environment",
        "volumes",
        "healthcheck",
        "logging",
        "labels",
        "",
    ];
    for (name, service) in value["services"].as_object().unwrap() {
        assert!(keys(service).iter().all(|key| KNOWN.contains(key)), "{service}");
        let container = service["container_name"].as_str().unwrap();
        assert_eq!(container.replace('_', "-"), name.replace('_', "-"));
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let volume = volume.as_str().unwrap();
            let is_own = volume.starts_with("/var/lib/decnet/artifacts/");
            let is_shared =
                ["/srv/decnet", "/usr/lib/decnet"].iter().any(|shared| volume.starts_with(shared));
            assert!(is_own || is_shared && volume.ends_with(":ro"), "{volume}");
            assert!(!volume.contains("..") && volume.matches(':').count() == 2, "{volume}");
        }
        if let Some(context) = service["build"].get("context") {
            assert!(context.as_str().unwrap().starts_with("/usr/lib/decnet/templates/"), "{context}");
        }
        lone_dollars(service);
    }
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// A `$` that isn't doubled would be taken for a variable.
fn lone_dollars(value: &Value) {
    match value {
        Value::String(text) => assert!(!text.replace("$$", "").contains('$'), "{text}"),
        Value::Array(list) => list.iter().for_each(lone_dollars),
        Value::Object(fields) => fields.values().for_each(lone_dollars),
        _ => {}
    }
}
