//! Sections to what they ask for: deckies, settings, the network.

use std::net::Ipv4Addr;

use crate::fleet::archetype::Archetype;
use crate::fleet::{Problems, nearest, parse, shown};
use crate::lifecycle::{DeckyName, ServiceName};

use super::IniSettings;
use super::services::FLEET_WIDE;
use super::syntax::{Entry, File, Section};
use super::told::{Place, Told};
use super::value::{Budget, resolve, whole_number};

const DECKY_KEYS: [&str; 8] =
    ["ip", "services", "archetype", "amount", "nmap_os", "nmap-os", "mutate_interval", "mutate-interval"];

/// The most deckies of one section.
const MAX_AMOUNT: i64 = 100;

const MAX_TEXT: usize = 4_096;

/// What a file asks for.
#[derive(Debug, Default)]
pub(super) struct Outline<'f> {
    pub(super) general: Option<&'f Section>,
    pub(super) groups: Vec<Group<'f>>,
    pub(super) settings: Vec<SettingsOf<'f>>,
}

/// A section that makes deckies.
#[derive(Debug)]
pub(super) struct Group<'f> {
    pub(super) section: &'f Section,
    pub(super) amount: usize,
    pub(super) ip: Option<Ipv4Addr>,
    /// None are drawn.
    pub(super) services: Option<Vec<ServiceName>>,
    pub(super) archetype: Option<&'static Archetype>,
    pub(super) nmap_os: Option<String>,
    pub(super) mutate_interval: Option<i64>,
}

/// A section with settings of a service.
#[derive(Debug)]
pub(super) struct SettingsOf<'f> {
    pub(super) section: &'f Section,
    /// A decky's name, or what the names of several start with.
    pub(super) target: &'f str,
    pub(super) service: &'f str,
}

/// Reads sections and tells what is wrong with them.
pub(super) struct Reading<'f, 't> {
    pub(super) file: &'f File,
    pub(super) settings: &'f IniSettings,
    pub(super) told: &'t mut Told,
    pub(super) budget: Budget,
}

impl<'f> Reading<'f, '_> {
    pub(super) fn outline(&mut self) -> Outline<'f> {
        let mut outline = Outline::default();
        let mut services: Vec<&str> = self.settings.services.iter().map(ServiceName::as_str).collect();
        services.push(FLEET_WIDE);
        for entry in self.file.defaults.iter() {
            self.swallows(&Place { line: entry.line, text: "[DEFAULT]".to_owned() }, entry);
        }
        for section in &self.file.sections {
            let settings = section.name.rsplit_once('.').filter(|(_, service)| services.contains(service));
            if section.name == "general" {
                self.flat(section);
                outline.general = Some(section);
            } else if let Some((target, service)) = settings {
                outline.settings.push(SettingsOf { section, target, service });
            } else if let Some(name) = section.name.strip_prefix("custom-") {
                self.flat(section);
                self.custom(section, name);
            } else {
                self.flat(section);
                let group = self.group(section);
                outline.groups.push(group);
            }
        }
        outline
    }

    /// A key's value in a section, or in `[DEFAULT]`; none if it is empty.
    pub(super) fn text(&mut self, section: &'f Section, key: &str) -> Option<(String, Place)> {
        self.written(section, key).filter(|(value, _)| !value.is_empty())
    }

    fn written(&mut self, section: &'f Section, key: &str) -> Option<(String, Place)> {
        let (entry, place) = match section.entries.get(key) {
            Some(entry) => (entry, section.at(entry.line)),
            None => {
                let entry = self.file.defaults.get(key)?;
                (entry, Place { line: entry.line, text: format!("line {}, [DEFAULT]", entry.line) })
            }
        };
        if entry.goes_on.is_some() {
            // In the section itself it was told already.
            if section.entries.get(key).is_none() {
                self.one_line(section, entry);
            }
            return None;
        }
        let place = Place { text: format!("{} {key}", place.text), ..place };
        let value = match resolve(entry, &section.entries, &self.file.defaults, &mut self.budget) {
            Ok(value) => value.trim().to_owned(),
            Err(trouble) => {
                let (what, hint) = trouble.told();
                self.told.problem(&place, what, hint);
                return None;
            }
        };
        if value.len() > MAX_TEXT || value.chars().any(char::is_control) {
            let what = "it is too long, or holds control characters";
            self.told.problem(&place, what, format!("write at most {MAX_TEXT} plain characters"));
            return None;
        }
        Some((value, place))
    }

    /// Keys of these sections have one line each; a further one is a section
    /// or key that was indented.
    fn flat(&mut self, section: &Section) {
        for entry in section.entries.iter() {
            self.one_line(section, entry);
        }
    }

    /// Whether a key that has one line stands on one.
    pub(super) fn one_line(&mut self, section: &Section, entry: &Entry) -> bool {
        let Some(line) = entry.goes_on else { return true };
        let what = format!("it is indented, so it is part of {} of line {}", shown(&entry.key), entry.line);
        self.told.problem(&section.at(line), what, "write sections and keys at the start of the line");
        false
    }

    fn swallows(&mut self, place: &Place, entry: &Entry) {
        if let Some(line) = entry.swallows {
            let what =
                format!("it is indented, so it is part of {} of line {}", shown(&entry.key), entry.line);
            let place = Place { line, text: format!("line {line}, {}", place.text) };
            self.told.problem(&place, what, "write sections and keys at the start of the line");
        }
    }

    fn group(&mut self, section: &'f Section) -> Group<'f> {
        self.unread(section, &DECKY_KEYS);
        if let Some((_, ending)) = section.name.rsplit_once('.') {
            let known: Vec<&str> = self.settings.services.iter().map(ServiceName::as_str).collect();
            if let Some(near) = nearest(&ending.to_lowercase(), &known) {
                let what = format!("{} is no service, so this is no section of settings", shown(ending));
                self.told.problem(&section.place(), what, format!("did you mean {near}?"));
            }
        }
        let amount = self.amount(section);
        let ip = self.text(section, "ip").and_then(|(text, place)| {
            let parsed = text.parse().ok();
            if parsed.is_none() {
                let what = format!("{} is no IPv4 address", shown(&text));
                self.told.problem(&place, what, "write such as 10.66.0.10");
            }
            Some((parsed?, place))
        });
        if let (Some((_, place)), 2..) = (&ip, amount) {
            let what = format!("{amount} deckies can't have one address");
            self.told.problem(place, what, "take ip or amount away");
        }
        let archetype = self.archetype(section);
        let services = match self.text(section, "services") {
            Some((text, place)) => Some(self.services(&text, &place)),
            None => archetype.map(|archetype| {
                archetype.services.iter().filter_map(|name| ServiceName::parse(name).ok()).collect()
            }),
        };
        let nmap_os = self.text(section, "nmap_os").or_else(|| self.text(section, "nmap-os"));
        let interval =
            self.text(section, "mutate_interval").or_else(|| self.text(section, "mutate-interval"));
        let mutate_interval = interval.and_then(|(text, place)| {
            let minutes = whole_number(&text).filter(|minutes| *minutes >= 1);
            if minutes.is_none() {
                let what = format!("{} is no number of minutes", shown(&text));
                self.told.problem(&place, what, "write a whole number from 1");
            }
            minutes
        });
        Group {
            section,
            amount,
            ip: ip.map(|(ip, _)| ip).filter(|_| amount == 1),
            services,
            archetype,
            nmap_os: nmap_os.map(|(text, _)| text),
            mutate_interval,
        }
    }

    fn amount(&mut self, section: &'f Section) -> usize {
        let Some((text, place)) = self.written(section, "amount") else { return 1 };
        let amount = whole_number(&text).filter(|amount| (1..=MAX_AMOUNT).contains(amount));
        amount.and_then(|amount| usize::try_from(amount).ok()).unwrap_or_else(|| {
            let what = format!("{} is no number from 1 to {MAX_AMOUNT}", shown(&text));
            self.told.problem(&place, what, "write such as amount = 3");
            1
        })
    }

    fn archetype(&mut self, section: &'f Section) -> Option<&'static Archetype> {
        let (text, place) = self.text(section, "archetype")?;
        let found = Archetype::named(&text);
        if found.is_none() {
            let known: Vec<&str> = Archetype::ALL.iter().map(|archetype| archetype.slug).collect();
            let hint = match nearest(&text, &known) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("there are {}", known.join(", ")),
            };
            self.told.problem(&place, format!("there is no archetype {}", shown(&text)), hint);
        }
        found
    }

    fn services(&mut self, text: &str, place: &Place) -> Vec<ServiceName> {
        let mut services = Vec::new();
        for word in text.split(',').map(str::trim) {
            match ServiceName::parse(word) {
                Ok(service) if self.settings.services.contains(&service) => services.push(service),
                _ => {
                    let (what, hint) = self.no_service(word);
                    self.told.problem(place, what, hint);
                }
            }
        }
        let mut problems = Problems::default();
        parse::service_list(&place.text, &services, &mut problems);
        // That there are none is told by their names already.
        for problem in problems.list().iter().filter(|_| !services.is_empty()) {
            self.told.problem(place, problem.what.clone(), problem.hint.clone());
        }
        services
    }

    fn no_service(&self, word: &str) -> (String, String) {
        let known: Vec<&str> = self.settings.services.iter().map(ServiceName::as_str).collect();
        if word.is_empty() {
            return (
                "a service is missing beside a comma".to_owned(),
                "write services = ssh,http".to_owned(),
            );
        }
        if word == FLEET_WIDE {
            let what = format!("{word} is one for the whole fleet, no service of a decky");
            return (what, "take it off the list".to_owned());
        }
        let what = format!("there is no service {}", shown(word));
        let comment = word.find(['#', ';']).and_then(|at| word.get(..at));
        if comment.is_some() {
            return (what, "write comments on lines of their own".to_owned());
        }
        let hint = match nearest(&word.to_lowercase(), &known) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("there are {}", known.join(", ")),
        };
        (what, hint)
    }

    /// Notes the keys of a section that nothing reads.
    pub(super) fn unread(&mut self, section: &Section, known: &[&str]) {
        for entry in section.entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let hint = match nearest(&entry.key, known) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("[{}] may have {}", shown(&section.name), known.join(", ")),
            };
            let what = format!("nothing reads {}", shown(&entry.key));
            self.told.note(&section.at(entry.line), what, hint);
        }
    }

    /// A service of one's own. In the original only the process that reads
    /// the file knows it, and neither its mutations nor its agents.
    fn custom(&mut self, section: &'f Section, name: &str) {
        if ServiceName::parse(name).is_ok_and(|service| self.settings.services.contains(&service)) {
            let what = format!("the catalogue's {} is taken, not this one", shown(name));
            self.told.note(&section.place(), what, "take this section away");
            return;
        }
        let image = self.text(section, "binary").map(|(image, _)| image).unwrap_or_default();
        let command = self.text(section, "exec").map(|(command, _)| command).unwrap_or_default();
        let ports = self.text(section, "ports").map(|(ports, _)| ports).unwrap_or_default();
        let ports: Vec<String> = ports
            .split(',')
            .map(str::trim)
            .filter(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
            .map(|port| format!("{port}/tcp"))
            .collect();
        let words: Vec<String> = command.split_whitespace().map(|word| word.replace('$', "$$")).collect();
        let entry = serde_json::json!({
            "services": {name: {"image": image.replace('$', "$$"), "command": words, "ports": ports}}
        });
        let what = format!("{} would be known to this file alone, not to mutations and workers", shown(name));
        let entry: String = entry.to_string().chars().filter(|c| !c.is_control()).take(400).collect();
        self.told.problem(&section.place(), what, format!("define it in a catalogue file: {entry}"));
    }
}

/// The names of a group's deckies.
pub(super) fn names(group: &Group<'_>, told: &mut Told) -> Vec<DeckyName> {
    let name = &group.section.name;
    let written = |number: usize| match group.amount {
        1 => name.clone(),
        _ => format!("{name}-{number:02}"),
    };
    let parsed: Result<Vec<DeckyName>, _> =
        (1..=group.amount).map(|number| DeckyName::parse(&written(number))).collect();
    parsed.unwrap_or_else(|error| {
        told.problem(&group.section.place(), error.to_string(), "write another name");
        Vec::new()
    })
}
