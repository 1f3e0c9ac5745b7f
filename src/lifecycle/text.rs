//! Makes words from outside fit to be shown: on a terminal, in a log, in a
//! table.

use std::time::Duration;

use super::scrub::scrub;

/// How often a line is looked at again.
const PASSES: usize = 4;

/// One piece of a text that may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Char(char),
    Space,
    Break,
}

/// The text as one line that is safe wherever it is printed, of at most `room`
/// characters.
///
/// Left out is what steers a terminal or hides: control characters (C0, C1,
/// DEL), what changes the reading direction, what has no width, tags, soft
/// hyphens, variation selectors and the like. A line break of any kind is
/// shown as `\n`, other white space as a space; both are trimmed at the ends.
/// Fitting a text twice changes nothing.
///
/// ```
/// use decnet_lifecycle::lifecycle::text::one_line;
///
/// assert_eq!(one_line("up\u{1b}[2J\r\nINFO \u{202e}forged\n", 80), "up[2J\\nINFO forged");
/// assert_eq!(one_line("décor", 2), "dé");
/// ```
#[must_use]
pub fn one_line(text: &str, room: usize) -> String {
    let mut line = String::new();
    let mut used = 0;
    // White space is written once something follows it.
    let mut waiting: Vec<Piece> = Vec::new();
    for piece in pieces(text) {
        match piece {
            Piece::Char(_) => waiting.push(piece),
            _ if line.is_empty() => continue,
            _ => {
                if waiting.len() <= room {
                    waiting.push(piece);
                }
                continue;
            }
        }
        for piece in waiting.drain(..) {
            used += width(piece);
            if used > room {
                return line.trim_end().to_owned();
            }
            match piece {
                Piece::Char(c) => line.push(c),
                Piece::Space => line.push(' '),
                Piece::Break => line.push_str("\\n"),
            }
        }
    }
    line
}

/// The same without what is written like a secret: after `password=` and the
/// like, in URLs, headers and commands, in shapes that only secrets have. What
/// a tool or a worker says goes through this; what is known to be secret, by
/// [`Secrets::hide`](crate::lifecycle::Secrets::hide) as well.
///
/// ```
/// use decnet_lifecycle::lifecycle::text::without_secrets;
///
/// let said = "fatal: unable to access 'https://ghp_1@github.com/x.git/'\ntoken: \"a b\"";
/// let wanted = "fatal: unable to access 'https://[scrubbed]@github.com/x.git/'\\ntoken: \"[scrubbed]\"";
/// assert_eq!(without_secrets(said, 200), wanted);
/// ```
#[must_use]
pub fn without_secrets(text: &str, room: usize) -> String {
    // Only what can end up in it is looked at, so that a flood of text costs
    // no more than a page of it.
    let head = lines(text, room.saturating_mul(4));
    let mut line = one_line(&scrub(&head), room);
    // A break that is shown is no break any more to who reads it again.
    let mut read = head;
    for _ in 0..PASSES {
        if line == read {
            break;
        }
        let again = one_line(&scrub(&line), room);
        read = std::mem::replace(&mut line, again);
    }
    line
}

/// Whether a character may be printed as it is: it shows, takes part in no
/// steering, and breaks no line. A plain space may, a tab may not.
///
/// ```
/// use decnet_lifecycle::lifecycle::text::is_shown;
///
/// assert!("né 鹿 🦌".chars().all(is_shown));
/// assert!(!['\t', '\u{7f}', '\u{9b}', '\u{ad}', '\u{2028}', '\u{202e}', '\u{e0041}'].into_iter().any(is_shown));
/// ```
#[must_use]
pub fn is_shown(c: char) -> bool {
    piece(c) == Some(Piece::Char(c)) || c == ' '
}

/// How long something takes, as people say it: in the largest unit that says
/// enough.
///
/// ```
/// use decnet_lifecycle::lifecycle::text::spoken;
/// use std::time::Duration;
///
/// let said = [9, 119, 1_913, 7_500, 300_000].map(|seconds| spoken(Duration::from_secs(seconds)));
/// assert_eq!(said, ["9 s", "119 s", "31 min", "2 h", "3 days"]);
/// ```
#[must_use]
pub fn spoken(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// JSON as one line that is safe to print and says the same: what
/// [`one_line`] leaves out is written `\uXXXX`.
///
/// ```
/// use decnet_lifecycle::lifecycle::text::json;
///
/// let heard = serde_json::json!({"said": "\u{9b}2J\u{e0041}é"});
/// assert_eq!(json(&heard), r#"{"said":"\u009b2J\udb40\udc41é"}"#);
/// assert_eq!(serde_json::from_str::<serde_json::Value>(&json(&heard))?, heard);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[must_use]
pub fn json(value: &serde_json::Value) -> String {
    let written = value.to_string();
    if written.chars().all(is_shown) {
        return written;
    }
    let mut safe = String::with_capacity(written.len() + 16);
    for c in written.chars() {
        // Outside of its texts JSON is ASCII that shows.
        if is_shown(c) {
            safe.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    safe
}

/// The same as [`one_line`], but of many lines: breaks stay, as `\n`. Of at
/// most `room` characters; the rest is dropped.
pub(super) fn lines(text: &str, room: usize) -> String {
    let pieces = pieces(text).take(room);
    pieces
        .map(|piece| match piece {
            Piece::Char(c) => c,
            Piece::Space => ' ',
            Piece::Break => '\n',
        })
        .collect()
}

fn width(piece: Piece) -> usize {
    if piece == Piece::Break { "\\n".len() } else { 1 }
}

fn pieces(text: &str) -> impl Iterator<Item = Piece> {
    let mut after_return = false;
    text.chars().filter_map(move |c| {
        let is_second_half = after_return && c == '\n';
        after_return = c == '\r';
        if is_second_half { None } else { piece(c) }
    })
}

fn piece(c: char) -> Option<Piece> {
    match c {
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some(Piece::Break),
        c if c.is_whitespace() => Some(Piece::Space),
        c if c.is_control() || is_invisible(c) => None,
        c => Some(Piece::Char(c)),
    }
}

/// What Unicode calls default ignorable, its format characters that have no
/// form of their own, and what will never be a character.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fdd0}'..='\u{fdef}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
        || u32::from(c) & 0xfffe == 0xfffe
}
