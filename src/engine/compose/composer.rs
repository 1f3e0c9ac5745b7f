//! From a fleet and a catalogue to a compose file. Pure.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Component, Path};

use serde_json::Map;

use crate::fleet::{DeckyConfig, FleetConfig, Problem, Problems};
use crate::lifecycle::{DeckyName, ServiceName};

use super::catalogue::{BaseSpec, Catalogue, Effect, FolderPath, ServiceSpec, Source, VolumeSource};
use super::document::{
    Attachment, Build, ComposeFile, DECKY_LABEL, IS_SERVICE_LABEL, Logging, Network, SERVICE_LABEL, Service,
};
use super::format;
use super::image;
use super::settings::ComposeSettings;
use super::text::Text;

/// What a fleet composes to.
#[derive(Debug)]
pub(super) struct Composed {
    pub(super) file: ComposeFile,
    /// What was left out, by decky.
    pub(super) notes: Vec<(DeckyName, Problem)>,
}

/// The compose file of these deckies of a fleet, or all that is wrong.
pub(super) fn compose<'f>(
    settings: &ComposeSettings,
    catalogue: &Catalogue,
    deckies: impl Iterator<Item = (usize, &'f DeckyConfig)>,
) -> Result<Composed, Problems> {
    let mut composer = Composer {
        settings,
        catalogue,
        services: BTreeMap::new(),
        containers: BTreeSet::new(),
        problems: Vec::new(),
        notes: Vec::new(),
    };
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
    Ok(Composed { file: ComposeFile { services: composer.services, networks }, notes: composer.notes })
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
    containers: BTreeSet<String>,
    problems: Vec<Problem>,
    notes: Vec<(DeckyName, Problem)>,
}

/// A variable of a container, or a folder that it sees.
#[derive(Default)]
struct Surroundings {
    environment: BTreeMap<String, Text>,
    volumes: Vec<Text>,
}

impl Composer<'_> {
    fn decky(&mut self, path: &str, decky: &DeckyConfig) {
        let name = decky.name.as_str();
        let base = self.base(path, decky);
        self.add(path, name.to_owned(), name.to_owned(), base);
        for (place, service) in decky.services.iter().enumerate() {
            let path = format!("{path}.services[{place}]");
            if let Some(why) = self.catalogue.left_out(service) {
                let what = format!("{service} gets no container: {why}");
                self.note(decky, &path, what, "take it off the list");
                continue;
            }
            let Some(spec) = self.catalogue.get(service) else {
                let hint = match self.catalogue.nearest(service.as_str()) {
                    Some(near) => format!("did you mean {near}? Else define it in a catalogue file"),
                    None => "define it in a catalogue file".to_owned(),
                };
                self.report(&path, format!("nobody has defined the service {service}"), hint);
                continue;
            };
            let made = self.service(&path, decky, service, spec);
            let container = self.catalogue.container(&decky.name, service);
            self.add(&path, format!("{name}-{service}"), container, made);
        }
    }

    /// Adds a container; a name that is taken would merge two of them.
    fn add(&mut self, path: &str, key: String, container: String, service: Option<Service>) {
        let Some(service) = service else { return };
        if let Err(what) = format::container(&container) {
            let what = format!("its container would be called {container}: {what}");
            self.report(path, what, "rename the decky".to_owned());
            return;
        }
        if self.services.contains_key(&key) || !self.containers.insert(container.clone()) {
            let what = format!("its container would be called {container}, as another one is");
            self.report(path, what, "rename the decky, or list only one of the two services".to_owned());
            return;
        }
        let built = service.build.as_ref().and_then(|_| image::needed(&self.settings.project, &key));
        let image = service.image.or(built);
        self.services.insert(key, Service { container_name: container, image, ..service });
    }

    fn base(&mut self, path: &str, decky: &DeckyConfig) -> Option<Service> {
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
        let made = match self.catalogue.base(&decky.nmap_os) {
            Some(spec) => self.cloaked(path, decky, spec),
            None => self.text(&format!("{path}.base_image"), &decky.base_image).map(|image| Service {
                image: Some(image),
                command: vec![Text::own("sleep"), Text::own("infinity")],
                cap_add: vec![Text::own("NET_ADMIN")],
                ..Service::default()
            }),
        };
        Some(Service {
            hostname: Some(hostname?),
            restart: RESTART.to_owned(),
            networks: BTreeMap::from([(ORIGINAL_NETWORK.to_owned(), address)]),
            sysctls: self.catalogue.sysctls(&decky.nmap_os),
            labels: BTreeMap::from([(DECKY_LABEL.to_owned(), Text::own(decky.name.as_str()))]),
            ..made?
        })
    }

    /// A base that shapes the packets themselves, and for that knows which
    /// ports are open.
    fn cloaked(&mut self, path: &str, decky: &DeckyConfig, spec: &BaseSpec) -> Option<Service> {
        if steps_up(&spec.build) {
            let what = format!(
                "the base of {}: its folder steps up with `..`, and would leave the templates",
                decky.nmap_os
            );
            self.report(path, what, "mend `bases` in the catalogue file".to_owned());
            return None;
        }
        let build = self.build(path, decky, &spec.build, BTreeMap::new())?;
        let specs = decky.services.iter().filter_map(|service| self.catalogue.get(service));
        let ports: BTreeSet<u16> = specs.flat_map(|spec| &spec.ports).map(|port| port.number).collect();
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        let environment = BTreeMap::from([
            ("DECNET_NMAP_OS".to_owned(), self.text(&format!("{path}.nmap_os"), &decky.nmap_os)?),
            ("DECNET_OPEN_PORTS".to_owned(), Text::own(ports.join(","))),
            ("DECKY_IP".to_owned(), Text::own(decky.ip.to_string())),
        ]);
        Some(Service {
            build: Some(build),
            command: spec.command.clone(),
            cap_add: spec.capabilities.clone(),
            environment,
            ..Service::default()
        })
    }

    fn build(
        &mut self,
        path: &str,
        decky: &DeckyConfig,
        folder: &Path,
        mut args: BTreeMap<String, Text>,
    ) -> Option<Build> {
        let context = self.settings.templates.join(folder);
        let context = self.text(&format!("{path}: templates"), &context.to_string_lossy())?;
        if let Entry::Vacant(base) = args.entry("BASE_IMAGE".to_owned()) {
            base.insert(self.text(&format!("{path}: build_base"), &decky.build_base)?);
        }
        Some(Build { context, args })
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
            Source::Build { folder, args } => {
                let args = args.iter().map(|(name, value)| (name.as_str().to_owned(), value.clone()));
                (None, Some(self.build(path, decky, folder, args.collect())?))
            }
        };
        let Surroundings { environment, volumes } = self.surroundings(path, decky, name, spec)?;
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
        if let Source::Build { folder, .. } = &spec.source
            && steps_up(folder)
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

    /// The catalogue's variables and volumes, then what the fleet's settings
    /// do, then the variables that every service gets.
    fn surroundings(
        &mut self,
        path: &str,
        decky: &DeckyConfig,
        service: &ServiceName,
        spec: &ServiceSpec,
    ) -> Option<Surroundings> {
        let named = spec.environment.iter().map(|(name, value)| (name.as_str().to_owned(), value.clone()));
        let mut around = Surroundings { environment: named.collect(), volumes: Vec::new() };
        let artifacts = self.settings.artifacts.join(decky.name.as_str());
        for volume in &spec.volumes {
            let from = match &volume.from {
                VolumeSource::Folder(folder) => folder.as_str().to_owned(),
                VolumeSource::Artifacts(of) => {
                    let folder = artifacts.join(of.as_ref().unwrap_or(service).as_str());
                    folder.to_string_lossy().into_owned()
                }
            };
            let shared = format!("{from}:{}:{}", volume.to.as_str(), volume.mode.as_str());
            around.volumes.push(self.text(&format!("{path}: volume"), &shared)?);
        }
        let whole = self.set(path, decky, service, spec, &mut around);
        for (name, value) in [("NODE_NAME", decky.name.as_str()), ("HOSTNAME", &decky.hostname)] {
            around.environment.insert(name.to_owned(), Text::own(value));
        }
        whole.then_some(around)
    }

    /// Applies a decky's settings of a service; whether all could be.
    fn set(
        &mut self,
        path: &str,
        decky: &DeckyConfig,
        service: &ServiceName,
        spec: &ServiceSpec,
        around: &mut Surroundings,
    ) -> bool {
        let mut whole = true;
        let values = decky.service_config.get(service.as_str());
        for key in values.into_iter().flat_map(Map::keys).filter(|key| !spec.settings.contains_key(*key)) {
            let known: Vec<&str> = spec.settings.keys().map(String::as_str).collect();
            let hint = match crate::fleet::nearest(key, &known) {
                Some(near) => format!("did you mean {near}?"),
                None if known.is_empty() => "it has none".to_owned(),
                None => format!("it has {}", known.join(", ")),
            };
            let path = setting_path(path, service, key);
            self.note(decky, &path, format!("{service} has no such setting, it is left out"), &hint);
        }
        for (key, setting) in &spec.settings {
            let path = setting_path(path, service, key);
            let value = values.and_then(|values| values.get(key));
            let done = match value.map(|value| setting.effect(value)).transpose() {
                Ok(Some(effect)) if effect != Effect::Nothing => self.apply(&path, effect, around),
                Ok(_) => {
                    let bait = self.settings.bait.as_ref().map(|bait| bait.to_string_lossy().into_owned());
                    self.apply(&path, setting.default_effect(bait), around)
                }
                Err(misfit) => {
                    self.report(&path, misfit.what, misfit.hint);
                    None
                }
            };
            whole &= done.is_some();
        }
        whole
    }

    fn apply(&mut self, path: &str, effect: Effect<'_, String>, around: &mut Surroundings) -> Option<()> {
        match effect {
            Effect::Nothing => {}
            Effect::Variable(name, value) => {
                around.environment.insert(name.as_str().to_owned(), self.text(path, &value)?);
            }
            Effect::Folder { variable, from, to } => {
                let from = self.shared(path, from)?;
                around.volumes.push(self.text(path, &format!("{}:{}:ro", from.as_str(), to.as_str()))?);
                if let Some(name) = variable {
                    around.environment.insert(name.as_str().to_owned(), Text::own(to.as_str()));
                }
            }
        }
        Some(())
    }

    /// A folder of this machine that deckies may be shown. A fleet file comes
    /// from elsewhere, and what a decky sees, its visitors see.
    fn shared(&mut self, path: &str, folder: String) -> Option<FolderPath> {
        let is_ours = |folder: &FolderPath| {
            let folder = Path::new(folder.as_str());
            let bait = self.settings.bait.as_deref();
            bait == Some(folder) || self.settings.shared.iter().any(|shared| folder.starts_with(shared))
        };
        match FolderPath::try_from(folder) {
            Ok(folder) if is_ours(&folder) => Some(folder),
            Ok(folder) => {
                let shared = self.settings.shared.iter().map(|shared| shared.display().to_string());
                let what = format!(
                    "{} lies in no folder that deckies may be shown ({})",
                    folder.as_str(),
                    shared.collect::<Vec<_>>().join(", ")
                );
                self.report(
                    path,
                    what,
                    "move it there, or name its folder with the setting `shared`".to_owned(),
                );
                None
            }
            Err(what) => {
                self.report(path, what, "such as /srv/decnet/site".to_owned());
                None
            }
        }
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

    fn note(&mut self, decky: &DeckyConfig, path: &str, what: String, hint: &str) {
        let note = Problem { path: path.to_owned(), what, hint: hint.to_owned() };
        self.notes.push((decky.name.clone(), note));
    }
}

/// Whether a folder may lie elsewhere than it seems to.
fn steps_up(folder: &Path) -> bool {
    folder.components().any(|part| part == Component::ParentDir)
}

fn setting_path(path: &str, service: &ServiceName, key: &str) -> String {
    format!("{path}: service_config.{service}.{}", crate::fleet::shown(key))
}
