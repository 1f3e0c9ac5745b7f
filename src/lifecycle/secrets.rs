//! Secrets that are known, hidden wherever they stand and however they are
//! quoted, coded or cut.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::Failure;
use super::scrub::{self, HIDDEN};
use super::text;

mod reading;

use reading::{Letter, readings};

/// Longer values are known by their start.
const LONGEST: usize = 512;
/// More values than these are not kept.
const MOST: usize = 8_192;
/// A shorter value is no secret that could be told from other words.
const SHORTEST: usize = 4;
/// A part of a value that is this long is hidden as well.
const PART: usize = 8;
/// A shorter value, or part of one, counts only where it stands by itself.
const BY_ITSELF: usize = 8;
/// How far apart the entries of the index are: each part has one.
const STRIDE: usize = PART - GRAM + 1;
const GRAM: usize = 4;

/// Values that nobody may see: passwords of a fleet, of its catalogue, of a
/// registry.
///
/// Where the scrubber of [`Failure`] knows how secrets are written, this knows
/// the secrets: [`hide`](Self::hide) takes them out of any text, also escaped
/// as JSON, quoted for a shell, coded for a URL or a page, in hexadecimal, in
/// Base64 (as basic authentication has them), cut at either end, and in parts
/// of at least eight characters. Values of fewer than eight characters are
/// hidden where they stand as a word of their own, those of fewer than four
/// are not kept.
///
/// Making one costs what its values are long; cloning it is cheap, and hiding
/// costs what the text is long. It is `Send` and `Sync`: make one for each
/// request, and pass through it whatever leaves the master about that request.
///
/// ```
/// use decnet_lifecycle::{Failure, FailureKind, lifecycle::Secrets};
///
/// let secrets = Secrets::new(["pa$$ w\"rd-4711"]);
/// assert_eq!(secrets.hide("refused pa$$ w\"rd-4711!"), "refused [scrubbed]!");
/// assert_eq!(secrets.hide(r#"{"a": "pa$$ w\"rd-4711"}"#), r#"{"a": "[scrubbed]"}"#);
/// assert_eq!(secrets.hide("/?a=pa%24%24+w%22rd-4711&b"), "/?a=[scrubbed]&b");
/// assert_eq!(secrets.hide("cut here: pa$$ w"), "cut here: [scrubbed]");
///
/// let failure = Failure::new(FailureKind::Engine, "bad value pa$$ w\"rd-4711");
/// assert_eq!(failure.hiding(&secrets).message(), "bad value [scrubbed]");
/// assert_eq!(format!("{secrets:?}"), "Secrets(1 hidden)");
/// ```
#[derive(Clone, Default)]
pub struct Secrets(Arc<Known>);

#[derive(Default)]
struct Known {
    values: Vec<Vec<char>>,
    /// Values and places in them, by the letters that stand there.
    index: HashMap<[char; GRAM], Vec<(u32, u32)>>,
}

impl Secrets {
    /// Hides these values. Of more than 8,192 the first are kept, of longer
    /// ones the first 512 characters.
    pub fn new<V: AsRef<str>>(values: impl IntoIterator<Item = V>) -> Self {
        let mut kept = BTreeSet::new();
        for value in values {
            // As it stands in a text that was made fit to be shown.
            let value: Vec<char> = text::lines(value.as_ref(), LONGEST).trim().chars().collect();
            if value.len() >= SHORTEST && kept.len() < MOST {
                kept.insert(value);
            }
        }
        let values: Vec<Vec<char>> = kept.into_iter().collect();
        let mut index: HashMap<[char; GRAM], Vec<(u32, u32)>> = HashMap::new();
        for (number, value) in values.iter().enumerate() {
            let last = value.len() - GRAM;
            let places = (0..=last).step_by(STRIDE).chain([last]).collect::<BTreeSet<_>>();
            for place in places {
                let gram = value.get(place..).and_then(<[char]>::first_chunk::<GRAM>);
                if let (Some(gram), Ok(number), Ok(place)) =
                    (gram, u32::try_from(number), u32::try_from(place))
                {
                    index.entry(*gram).or_default().push((number, place));
                }
            }
        }
        Self(Arc::new(Known { values, index }))
    }

    /// Hides what settings keep secret: values whose key says so (`password`,
    /// `SECRET_KEY`, `auth`) with all that is nested in them, passwords in URLs,
    /// and the values of `NAME=value` texts with such a name. For a service's
    /// settings, a container's environment, a registry's `config.json`.
    ///
    /// ```
    /// use decnet_lifecycle::lifecycle::Secrets;
    /// use serde_json::json;
    ///
    /// let settings = json!({"users": [{"name": "root", "password": "letmein1"}], "db": "redis://:opensesame@db"});
    /// let secrets = Secrets::within(settings.as_object().into_iter().flatten().map(|(k, v)| (k.as_str(), v)));
    /// assert_eq!(secrets.hide("root letmein1 opensesame"), "root [scrubbed] [scrubbed]");
    /// ```
    pub fn within<'v>(settings: impl IntoIterator<Item = (&'v str, &'v Value)>) -> Self {
        let mut values = Vec::new();
        for (key, value) in settings {
            gather(scrub::names_secret(key), value, &mut values);
        }
        Self::new(values)
    }

    /// Whether there is nothing to hide.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.values.is_empty()
    }

    /// Whether those are among these.
    pub(crate) fn covers(&self, others: &Self) -> bool {
        others.0.values.iter().all(|value| self.0.values.binary_search(value).is_ok())
    }

    /// Both these and those.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        let all = self.0.values.iter().chain(&others.0.values);
        Self::new(all.map(|value| value.iter().collect::<String>()))
    }

    /// The text with `[scrubbed]` wherever one of them stands. A text without
    /// any is given back as it is.
    #[must_use]
    pub fn hide(&self, text: &str) -> String {
        if self.is_empty() {
            return text.to_owned();
        }
        let mut found: Vec<(usize, usize)> = Vec::new();
        for reading in readings(text) {
            self.find(&reading, text.len(), &mut found);
        }
        found.sort_unstable();
        let mut kept = String::with_capacity(text.len());
        let mut at = 0;
        for (start, end) in found {
            // What overlaps or touches is one.
            if start > at || (start == 0 && at == 0) {
                kept.push_str(text.get(at..start).unwrap_or_default());
                kept.push_str(HIDDEN);
            }
            at = at.max(end);
        }
        kept.push_str(text.get(at..).unwrap_or_default());
        kept
    }

    fn find(&self, letters: &[Letter], len: usize, found: &mut Vec<(usize, usize)>) {
        let mut at = 0;
        while let Some(window) = letters.get(at..).and_then(<[Letter]>::first_chunk::<GRAM>) {
            let gram = window.map(|letter| letter.char);
            let places = self.0.index.get(&gram).map(Vec::as_slice).unwrap_or_default();
            let longest = places
                .iter()
                .filter_map(|place| self.matched(letters, at, *place, len))
                .max_by_key(|m| m.1 - m.0);
            if let Some((start, end)) = longest {
                let whole = letters.get(start..end).unwrap_or_default();
                if let (Some(first), Some(last)) = (whole.first(), whole.last()) {
                    found.push((first.start, last.end));
                }
                at = end.max(at + 1);
            } else {
                at += 1;
            }
        }
    }

    /// How far the text around `at` is the value, if that is far enough.
    fn matched(
        &self,
        letters: &[Letter],
        at: usize,
        (number, place): (u32, u32),
        len: usize,
    ) -> Option<(usize, usize)> {
        let value = self.0.values.get(usize::try_from(number).ok()?)?;
        let place = usize::try_from(place).ok()?;
        let same = |(letter, c): &(&Letter, &char)| letter.char == **c;
        let back =
            letters.get(..at)?.iter().rev().zip(value.get(..place)?.iter().rev()).take_while(same).count();
        let on = letters.get(at..)?.iter().zip(value.get(place..)?).take_while(same).count();
        let (start, end) = (at - back, at + on);
        let is_start = back == place;
        let is_end = place + on == value.len();
        let long = back + on;
        let before = start.checked_sub(1).and_then(|before| letters.get(before));
        let after = letters.get(end);
        let joins = |letter: Option<&Letter>| letter.is_some_and(|letter| letter.char.is_alphanumeric());
        let by_itself = !joins(before) && !joins(after);
        let is_coded = letters.get(at).is_some_and(|letter| letter.is_coded);
        let whole = is_start && is_end && (long >= BY_ITSELF || by_itself || is_coded);
        let solid = letters.get(start..end)?.iter().filter(|letter| letter.char != ' ').count();
        let part = solid >= PART && !(is_start && is_end);
        let is_cut = |is_cut: bool, goes_on: bool| goes_on && is_cut && value.len() > GRAM + 1;
        let ends_here = after.is_none() && letters.last().is_some_and(|last| last.end == len);
        // Dots may be the value's own, and those of what was left out.
        let dotless = letters.get(start..end)?.iter().rev().take_while(|letter| letter.char == '.').count();
        let is_cut_after = ends_here || dots(letters.get(end - dotless..)?.iter());
        let starts_here = start == 0 && letters.first().is_some_and(|first| first.start == 0);
        let is_cut_before = starts_here || dots(letters.get(..start)?.iter().rev());
        let cut = is_start != is_end && (is_cut(is_cut_after, is_start) || is_cut(is_cut_before, is_end));
        (whole || part || cut).then_some((start, end))
    }
}

/// Collects secret values; JSON is of bounded depth.
fn gather(is_secret: bool, value: &Value, values: &mut Vec<String>) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) if is_secret => values.push(number.to_string()),
        Value::Number(_) => {}
        Value::String(text) if is_secret => {
            // A registry's `auth` is `user:password` in Base64.
            values.extend(reading::basic(text));
            values.push(text.clone());
        }
        Value::String(text) => {
            for secret in scrub::secrets_of(text) {
                values.extend([reading::unpercented_text(secret), secret.to_owned()]);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| gather(is_secret, value, values)),
        Value::Object(fields) => {
            for (key, value) in fields {
                gather(is_secret || scrub::names_secret(key), value, values);
            }
        }
    }
}

/// Whether a mark follows that something was left out.
fn dots<'l>(letters: impl Iterator<Item = &'l Letter>) -> bool {
    let next: String = letters.take(3).map(|letter| letter.char).collect();
    next.starts_with('…') || next == "..."
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} hidden)", self.0.values.len())
    }
}

impl Failure {
    /// The same failure without these secrets in its message.
    #[must_use]
    pub fn hiding(self, secrets: &Secrets) -> Self {
        if secrets.is_empty() {
            return self;
        }
        let message = secrets.hide(self.message());
        Self::new(self.kind(), &message)
    }
}
