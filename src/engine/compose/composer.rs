//! From a fleet and a catalogue to a compose file. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use serde_json::Value;

use crate::fleet::{DeckyConfig, FleetConfig, Problem, Problems};
use crate::lifecycle::ServiceName;

use super::catalogue::{Catalogue, EnvName, ServiceSpec, Source, VolumeSource};
use super::document::{
    Attachment, Build, ComposeFile, DECKY_LABEL, IS_SERVICE_LABEL, Logging, Network, SERVICE_LABEL, Service,
    container_name,
};
use super::format;
use super::settings::ComposeSettings;
use super::text::Text;

/// The compose file of these deckies of a fleet, or all that is wrong.
pub(super) fn compose<'f>(
    settings: &ComposeSettings,
    catalogue: &Catalogue,
    deckies: impl Iterator<Item = (usize, &'f DeckyConfig)>,
) -> Result<ComposeFile, Problems> {
    let mut composer = Composer { settings, catalogue, services: BTreeMap::new(), problems: Vec::new() };
    for (place, decky) in deckies {
        composer.decky(&format!("deckies[{place}]"), decky);
    }
    if !composer.problems.is_empty() {
        return Err(Problems::new(composer.problems));
    }
    let network = settings.network.as_str();
    // The file's own name for it is the original's, whatever Docker's is.
    let name = (network != ORIGINAL_NETWORK).then(|| network.to_owned());
    let networks = BTreeMap::from([(ORIGINAL_NETWORK.to_owned(), Network { external: true, name })]);
    Ok(ComposeFile { services: composer.services, networks })
}

/// All deckies of a fleet that run on the machine itself.
pub(super) fn local(fleet: &FleetConfig) -> impl Iterator<Item = (usize, &DeckyConfig)> {
    let elsewhere =
        |decky: &DeckyConfig| matches!(fleet.mode, crate::fleet::Mode::Swarm) && decky.host_uuid.is_some();
    fleet.deckies.iter().enumerate().filter(move |(_, decky)| !elsewhere(decky))
}

const ORIGINAL_NETWORK: &str = "decnet_lan";
/// When the daemon starts a container again by itself.
pub(super) const RESTART: &str = "unless-stopped";

struct Composer<'c> {
    settings: &'c ComposeSettings,
    catalogue: &'c Catalogue,
    services: BTreeMap<String, Service>,
    problems: Vec<Problem>,
}

impl Composer<'_> {
    fn decky(&mut self, path: &str, decky: &DeckyConfig) {
        let base = self.base(path, decky);
        self.add(path, decky.name.as_str().to_owned(), base);
        for (place, service) in decky.services.iter().enumerate() {
            let path = format!("{path}.services[{place}]");
            let Some(spec) = self.catalogue.get(service) else {
                let hint = match self.catalogue.nearest(service.as_str()) {
                    Some(near) => format!("did you mean {near}? Else define it in a catalogue file"),
                    None => "define it in a catalogue file".to_owned(),
                };
                self.report(&path, format!("nobody has defined the service {service}"), hint);
                continue;
            };
            let made = self.service(&path, decky, service, spec);
            self.add(&path, container_name(&decky.name, service), made);
        }
    }

    /// Adds a container; a name that is taken would merge two of them.
    fn add(&mut self, path: &str, name: String, service: Option<Service>) {
        let Some(service) = service else { return };
        if let Err(what) = format::container(&name) {
            let what = format!("its container would be called {name}: {what}");
            self.report(path, what, "rename the decky".to_owned());
        }
        match self.services.entry(name) {
            Entry::Vacant(place) => {
                let container_name = place.key().clone();
                place.insert(Service { container_name, ..service });
            }
            Entry::Occupied(taken) => {
                let name = taken.key();
                let what = format!("its container would be called {name}, as another one is");
                self.report(path, what, "rename the decky, or list only one of the two services".to_owned());
            }
        }
    }

    fn base(&mut self, path: &str, decky: &DeckyConfig) -> Option<Service> {
        let image = self.text(&format!("{path}.base_image"), &decky.base_image);
        let hostname = self.text(&format!("{path}.hostname"), &decky.hostname);
        if let Err(what) = format::image(&decky.base_image) {
            let hint = "write an image such as \"debian:12\"".to_owned();
            self.report(&format!("{path}.base_image"), what.to_owned(), hint);
        }
        if let Err(what) = format::hostname(&decky.hostname) {
            self.report(&format!("{path}.hostname"), what, "write a shorter one".to_owned());
        }
        let address = match decky.ip {
            IpAddr::V4(_) => Attachment { ipv4_address: Some(decky.ip), ipv6_address: None },
            IpAddr::V6(_) => Attachment { ipv4_address: None, ipv6_address: Some(decky.ip) },
        };
        Some(Service {
            image: Some(image?),
            hostname: Some(hostname?),
            command: vec![Text::own("sleep"), Text::own("infinity")],
            restart: RESTART.to_owned(),
            networks: BTreeMap::from([(ORIGINAL_NETWORK.to_owned(), address)]),
            sysctls: self.catalogue.sysctls(&decky.nmap_os),
            cap_add: vec![Text::own("NET_ADMIN")],
            labels: BTreeMap::from([(DECKY_LABEL.to_owned(), Text::own(decky.name.as_str()))]),
            ..Service::default()
        })
    }

    fn service(
        &mut self,
        path: &str,
        decky: &DeckyConfig,
        name: &ServiceName,
        spec: &ServiceSpec,
    ) -> Option<Service> {
        let (image, build) = match &spec.source {
            Source::Image(image) => (Some(image.clone()), None),
            Source::Build(folder) => {
                let context = self.settings.templates.join(folder);
                let base = self.text(&format!("{path}: build_base"), &decky.build_base)?;
                let context = self.text(&format!("{path}: templates"), &context.to_string_lossy())?;
                let args = BTreeMap::from([("BASE_IMAGE".to_owned(), base)]);
                (None, Some(Build { context, args }))
            }
        };
        let environment = self.environment(path, decky, name, spec)?;
        let artifacts = self.settings.artifacts.join(decky.name.as_str()).join(name.as_str());
        let mut volumes = Vec::new();
        for volume in &spec.volumes {
            let from = match &volume.from {
                VolumeSource::Folder(folder) => folder.as_str().to_owned(),
                VolumeSource::Artifacts => artifacts.to_string_lossy().into_owned(),
            };
            let shared = format!("{from}:{}:{}", volume.to.as_str(), volume.mode.as_str());
            volumes.push(self.text(&format!("{path}: volume"), &shared)?);
        }
        self.entry(path, name, spec);
        let label = |value: &str| Text::own(value);
        Some(Service {
            image,
            build,
            command: spec.command.clone(),
            restart: RESTART.to_owned(),
            cap_add: spec.capabilities.clone(),
            environment,
            volumes,
            network_mode: Some(format!("service:{}", decky.name)),
            depends_on: vec![decky.name.as_str().to_owned()],
            healthcheck: spec.healthcheck.clone(),
            logging: Some(Logging {
                driver: "json-file".to_owned(),
                options: BTreeMap::from([
                    ("max-size".to_owned(), "10m".to_owned()),
                    ("max-file".to_owned(), "5".to_owned()),
                ]),
            }),
            labels: BTreeMap::from([
                (IS_SERVICE_LABEL.to_owned(), label("true")),
                (DECKY_LABEL.to_owned(), label(decky.name.as_str())),
                (SERVICE_LABEL.to_owned(), label(name.as_str())),
            ]),
            ..Service::default()
        })
    }

    /// What a compose tool would refuse in a service's catalogue entry.
    fn entry(&mut self, path: &str, name: &ServiceName, spec: &ServiceSpec) {
        let mut wrong = Vec::new();
        if let Source::Image(image) = &spec.source
            && let Err(what) = format::image(image.as_str())
        {
            wrong.push(format!("its image won't do: {what}"));
        }
        if let Source::Build(folder) = &spec.source
            && folder.components().any(|part| part == std::path::Component::ParentDir)
        {
            wrong.push("its folder steps up with `..`, and would leave the templates".to_owned());
        }
        if let Some(Err(what)) = spec.healthcheck.as_ref().map(format::health) {
            wrong.push(format!("its health check won't do: {what}"));
        }
        if let Some(double) = format::double(spec.capabilities.iter().map(Text::as_str)) {
            wrong.push(format!("its capability {double} is listed twice"));
        }
        if let Some(double) = format::double(spec.volumes.iter().map(|volume| volume.to.as_str())) {
            wrong.push(format!("two of its volumes are at {double}"));
        }
        for what in wrong {
            let hint = format!("mend the entry {name} of the catalogue file");
            self.report(path, format!("the service {name}: {what}"), hint);
        }
    }

    /// The catalogue's variables, then the fleet's settings, then those that
    /// every service gets.
    fn environment(
        &mut self,
        path: &str,
        decky: &DeckyConfig,
        service: &ServiceName,
        spec: &ServiceSpec,
    ) -> Option<BTreeMap<String, Text>> {
        let named = |(name, value): (&EnvName, &Text)| (name.as_str().to_owned(), value.clone());
        let mut environment: BTreeMap<String, Text> = spec.environment.iter().map(named).collect();
        let mut whole = true;
        for (key, value) in decky.service_config.get(service.as_str()).into_iter().flatten() {
            let path = format!("{path}: service_config.{service}.{}", key.escape_debug());
            let variable = match spec.settings.get(key) {
                Some(variable) => Ok(variable.clone()),
                None => EnvName::of_setting(service, key),
            };
            let variable = match variable {
                Ok(variable) => variable,
                Err(hint) => {
                    self.report(&path, "it can't name a variable".to_owned(), hint);
                    whole = false;
                    continue;
                }
            };
            let value = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            match self.text(&path, &value) {
                Some(text) => {
                    environment.insert(variable.as_str().to_owned(), text);
                }
                None => whole = false,
            }
        }
        environment.insert("NODE_NAME".to_owned(), Text::own(decky.name.as_str()));
        environment.insert("HOSTNAME".to_owned(), Text::own(decky.hostname.as_str()));
        whole.then_some(environment)
    }

    fn text(&mut self, path: &str, text: &str) -> Option<Text> {
        let kept = Text::new(text);
        if kept.is_none() {
            let what = "it holds a character that a compose file can't carry".to_owned();
            self.report(path, what, "write it without control characters".to_owned());
        }
        kept
    }

    fn report(&mut self, path: &str, what: String, hint: String) {
        self.problems.push(Problem { path: path.to_owned(), what, hint });
    }
}
