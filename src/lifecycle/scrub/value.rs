//! Where a value starts and ends: quotes of every depth, brackets, words.

use std::ops::Range;

use super::{HIDDEN, from, line_end};

/// How a value stands in its text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    /// In a query: it ends at `&`.
    pub(super) is_query: bool,
    /// Its name and itself are in these quotes together.
    pub(super) within: Option<Quote>,
    /// It is all the rest of the line, spaces and all.
    pub(super) is_line: bool,
}

/// An opening quote: its mark, and how many backslashes escape it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quote {
    closing: &'static str,
    slashes: usize,
    len: usize,
}

const MARKS: [(&str, &str); 3] = [("\"", "\""), ("'", "'"), ("`", "`")];
/// Quotes that were quoted themselves.
const CODED: [(&str, &str); 9] = [
    ("%22", "%22"),
    ("%27", "%27"),
    ("&quot;", "&quot;"),
    ("&apos;", "&apos;"),
    ("&#34;", "&#34;"),
    ("&#39;", "&#39;"),
    ("\u{201c}", "\u{201d}"),
    ("\u{2018}", "\u{2019}"),
    ("\u{ab}", "\u{bb}"),
];

impl Quote {
    /// The quote that stands at `at`.
    pub(super) fn at(text: &str, at: usize) -> Option<Self> {
        let rest = from(text, at);
        let mark = rest.trim_start_matches('\\');
        let slashes = rest.len() - mark.len();
        let plain = MARKS.iter().find(|(opening, _)| mark.starts_with(opening));
        let coded = || CODED.iter().find(|(opening, _)| slashes == 0 && mark.starts_with(opening));
        let (opening, closing) = plain.or_else(coded)?;
        Some(Self { closing, slashes, len: slashes + opening.len() })
    }

    /// The quote that ends at `at`.
    pub(super) fn before(text: &str, at: usize) -> Option<Self> {
        let before = text.get(..at)?;
        let (opening, _) = MARKS.iter().chain(&CODED).find(|(opening, _)| before.ends_with(opening))?;
        let unmarked = before.strip_suffix(opening)?;
        Self::at(text, unmarked.trim_end_matches('\\').len())
    }

    pub(super) const fn len(self) -> usize {
        self.len
    }

    /// Where the closing quote starts that belongs to this one, opened before
    /// `at`, if it comes before `until`.
    pub(super) fn close(self, text: &str, at: usize, until: usize) -> Option<usize> {
        let mut looked = at;
        loop {
            let found = looked + text.get(looked..until)?.find(self.closing)?;
            let next = found + self.closing.len();
            looked = next;
            let inside = text.get(at..found)?;
            let slashes = inside.len() - inside.trim_end_matches('\\').len();
            if slashes % (2 * (self.slashes + 1)) != self.slashes {
                continue;
            }
            let rest = from(text, next);
            if self.slashes == 0 && self.closing.len() == 1 {
                // 'it'\''s', 'it'"'"'s' and 'it''s' are one word each, and so
                // is what goes on without a gap.
                if let Some(joint) = joint(rest) {
                    looked = next + joint;
                    continue;
                }
                if rest.starts_with(self.closing) && found > at {
                    looked = next + self.closing.len();
                    continue;
                }
                if rest.starts_with(|c: char| c.is_alphanumeric()) {
                    continue;
                }
            }
            return Some(found - self.slashes);
        }
    }
}

/// How long the joint is by which a shell's word goes on behind a quote: `\''`
/// or `"'"'`, themselves quoted to any depth.
fn joint(rest: &str) -> Option<usize> {
    let unquoted = rest.trim_start_matches('\\');
    if let Some(after) = unquoted.strip_prefix("''").filter(|_| unquoted.len() < rest.len()) {
        return Some(rest.len() - after.len());
    }
    let inner = unquoted.strip_prefix("\"'")?.trim_start_matches('\\');
    inner.strip_prefix("\"'").map(|after| rest.len() - after.len())
}

/// The value that starts at `at`; none where there is nothing to hide.
pub(super) fn value(text: &str, at: usize, place: Place) -> Option<Range<usize>> {
    let at = past_wrapping(text, at);
    let rest = from(text, at);
    // A break, shown as one, is the end of the line.
    if rest.starts_with(HIDDEN) || rest.starts_with("\\n") || rest.starts_with("\\r") {
        return None;
    }
    if let Some(quote) = Quote::at(text, at) {
        let start = at + quote.len();
        let end = quote.close(text, start, text.len()).unwrap_or_else(|| line_end(text, start));
        return told(text, start..end);
    }
    if !place.is_query && rest.starts_with(['{', '[', '(']) {
        let end = balanced(text, at).unwrap_or_else(|| line_end(text, at));
        return told(text, at..end);
    }
    let line = line_end(text, at);
    let whole = place.within.and_then(|quote| quote.close(text, at, line));
    let end = match whole {
        Some(close) => close,
        None if place.is_line => line,
        None => {
            let ends = |c: char| {
                c.is_whitespace() || (place.is_query && matches!(c, '&' | '#' | '"' | '\'' | '<' | '>' | '`'))
            };
            at + rest.find(ends).unwrap_or(rest.len())
        }
    };
    let word = text.get(at..end)?;
    let kept = if whole.is_some() { word } else { word.trim_end_matches(is_closer) };
    let end = at + kept.len();
    // What was hidden before ends in a bracket of ours.
    let is_ours = text.get(..end + 1).is_some_and(|upto| upto.ends_with(HIDDEN));
    told(text, at..if is_ours { end + 1 } else { end })
}

fn told(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let inside = text.get(range.clone())?;
    let is_said = inside.is_empty() || inside == HIDDEN || is_reference(inside);
    (!is_said).then_some(range)
}

/// `${NAME}` says where a value comes from, not which it is.
fn is_reference(inside: &str) -> bool {
    let name = inside.strip_prefix("${").and_then(|inside| inside.strip_suffix('}'));
    name.is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    })
}

/// `b'..'` and `Some("..")`: to where the quote starts.
fn past_wrapping(text: &str, at: usize) -> usize {
    let rest = from(text, at);
    let inner = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':'));
    let name = rest.len() - inner.len();
    let wraps = if inner.starts_with('(') { name + 1 } else { name };
    let is_short = name <= 2 || (wraps > name && name <= 40);
    if is_short && wraps > 0 && Quote::at(text, at + wraps).is_some() { at + wraps } else { at }
}

const fn is_closer(c: char) -> bool {
    matches!(c, '"' | '\'' | '`' | ')' | ']' | '}' | '>' | ',' | '.' | ';' | ':' | '!' | '?' | '\\')
}

/// So far a closing bracket is looked for; brackets that nobody closes must
/// not cost more the more there are.
const NEST: usize = 1 << 10;

/// The end of what the bracket at `at` opens; quotes hide brackets.
fn balanced(text: &str, at: usize) -> Option<usize> {
    let mut open = 0_usize;
    let mut place = at;
    while let Some(c) = from(text, place).chars().next().filter(|_| place - at < NEST) {
        if let Some(quote) = Quote::at(text, place) {
            let start = place + quote.len();
            place = quote.close(text, start, text.len())? + quote.len();
            continue;
        }
        place += c.len_utf8();
        match c {
            '{' | '[' | '(' => open += 1,
            '}' | ']' | ')' => open = open.saturating_sub(1),
            _ => {}
        }
        if open == 0 {
            return Some(place);
        }
    }
    None
}
