//! What a compose tool says while it works, in a few words for a decky.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::engine::Work;
use crate::lifecycle::DeckyName;

use super::document::ComposeFile;

const STATES: [&str; 10] = [
    "creating",
    "created",
    "starting",
    "started",
    "recreating",
    "recreated",
    "recreate",
    "building",
    "built",
    "pulling",
];

/// Names and states stand at the front of a line.
const WORDS: usize = 8;

/// Turns the tool's lines into notes on deckies; what says nothing new is
/// left out.
pub(super) struct Teller<'w> {
    work: &'w Work,
    /// Decky and what remains of the name, by container.
    containers: BTreeMap<String, (DeckyName, String)>,
    told: Mutex<BTreeMap<String, String>>,
}

impl<'w> Teller<'w> {
    pub(super) fn new(work: &'w Work, file: &ComposeFile) -> Self {
        let mut containers = BTreeMap::new();
        for decky in work.deckies.keys() {
            for name in file.containers(decky) {
                let rest = name.strip_prefix(decky.as_str()).unwrap_or(name).trim_start_matches('-');
                let rest = if rest.is_empty() { "base" } else { rest };
                containers.insert(name.to_owned(), (decky.clone(), rest.to_owned()));
            }
        }
        Self { work, containers, told: Mutex::default() }
    }

    /// One line of the tool's output: ` Container decky-01-ssh  Started`,
    /// `Creating decky-01-ssh ... done` and `#5 [decky-01-ssh 2/3] RUN ..` are
    /// the shapes there are.
    pub(super) fn hear(&self, line: &str) {
        let mut state = None;
        let mut name = None;
        for word in line.split_whitespace().take(WORDS) {
            let word = word.trim_end_matches("...").trim_matches(['[', ']']);
            let lower = word.to_ascii_lowercase();
            if let Some(known) = STATES.iter().find(|state| **state == lower) {
                state = Some(*known);
            } else if name.is_none() {
                name = self.containers.get_key_value(word);
            }
        }
        if line.starts_with('#') && line.contains('[') {
            state = Some("building");
        }
        let (Some(state), Some((container, (decky, part)))) = (state, name) else { return };
        let state = match (state, line.ends_with("done")) {
            ("creating" | "recreating" | "starting", true) => "started",
            (state, _) => state,
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(container.clone(), state.to_owned()).is_none_or(|before| before != state) {
            super::note(self.work, decky, &format!("{part} {state}"));
        }
    }
}
