//! Lines to sections, as Python's `configparser` splits them.

use std::collections::HashMap;

use crate::fleet::shown;

use super::told::{Place, Told};

/// A file's sections, in its order.
#[derive(Debug, Default)]
pub(super) struct File {
    /// What stands in every section.
    pub(super) defaults: Entries,
    pub(super) sections: Vec<Section>,
}

#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) entries: Entries,
}

/// The keys of a section, in lower case.
#[derive(Debug, Default)]
pub(super) struct Entries {
    list: Vec<Entry>,
    by_key: HashMap<String, usize>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// As written, trimmed, its lines joined.
    pub(super) raw: String,
    pub(super) line: usize,
    /// The first further line that it goes on over.
    pub(super) goes_on: Option<usize>,
    /// The first further line that looks like a section.
    pub(super) swallows: Option<usize>,
}

impl Entries {
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.by_key.get(key).and_then(|place| self.list.get(*place))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.list.iter()
    }

    fn add(&mut self, entry: Entry) {
        self.by_key.insert(entry.key.clone(), self.list.len());
        self.list.push(entry);
    }
}

impl Section {
    pub(super) fn place(&self) -> Place {
        self.at(self.line)
    }

    /// A key of this section.
    pub(super) fn field(&self, entry: &Entry) -> Place {
        let place = self.at(entry.line);
        Place { text: format!("{} {}", place.text, shown(&entry.key)), ..place }
    }

    /// A line that is about this section.
    pub(super) fn at(&self, line: usize) -> Place {
        Place { line, text: format!("line {line}, [{}]", shown(&self.name)) }
    }
}

/// Where keys go.
enum Current {
    /// Before the first section.
    Nowhere,
    Defaults,
    Section,
    /// Its header was refused.
    Discarded,
}

/// A key whose value may go on.
struct Open {
    indent: usize,
    blanks: usize,
    is_kept: bool,
}

/// Reads a file; none if it isn't text.
pub(super) fn read(bytes: &[u8], told: &mut Told) -> Option<File> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.replace("\r\n", "\n").replace('\r', "\n"),
        Err(error) => {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            told.problem(&Place::line(line), "it isn't UTF-8 text", "save the file as UTF-8");
            return None;
        }
    };
    let mut reader =
        Reader { file: File::default(), names: HashMap::new(), current: Current::Nowhere, open: None, told };
    for (line, written) in (1..).zip(text.split('\n')) {
        reader.line(line, written);
    }
    Some(reader.file)
}

struct Reader<'t> {
    file: File,
    names: HashMap<String, usize>,
    current: Current,
    open: Option<Open>,
    told: &'t mut Told,
}

impl Reader<'_> {
    fn line(&mut self, line: usize, written: &str) {
        let content = written.trim();
        if content.starts_with(['#', ';']) {
            return;
        }
        if content.is_empty() {
            if let Some(open) = &mut self.open {
                open.blanks += 1;
            }
            return;
        }
        let indent = written.chars().take_while(|c| c.is_whitespace()).count();
        if let Some(open) = self.open.take_if(|open| indent > open.indent) {
            return self.go_on(open, line, content);
        }
        self.open = None;
        if content.starts_with('[') {
            self.header(line, content);
        } else {
            self.key(line, content, indent);
        }
    }

    fn entries(&mut self) -> Option<&mut Entries> {
        match self.current {
            Current::Defaults => Some(&mut self.file.defaults),
            Current::Section => self.file.sections.last_mut().map(|section| &mut section.entries),
            Current::Nowhere | Current::Discarded => None,
        }
    }

    fn go_on(&mut self, mut open: Open, line: usize, content: &str) {
        if open.is_kept
            && let Some(entry) = self.entries().and_then(|entries| entries.list.last_mut())
        {
            entry.raw.extend(std::iter::repeat_n('\n', open.blanks + 1));
            entry.raw.push_str(content);
            entry.goes_on.get_or_insert(line);
            if content.starts_with('[') && content.ends_with(']') {
                entry.swallows.get_or_insert(line);
            }
        }
        open.blanks = 0;
        self.open = Some(open);
    }

    fn header(&mut self, line: usize, content: &str) {
        self.current = Current::Discarded;
        let place = Place::line(line);
        let inner = content.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let Some((name, rest)) = inner.filter(|(name, _)| !name.is_empty()) else {
            let what = format!("{} looks like a section, and is none", shown(content));
            return self.told.problem(&place, what, "write such as [decky-01]");
        };
        let rest = rest.trim_start();
        if !rest.is_empty() && !rest.starts_with(['#', ';']) {
            let what = format!("what stands behind [{}] would not be read", shown(name));
            self.told.problem(&place, what, "write it on a line of its own");
        }
        if name == "DEFAULT" {
            self.current = Current::Defaults;
            return;
        }
        if let Some(first) = self.names.insert(name.to_owned(), line) {
            let what = format!("[{}] stands on line {first} as well", shown(name));
            return self.told.problem(
                &place,
                what,
                "give each section a name of its own, or put the two together",
            );
        }
        self.current = Current::Section;
        self.file.sections.push(Section { name: name.to_owned(), line, entries: Entries::default() });
    }

    fn key(&mut self, line: usize, content: &str, indent: usize) {
        let place = Place::line(line);
        let split = content.split_once(['=', ':']).map(|(key, value)| (key.trim(), value.trim()));
        let Some((key, value)) = split.filter(|(key, _)| !key.is_empty()) else {
            let what = format!("{} is neither a section nor a key with a value", shown(content));
            return self.told.problem(&place, what, "write such as services = ssh,http");
        };
        let key = key.to_lowercase();
        let mut is_kept = false;
        if matches!(self.current, Current::Nowhere) {
            self.told.problem(
                &place,
                format!("{} stands before the first section", shown(&key)),
                "write a section such as [general] above it",
            );
            // Once is enough.
            self.current = Current::Discarded;
        } else if let Some(first) =
            self.entries().and_then(|entries| entries.get(&key)).map(|entry| entry.line)
        {
            let what = format!("{} stands on line {first} as well", shown(&key));
            self.told.problem(&place, what, "keep one of the two");
        } else if let Some(entries) = self.entries() {
            entries.add(Entry { key, raw: value.to_owned(), line, goes_on: None, swallows: None });
            is_kept = true;
        }
        self.open = Some(Open { indent, blanks: 0, is_kept });
    }
}
