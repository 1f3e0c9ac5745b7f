//! What a value says: references resolved, numbers read as Python reads them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::fleet::FleetConfig;

use super::syntax::{Entries, Entry};

/// How deep references may refer to references, as in Python.
const DEPTH: usize = 10;

/// What a reference costs beside the bytes that it stands for.
const REFERENCE: usize = 64;

/// What all values of a file may come to, in bytes and references: one key can
/// stand for many.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(FleetConfig::MAX_BYTES)
    }
}

impl Budget {
    pub(super) fn spend(&mut self, cost: usize) -> Result<(), Trouble> {
        match self.0.checked_sub(cost) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => Err(Trouble::TooMuch),
        }
    }
}

/// Why a value can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    LonePercent,
    Unknown(String),
    TooDeep,
    TooMuch,
}

impl Trouble {
    pub(super) fn told(&self) -> (String, &'static str) {
        match self {
            Self::LonePercent => ("it holds a lone %".to_owned(), "write %% for a %"),
            Self::Unknown(key) => {
                let what =
                    format!("%({})s names no key of this section or of [DEFAULT]", crate::fleet::shown(key));
                (what, "write %% for a %")
            }
            Self::TooDeep => ("its references go round in circles".to_owned(), "write the value itself"),
            Self::TooMuch => {
                ("the file comes to more than a fleet can hold".to_owned(), "share fewer and shorter values")
            }
        }
    }
}

/// The value of an entry, with `%%` and `%(key)s` resolved.
pub(super) fn resolve(
    entry: &Entry,
    section: &Entries,
    defaults: &Entries,
    budget: &mut Budget,
) -> Result<String, Trouble> {
    let mut value = String::new();
    append(&entry.raw, section, defaults, budget, DEPTH, &mut value)?;
    Ok(value)
}

fn append(
    raw: &str,
    section: &Entries,
    defaults: &Entries,
    budget: &mut Budget,
    depth: usize,
    value: &mut String,
) -> Result<(), Trouble> {
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('%') {
        budget.spend(before.len() + 1)?;
        value.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            value.push('%');
            rest = after;
            continue;
        }
        let named = after.strip_prefix('(').and_then(|after| after.split_once(")s"));
        let Some((key, after)) = named.filter(|(key, _)| !key.is_empty() && !key.contains(')')) else {
            return Err(Trouble::LonePercent);
        };
        let key = key.to_lowercase();
        let Some(entry) = section.get(&key).or_else(|| defaults.get(&key)) else {
            return Err(Trouble::Unknown(key));
        };
        budget.spend(REFERENCE)?;
        let deeper = depth.checked_sub(1).ok_or(Trouble::TooDeep)?;
        append(&entry.raw, section, defaults, budget, deeper, value)?;
        rest = after;
    }
    budget.spend(rest.len())?;
    value.push_str(rest);
    Ok(())
}

/// A whole number as Python reads it: blanks around, a sign, and single `_`
/// between digits.
pub(super) fn whole_number(text: &str) -> Option<i64> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits.split('_').all(is_number) {
        return None;
    }
    format!("{sign}{}", digits.replace('_', "")).parse().ok()
}

/// The text behind `b64:`, which the original's wizard writes for longer
/// texts; the value itself where there is none.
pub(super) fn decoded(value: String) -> Option<String> {
    let Some(coded) = value.strip_prefix("b64:") else { return Some(value) };
    String::from_utf8(STANDARD.decode(coded.trim()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_pythons() {
        for (text, number) in [("+2", 2), (" 2 ", 2), ("0_3", 3), ("-5", -5), ("007", 7)] {
            assert_eq!(whole_number(text), Some(number), "{text}");
        }
        for text in ["", "2.0", "5m", "_1", "1_", "1__2", "+-1", "0x1", "99999999999999999999"] {
            assert_eq!(whole_number(text), None, "{text}");
        }
    }
}
