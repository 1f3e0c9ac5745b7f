use std::fmt;

use crate::lifecycle::DeckyName;

/// A fleet that can't be used, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// The text isn't JSON.
    #[error("line {line}, column {column}: not JSON ({source}); is it the right file, and complete?")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What the JSON parser said.
        source: serde_json::Error,
    },
    /// The file is larger than any fleet.
    #[error("the file has {len} bytes, a fleet has at most {max}; is it the right file?")]
    TooLarge {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The JSON isn't a valid fleet.
    #[error("{0}")]
    Invalid(Problems),
    /// The fleet has no such decky.
    #[error("the fleet has no decky {decky}{}", near.as_ref().map(|near| format!("; did you mean {near}?")).unwrap_or_default())]
    UnknownDecky {
        /// The name asked for.
        decky: DeckyName,
        /// The nearest name there is.
        near: Option<String>,
    },
}

/// One thing that is wrong in a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `deckies[2].services[0]`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}; {}", self.what, self.hint)
    }
}

/// All that is wrong in a fleet, one line each; the first hundred are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    const SHOWN: usize = 100;

    pub(crate) const fn new(problems: Vec<Problem>) -> Self {
        Self(problems)
    }

    /// The problems, in the order of the file.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.0
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().take(Self::SHOWN).map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))?;
        match self.0.len().checked_sub(Self::SHOWN) {
            Some(more @ 1..) => write!(f, "\nand {more} more"),
            _ => Ok(()),
        }
    }
}

/// The known name that is nearest to what was written, if one is near.
pub(crate) fn nearest(written: &str, known: &[&str]) -> Option<String> {
    let near = known.iter().map(|name| (distance(written, name), *name)).min()?;
    (near.0 <= 1 + written.len() / 3).then(|| near.1.to_owned())
}

/// How many letters must be added, removed or changed; of the first 64.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for ((y, above), diagonal) in b.iter().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or(usize::MAX - 1);
            next.push((left + 1).min(above + 1).min(diagonal + usize::from(x != *y)));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// Words of a file, fit to be shown: short, and without control characters.
pub(crate) fn shown(text: &str) -> String {
    let safe: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).take(80).collect();
    if safe.chars().count() == text.chars().count() { safe } else { format!("{safe}...") }
}
