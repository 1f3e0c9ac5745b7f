//! Settings of services, to the deckies that they are for.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::fleet::shown;

use super::outline::{Reading, SettingsOf};
use super::services::{ORIGINAL, is_longer_text};
use super::value::{decoded, resolve};

/// `service_config` of the deckies, by their places.
pub(super) type Tables = BTreeMap<usize, BTreeMap<String, Map<String, Value>>>;

impl<'f> Reading<'f, '_> {
    /// Gives each section of settings to the decky of its name, else to all
    /// whose names start with it and a dash. What is closer to a decky's own
    /// name comes over what is for more.
    pub(super) fn settings(&mut self, sections: &[SettingsOf<'f>], names: &BTreeMap<&str, usize>) -> Tables {
        let mut tables = Tables::new();
        let mut ordered: Vec<&SettingsOf<'f>> = sections.iter().collect();
        ordered.sort_by_key(|of| (names.contains_key(of.target), of.target.len()));
        for of in ordered {
            let places: Vec<usize> = match names.get(of.target) {
                Some(place) => vec![*place],
                None => {
                    let start = format!("{}-", of.target);
                    let from = names.range(start.as_str()..);
                    from.take_while(|(name, _)| name.starts_with(&start)).map(|(_, place)| *place).collect()
                }
            };
            let Some(table) = self.table(of) else { continue };
            if places.is_empty() {
                let what = format!("there is no decky {}", shown(of.target));
                let hint = "name a decky, or what the names of some start with before a dash";
                self.told.note(&of.section.place(), what, hint);
            }
            let size = 1 + table
                .iter()
                .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
                .sum::<usize>();
            for place in places {
                if let Err(trouble) = self.budget.spend(size) {
                    let (what, hint) = trouble.told();
                    self.told.problem(&of.section.place(), what, hint);
                    return tables;
                }
                let services = tables.entry(place).or_default();
                services.entry(of.service.to_owned()).or_default().extend(table.clone());
            }
        }
        tables
    }

    /// All keys of a section of settings, those of `[DEFAULT]` too.
    fn table(&mut self, of: &SettingsOf<'f>) -> Option<Map<String, Value>> {
        let file = self.file;
        let section = of.section;
        let inherited = file.defaults.iter().filter(|entry| section.entries.get(&entry.key).is_none());
        let mut table = Map::new();
        let mut whole = true;
        for entry in section.entries.iter().chain(inherited) {
            let place = section.at(entry.line);
            let is_longer = is_longer_text(of.service, &entry.key);
            if is_longer && entry.swallows.is_some() {
                let what = format!("{} goes on over what looks like a section", shown(&entry.key));
                self.told.note(&place, what, "write it at the start of the line if it is one");
            }
            // Nothing is known of the settings of services of one's own.
            let has_one_line = entry.swallows.is_some() || ORIGINAL.contains(&of.service);
            let is_own = section.entries.get(&entry.key).is_some();
            if has_one_line && is_own && !is_longer {
                whole &= self.one_line(section, entry);
            }
            let value = resolve(entry, &section.entries, &file.defaults, &mut self.budget);
            let told = match value {
                Ok(value) if is_longer => match decoded(value) {
                    Some(value) => {
                        table.insert(entry.key.clone(), Value::from(value));
                        continue;
                    }
                    None => {
                        let what =
                            format!("{}: what follows b64: is not the base64 of UTF-8 text", entry.key);
                        (what, "encode it anew, or write the text itself")
                    }
                },
                Ok(value) => {
                    table.insert(entry.key.clone(), Value::from(value));
                    continue;
                }
                Err(trouble) => {
                    let (what, hint) = trouble.told();
                    (format!("{}: {what}", shown(&entry.key)), hint)
                }
            };
            self.told.problem(&place, told.0, told.1);
            whole = false;
        }
        whole.then_some(table)
    }
}
