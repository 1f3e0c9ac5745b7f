//! What a compose engine knows that nobody may see: values of its catalogue, of
//! the settings that the catalogue calls passwords, of registries' logins, and
//! of the proxies that programs go through.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::fleet::FleetConfig;
use crate::lifecycle::Secrets;

use super::catalogue::{Catalogue, Source};

/// Variables that say where the daemon is: with a login, perhaps.
const DAEMON: [&str; 2] = ["DOCKER_HOST", "CONTAINER_HOST"];
/// The longest file of logins that is read.
const MAX_BYTES: u64 = 1 << 20;

/// All of them; of the fleet the values that only the catalogue knows as
/// secret.
pub(super) fn known(catalogue: &Catalogue, fleet: &FleetConfig) -> Secrets {
    let of_catalogue = catalogue.specs().flat_map(|spec| {
        let args = match &spec.source {
            Source::Build { args, .. } => args.iter().collect(),
            Source::Image(_) => Vec::new(),
        };
        spec.environment.iter().chain(args).map(|(name, value)| (name.as_str(), value.as_str()))
    });
    let daemon = DAEMON.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?)));
    let mut all: Vec<(String, Value)> =
        of_catalogue.map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
    all.extend(daemon.map(|(name, value)| (name.to_owned(), Value::from(value))));
    all.extend(logins(logins_dir()));
    for (service, values) in fleet.deckies.iter().flat_map(|decky| &decky.service_config) {
        let Some(spec) = catalogue.named(service) else { continue };
        let secret =
            values.iter().filter(|(key, _)| spec.settings.get(*key).is_some_and(|it| it.is_secret()));
        // Whatever it is called, it is a password.
        all.extend(secret.map(|(_, value)| ("password".to_owned(), value.clone())));
    }
    Secrets::within(all.iter().map(|(name, value)| (name.as_str(), value)))
}

/// The logins that the compose tool has kept; none if there are none, or if
/// they can't be read.
fn logins(dir: Option<PathBuf>) -> Map<String, Value> {
    let read = || {
        let mut text = String::new();
        File::open(dir?.join("config.json")).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    };
    read().unwrap_or_default()
}

fn logins_dir() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("DOCKER_CONFIG").or_else(|| set("HOME").map(|home| home.join(".docker")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_of_registries_and_proxies_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"auths": {"r.io": {"auth": "bWU6bGV0bWVpbi05OQ=="}, "q.io": {"identitytoken": "tok-4711-x"}},
            "proxies": {"default": {"httpProxy": "http://me:pr0xy-pass@proxy:3128"}}}"#;
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        let logins = logins(Some(dir.path().to_owned()));
        let known = Secrets::within(logins.iter().map(|(name, value)| (name.as_str(), value)));
        let shown = known.hide("me letmein-99 tok-4711-x pr0xy-pass proxy:3128");
        assert_eq!(shown, "me [scrubbed] [scrubbed] [scrubbed] proxy:3128");
        assert!(super::logins(Some(dir.path().join("nothing"))).is_empty());
    }

    #[test]
    fn what_only_the_catalogue_knows_as_secret_is_known() {
        let own = br#"{"services": {"gopher": {"image": "x",
            "environment": {"ADMIN_PASSWORD": "of-the-catalogue-1", "MOTD": "welcome all"},
            "settings": {"greeting": {"type": "password", "variable": "GREETING"}, "motd": "MOTD"}}}}"#;
        let catalogue = Catalogue::default().with_json(own).unwrap();
        let fleet =
            br#"{"mode": "unihost", "interface": "eth0", "subnet": "192.0.2.0/24", "gateway": "192.0.2.1",
            "deckies": [{"name": "a", "ip": "192.0.2.10", "services": ["gopher"], "distro": "debian",
            "base_image": "debian:12", "hostname": "srv",
            "service_config": {"gopher": {"greeting": "open-sesame-7", "motd": "good morning"}}}]}"#;
        let fleet = FleetConfig::from_json(fleet).unwrap();
        let shown =
            known(&catalogue, &fleet).hide("of-the-catalogue-1, welcome all, open-sesame-7, good morning");
        assert_eq!(shown, "[scrubbed], welcome all, [scrubbed], good morning");
        assert_eq!(Secrets::of(&fleet).hide("open-sesame-7"), "open-sesame-7");
    }
}
