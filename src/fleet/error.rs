//! What is wrong in a fleet.

use std::fmt;

use crate::lifecycle::DeckyName;
use crate::lifecycle::text::one_line;

/// A fleet that can't be used, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// The text isn't JSON.
    #[error("line {line}, column {column}: not JSON ({error}); is it the right file, and complete?")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What the JSON parser said.
        error: serde_json::Error,
    },
    /// The bytes are no plain UTF-8 text.
    #[error("the file is {encoding}; save it as UTF-8 without a mark")]
    Encoding {
        /// What they are.
        encoding: &'static str,
    },
    /// An object has a key twice.
    #[error("line {line}, column {column}: the key \"{key}\" stands twice in one object; keep one of them")]
    Doubled {
        /// The key.
        key: String,
        /// The line where it stands again, from 1.
        line: usize,
        /// The column after it, from 1.
        column: usize,
    },
    /// Lists and objects are nested deeper than any fleet's.
    #[error("line {line}, column {column}: nested deeper than {max} levels; is it the right file?")]
    TooDeep {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// Levels allowed.
        max: usize,
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

/// What is wrong in a fleet, one line each: the first hundred problems, and how
/// many more there are.
///
/// ```
/// use decnet_lifecycle::{FleetConfig, fleet::FleetError};
///
/// let Err(FleetError::Invalid(problems)) = FleetConfig::from_json(b"{}") else { panic!() };
/// assert_eq!((problems.list().len(), problems.more()), (5, 0));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems {
    list: Vec<Problem>,
    more: usize,
}

impl Problems {
    /// The most problems that are told.
    pub const MAX: usize = 100;

    pub(crate) fn new(problems: Vec<Problem>) -> Self {
        let more = problems.len().saturating_sub(Self::MAX);
        let mut list = problems;
        list.truncate(Self::MAX);
        Self { list, more }
    }

    /// Adds a problem, or counts it where there are enough; it is then not
    /// even made.
    pub(super) fn add(&mut self, problem: impl FnOnce() -> Problem) {
        if self.list.len() < Self::MAX {
            self.list.push(problem());
        } else {
            self.more += 1;
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The first problems, in the order of the file.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// How many there are beside those listed.
    #[must_use]
    pub const fn more(&self) -> usize {
        self.more
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.list.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))?;
        if self.more > 0 { write!(f, "\nand {} more", grouped(self.more)) } else { Ok(()) }
    }
}

/// `199900` as `199,900`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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

/// A word of a file, fit to be shown.
pub(crate) fn shown(text: &str) -> String {
    let fitting = one_line(text, 80);
    if one_line(text, 81) == fitting { fitting } else { format!("{fitting}...") }
}
