//! From JSON to a fleet: strict where the original is, and all errors at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};

use crate::lifecycle::{DeckyName, HostId, NameError, ServiceName};

use super::error::shown;
use super::{DeckyConfig, FleetConfig, FleetError, Mode, Problem, Problems, json, nearest, whole};

/// What the original builds services on unless told otherwise.
const BUILD_BASE: &str =
    "debian:bookworm-slim@sha256:f9c6a2fd2ddbc23e336b6257a5245e31f996953ef06cd13a59fa0a1df2d5c252";

const DECKY_FIELDS: [&str; 14] = [
    "name",
    "ip",
    "services",
    "distro",
    "base_image",
    "build_base",
    "hostname",
    "archetype",
    "service_config",
    "nmap_os",
    "mutate_interval",
    "last_mutated",
    "last_login_attempt",
    "host_uuid",
];

/// Fields that are of a few words or figures. What is written in any other may
/// be a secret, and stays untold.
const OPEN_FIELDS: [&str; 7] =
    ["mode", "subnet", "gateway", "ip", "mutate_interval", "last_mutated", "last_login_attempt"];

const MAX_TEXT: usize = 4_096;
const MAX_SERVICES: usize = 64;

pub(super) fn value(bytes: &[u8]) -> Result<Value, FleetError> {
    if bytes.len() > FleetConfig::MAX_BYTES {
        return Err(FleetError::TooLarge { len: bytes.len(), max: FleetConfig::MAX_BYTES });
    }
    json::read(bytes)
}

/// A fleet, or the fleet in a state file.
pub(super) fn fleet(value: &Value) -> Result<FleetConfig, FleetError> {
    let (prefix, value) = match value.get("config") {
        Some(inner) if value.get("deckies").is_none() => ("config.", inner),
        _ => ("", value),
    };
    let mut problems = Problems::default();
    let fleet = root(prefix, value, &mut problems);
    match fleet {
        Some(fleet) if problems.is_empty() => Ok(fleet),
        _ => Err(FleetError::Invalid(problems)),
    }
}

pub(super) fn check_services(path: &str, services: &[ServiceName]) -> Result<(), FleetError> {
    let mut problems = Problems::default();
    service_list(path, services, &mut problems);
    if problems.is_empty() { Ok(()) } else { Err(FleetError::Invalid(problems)) }
}

fn root(prefix: &str, value: &Value, problems: &mut Problems) -> Option<FleetConfig> {
    let Value::Object(object) = value else {
        report(
            problems,
            prefix.trim_end_matches('.'),
            wrong("an object", value),
            "write {\"mode\": .., \"deckies\": [..], ..}",
        );
        return None;
    };
    let mut fields = Fields { prefix, object, problems };
    let mode = fields.required("mode", "\"unihost\" or \"swarm\"", |value| match value.as_str()? {
        "unihost" => Some(Mode::Unihost),
        "swarm" => Some(Mode::Swarm),
        _ => None,
    });
    let interface = fields.required("interface", "text such as \"eth0\"", text);
    let subnet: Option<IpNet> = fields
        .required("subnet", "a network such as \"192.168.48.0/20\"", |value| value.as_str()?.parse().ok());
    let gateway: Option<IpAddr> =
        fields
            .required("gateway", "an address such as \"192.168.48.1\"", |value| value.as_str()?.parse().ok());
    let log_file = fields.optional("log_file", None, "text or null", nullable(text));
    let ipvlan = fields.optional("ipvlan", false, "true or false", Value::as_bool);
    let mutate_interval = fields.optional(
        "mutate_interval",
        Some(30),
        "a whole number of minutes or null",
        nullable(Value::as_i64),
    );
    let wanted = format!("a list of 1 to {} deckies", FleetConfig::MAX_DECKIES);
    let list = fields.required("deckies", &wanted, |value| {
        value.as_array().filter(|list| !list.is_empty() && list.len() <= FleetConfig::MAX_DECKIES)
    });
    let deckies: Vec<Option<DeckyConfig>> = list
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(place, value)| decky(&format!("{prefix}deckies[{place}]"), value, problems))
        .collect();
    if let (Some(subnet), Some(gateway)) = (subnet, gateway)
        && let Some((field, what, hint)) = whole::unfit(&subnet, gateway)
    {
        report(problems, &format!("{prefix}{field}"), what, &hint);
    }
    whole::check(
        &deckies,
        subnet.zip(gateway),
        &|place| format!("deckies[{place}]"),
        &mut |place, field, what, hint| {
            report(problems, &format!("{prefix}deckies[{place}].{field}"), what, hint);
        },
    );
    Some(FleetConfig {
        mode: mode?,
        interface: interface?,
        subnet: subnet?,
        gateway: gateway?,
        deckies: deckies.into_iter().collect::<Option<Vec<_>>>()?,
        log_file,
        ipvlan,
        mutate_interval,
    })
}

fn decky(path: &str, value: &Value, problems: &mut Problems) -> Option<DeckyConfig> {
    let Value::Object(object) = value else {
        report(problems, path, wrong("an object", value), "write {\"name\": .., \"ip\": .., ..}");
        return None;
    };
    let prefix = format!("{path}.");
    for field in object.keys().filter(|field| !DECKY_FIELDS.contains(&field.as_str())) {
        problems.add(|| Problem {
            path: format!("{prefix}{}", shown(field)),
            what: "a decky has no such field".into(),
            hint: match nearest(field, &DECKY_FIELDS) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("remove it; a decky has {}", DECKY_FIELDS.join(", ")),
            },
        });
    }
    let mut fields = Fields { prefix: &prefix, object, problems };
    let name = fields.name("name", DeckyName::parse);
    let ip =
        fields.required("ip", "an address such as \"192.168.48.10\"", |value| value.as_str()?.parse().ok());
    let services = fields.services();
    let distro = fields.required("distro", "text such as \"debian\"", text);
    let base_image = fields.required("base_image", "text such as \"debian:12\"", text);
    let build_base = fields.optional("build_base", BUILD_BASE.to_owned(), "text", text);
    let hostname = fields.required("hostname", "text such as \"srv-01\"", text);
    let archetype = fields.optional("archetype", None, "text or null", nullable(text));
    let service_config = fields.optional(
        "service_config",
        BTreeMap::new(),
        "an object with an object for each service",
        service_settings,
    );
    let nmap_os = fields.optional("nmap_os", "linux".to_owned(), "text", text);
    let mutate_interval = fields.optional(
        "mutate_interval",
        None,
        "a whole number of minutes or null",
        nullable(Value::as_i64),
    );
    let last_mutated = fields.optional("last_mutated", 0.0, "a number of seconds", Value::as_f64);
    let last_login_attempt = fields.optional("last_login_attempt", 0.0, "a number of seconds", Value::as_f64);
    let host_uuid = match object.get("host_uuid") {
        None | Some(Value::Null) => Some(None),
        Some(_) => fields.name("host_uuid", HostId::parse).map(Some),
    };
    Some(DeckyConfig {
        name: name?,
        ip: ip?,
        services: services?,
        distro: distro?,
        base_image: base_image?,
        build_base,
        hostname: hostname?,
        archetype,
        service_config,
        nmap_os,
        mutate_interval,
        last_mutated,
        last_login_attempt,
        host_uuid: host_uuid?,
    })
}

/// The fields of one object, each read once, with its problems reported.
struct Fields<'f, 'p> {
    prefix: &'p str,
    object: &'f Map<String, Value>,
    problems: &'p mut Problems,
}

impl<'f> Fields<'f, '_> {
    fn required<T>(&mut self, field: &str, wanted: &str, read: impl Fn(&'f Value) -> Option<T>) -> Option<T> {
        let Some(value) = self.object.get(field) else {
            self.report(field, "it is missing".into(), &format!("write {wanted}"));
            return None;
        };
        let read = read(value);
        if read.is_none() {
            let given = if OPEN_FIELDS.contains(&field) { told(value) } else { kind(value) };
            self.report(field, format!("{given} won't do"), &format!("write {wanted}"));
        }
        read
    }

    fn optional<T>(
        &mut self,
        field: &str,
        default: T,
        wanted: &str,
        read: impl Fn(&'f Value) -> Option<T>,
    ) -> T {
        if self.object.contains_key(field) {
            self.required(field, wanted, read).unwrap_or(default)
        } else {
            default
        }
    }

    fn name<T>(&mut self, field: &str, parse: impl Fn(&str) -> Result<T, NameError>) -> Option<T> {
        let text = self.required(field, "text", |value| value.as_str())?;
        parse(text).map_err(|error| self.report(field, error.to_string(), "write another name")).ok()
    }

    fn services(&mut self) -> Option<Vec<ServiceName>> {
        let list = self.required("services", "a list such as [\"ssh\", \"http\"]", Value::as_array)?;
        let mut services = Vec::new();
        for (place, value) in list.iter().take(MAX_SERVICES + 1).enumerate() {
            let field = format!("services[{place}]");
            match value.as_str().map(ServiceName::parse) {
                Some(Ok(service)) => services.push(service),
                Some(Err(error)) => {
                    self.report(&field, error.to_string(), "write a service's name such as \"ssh\"")
                }
                None => self.report(
                    &field,
                    format!("{} won't do", told(value)),
                    "write a service's name such as \"ssh\"",
                ),
            }
        }
        let whole = services.len() == list.len();
        if whole {
            service_list(&format!("{}services", self.prefix), &services, self.problems);
        }
        whole.then_some(services)
    }

    fn report(&mut self, field: &str, what: String, hint: &str) {
        report(self.problems, &format!("{}{field}", self.prefix), what, hint);
    }
}

pub(super) fn service_list(path: &str, services: &[ServiceName], problems: &mut Problems) {
    if services.is_empty() {
        report(problems, path, "a decky offers at least one service".into(), "write one such as [\"ssh\"]");
    }
    if services.len() > MAX_SERVICES {
        let what = format!("{} services are too many", services.len());
        report(problems, path, what, &format!("write at most {MAX_SERVICES}"));
    }
    let mut seen = BTreeSet::new();
    for service in services.iter().filter(|service| !seen.insert(*service)) {
        report(problems, path, format!("{service} is listed twice"), "list each service once");
    }
}

fn text(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let fits = text.len() <= MAX_TEXT && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

fn nullable<'v, T>(read: impl Fn(&'v Value) -> Option<T>) -> impl Fn(&'v Value) -> Option<Option<T>> {
    move |value| {
        if value.is_null() { Some(None) } else { read(value).map(Some) }
    }
}

fn service_settings(value: &Value) -> Option<BTreeMap<String, Map<String, Value>>> {
    let object = value.as_object()?;
    object.iter().map(|(service, settings)| Some((service.clone(), settings.as_object()?.clone()))).collect()
}

fn report(problems: &mut Problems, path: &str, what: String, hint: &str) {
    problems.add(|| Problem { path: path.to_owned(), what, hint: hint.to_owned() });
}

fn wrong(wanted: &str, value: &Value) -> String {
    format!("{wanted} is wanted here, not {}", kind(value))
}

/// What kind of value it is; never what is in it, which may be a secret, or
/// endless.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(_) => "a number".into(),
        Value::String(_) => "a text".into(),
        Value::Array(list) if list.is_empty() => "an empty list".into(),
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(_) => "an object".into(),
    }
}

/// The value itself, where it can be no secret and is short.
fn told(value: &Value) -> String {
    match value {
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text \"{}\"", shown(text)),
        other => kind(other),
    }
}
