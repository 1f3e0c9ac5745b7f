//! A text as it reads once its quoting is undone: each letter with where it
//! stands in the text.

/// One letter, and the bytes of the text that it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) char: char,
    pub(super) start: usize,
    pub(super) end: usize,
    /// It came out of a code that spans more than itself.
    pub(super) is_coded: bool,
}

/// Runs of Base64 and hexadecimal that are shorter hold no secret.
const SHORTEST_RUN: usize = 8;

/// Takes one layer of a kind of quoting off.
type Undo = fn(&[Letter]) -> Vec<Letter>;

/// The quotings that occur in one another, from the outermost in. Kinds are
/// apart: a value may itself hold what looks like quoted by another.
const LAYERS: [&[Undo]; 12] = [
    &[backslashed, backslashed, backslashed],
    &[joined, backslashed],
    &[backslashed, joined],
    &[backslashed, undoubled],
    &[backslashed, entities],
    &[backslashed, unpercented],
    &[entities, backslashed],
    &[entities, unpercented],
    &[undoubled, backslashed],
    &[unpercented, unpercented],
    &[unpercented, backslashed, backslashed],
    &[unpercented, entities],
];

/// The ways to read a text: as it stands, and with layers of quoting taken off.
pub(super) fn readings(text: &str) -> Vec<Vec<Letter>> {
    let plain = plain(text);
    let mut all = coded(&plain);
    for layers in LAYERS {
        let mut read = plain.clone();
        for undo in layers {
            let next = undo(&read);
            let is_same = next.len() == read.len() && next.iter().zip(&read).all(|(a, b)| a.char == b.char);
            if is_same {
                break;
            }
            all.push(next.clone());
            read = next;
        }
    }
    let percents = unpercented(&plain);
    if percents.len() < plain.len() {
        all.extend(coded(&percents));
    }
    all.push(plain);
    all
}

/// What shows of a text; what hides may stand between a secret's letters.
fn plain(text: &str) -> Vec<Letter> {
    let letters = text.char_indices().filter_map(|(start, c)| {
        let char = match c {
            '\n' => '\n',
            c if c.is_whitespace() => ' ',
            c if super::text::is_shown(c) => c,
            _ => return None,
        };
        Some(Letter { char, start, end: start + c.len_utf8(), is_coded: false })
    });
    letters.collect()
}

/// Two of `'`, `"` or `$` as one: SQL's, a table's and a compose file's quoting.
fn undoubled(letters: &[Letter]) -> Vec<Letter> {
    let mut read: Vec<Letter> = Vec::with_capacity(letters.len());
    let mut is_second = false;
    for letter in letters {
        match read
            .last_mut()
            .filter(|last| last.char == letter.char && matches!(letter.char, '\'' | '"' | '$'))
        {
            Some(first) if !is_second => {
                first.end = letter.end;
                is_second = true;
            }
            _ => {
                read.push(*letter);
                is_second = false;
            }
        }
    }
    read
}

/// A layer of backslashes taken off.
fn backslashed(letters: &[Letter]) -> Vec<Letter> {
    replaced(letters, |rest| {
        let is_escape = rest.first().is_some_and(|letter| letter.char == '\\');
        is_escape.then(|| {
            let (char, used) = backslash(rest);
            paired(char, used, rest)
        })
    })
}

/// A shell's `'\''` and `'"'"'` as the quote that they stand for.
fn joined(letters: &[Letter]) -> Vec<Letter> {
    let joints = ["'\\''", "'\"'\"'"];
    replaced(letters, |rest| joints.iter().find(|joint| starts(rest, joint)).map(|joint| ('\'', joint.len())))
}

/// A page's entities as what they stand for.
fn entities(letters: &[Letter]) -> Vec<Letter> {
    replaced(letters, |rest| rest.first().filter(|letter| letter.char == '&').map(|_| entity(rest)))
}

/// Puts a letter where `read` finds some that stand for it.
fn replaced(letters: &[Letter], read: impl Fn(&[Letter]) -> Option<(char, usize)>) -> Vec<Letter> {
    let mut all = Vec::with_capacity(letters.len());
    let mut at = 0;
    while let Some(letter) = letters.get(at) {
        let rest = letters.get(at..).unwrap_or_default();
        let (char, used) = read(rest).unwrap_or((letter.char, 1));
        let end = rest.get(used.saturating_sub(1)).map_or(letter.end, |last| last.end);
        all.push(Letter { char, start: letter.start, end, is_coded: letter.is_coded });
        at += used.max(1);
    }
    all
}

/// JSON writes what is beyond the first plane as two halves.
fn paired(char: char, used: usize, rest: &[Letter]) -> (char, usize) {
    let half = |rest: &[Letter]| (starts(rest, "\\u")).then(|| number(rest.get(2..6)?, 16)).flatten();
    let (Some(high), Some(low)) = (half(rest), rest.get(6..).and_then(half)) else { return (char, used) };
    let both = [u16::try_from(high), u16::try_from(low)];
    let [Ok(high), Ok(low)] = both else { return (char, used) };
    match char::decode_utf16([high, low]).next() {
        Some(Ok(c)) if c.len_utf16() == 2 => (c, 12),
        _ => (char, used),
    }
}

fn starts(letters: &[Letter], with: &str) -> bool {
    letters.len() >= with.chars().count()
        && letters.iter().zip(with.chars()).all(|(letter, c)| letter.char == c)
}

fn number(digits: &[Letter], radix: u32) -> Option<u32> {
    let text: String = digits.iter().map(|digit| digit.char).collect();
    u32::from_str_radix(&text, radix).ok()
}

fn backslash(rest: &[Letter]) -> (char, usize) {
    let next = rest.get(1).map(|letter| letter.char);
    let coded = |from: usize, to: usize| {
        let c = char::from_u32(number(rest.get(from..to)?, 16)?)?;
        Some((c, to))
    };
    let braced = || {
        let close = rest.iter().take(12).position(|letter| letter.char == '}')?;
        Some((coded(3, close)?.0, close + 1))
    };
    match next {
        Some('n' | 'r') => ('\n', 2),
        Some('t') => (' ', 2),
        Some('x') => coded(2, 4).unwrap_or(('x', 2)),
        Some('u') => coded(2, 6).or_else(braced).unwrap_or(('u', 2)),
        Some('U') => coded(2, 10).unwrap_or(('U', 2)),
        Some(c) => (c, 2),
        None => ('\\', 1),
    }
}

fn entity(rest: &[Letter]) -> (char, usize) {
    for (name, c) in
        [("&amp;", '&'), ("&quot;", '"'), ("&apos;", '\''), ("&lt;", '<'), ("&gt;", '>'), ("&nbsp;", ' ')]
    {
        if starts(rest, name) {
            return (c, name.len());
        }
    }
    let close = rest.iter().take(10).position(|letter| letter.char == ';');
    let numbered = close.filter(|_| starts(rest, "&#")).and_then(|close| {
        let (from, radix) = if rest.get(2)?.char.eq_ignore_ascii_case(&'x') { (3, 16) } else { (2, 10) };
        Some((char::from_u32(number(rest.get(from..close)?, radix)?)?, close + 1))
    });
    numbered.unwrap_or(('&', 1))
}

/// One layer of a URL's coding taken off; `+` is a space.
fn unpercented(letters: &[Letter]) -> Vec<Letter> {
    let mut bytes = Vec::with_capacity(letters.len());
    let mut at = 0;
    while let Some(letter) = letters.get(at) {
        let digits = letters.get(at + 1..at + 3).filter(|_| letter.char == '%');
        let coded =
            digits.and_then(|digits| Some((u8::try_from(number(digits, 16)?).ok()?, digits.last()?.end)));
        match coded {
            Some((byte, end)) => {
                bytes.push((byte, letter.start, end));
                at += 3;
            }
            None => {
                let c = if letter.char == '+' { ' ' } else { letter.char };
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    bytes.push((byte, letter.start, letter.end));
                }
                at += 1;
            }
        }
    }
    decoded(&bytes, false)
}

/// A text of a URL as it was before it was coded.
pub(super) fn unpercented_text(text: &str) -> String {
    unpercented(&plain(text)).into_iter().map(|letter| letter.char).collect()
}

/// Bytes as letters; what is no UTF-8 is left out.
fn decoded(bytes: &[(u8, usize, usize)], is_coded: bool) -> Vec<Letter> {
    let raw: Vec<u8> = bytes.iter().map(|(byte, ..)| *byte).collect();
    let mut read = Vec::with_capacity(raw.len());
    let mut at = 0;
    for chunk in raw.utf8_chunks() {
        for char in chunk.valid().chars() {
            let first = bytes.get(at).map_or(0, |(_, start, _)| *start);
            at += char.len_utf8();
            let end = bytes.get(at - 1).map_or(first, |(_, _, end)| *end);
            read.push(Letter { char, start: first, end, is_coded });
        }
        at += chunk.invalid().len();
    }
    read
}

/// What runs of Base64 and of hexadecimal hold. Their letters all span the
/// whole run: a part of one can't be hidden by itself.
fn coded(letters: &[Letter]) -> Vec<Vec<Letter>> {
    let mut all = Vec::new();
    let is_coding =
        |letter: &Letter| letter.char.is_ascii_alphanumeric() || matches!(letter.char, '+' | '/' | '-' | '_');
    for run in letters.split(|letter| !is_coding(letter)).filter(|run| run.len() >= SHORTEST_RUN) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let spanning = |bytes: Vec<u8>| {
            let spread: Vec<_> = bytes.into_iter().map(|byte| (byte, first.start, last.end)).collect();
            decoded(&spread, true)
        };
        // A run that was cut may start in the middle of a group.
        for skipped in 0..4 {
            let digits: Vec<u32> =
                run.iter().skip(skipped).filter_map(|letter| base64(letter.char)).collect();
            all.push(spanning(regrouped(&digits, 6)));
        }
        if run.iter().all(|letter| letter.char.is_ascii_hexdigit()) {
            for skipped in 0..2 {
                let digits: Vec<u32> =
                    run.iter().skip(skipped).filter_map(|letter| letter.char.to_digit(16)).collect();
                all.push(spanning(regrouped(&digits, 4)));
            }
        }
    }
    all
}

/// The password of `user:password` in Base64.
pub(super) fn basic(text: &str) -> Option<String> {
    let digits: Option<Vec<u32>> = text.trim_end_matches('=').chars().map(base64).collect();
    let both = String::from_utf8(regrouped(&digits?, 6)).ok()?;
    both.split_once(':').map(|(_, password)| password.to_owned())
}

fn base64(c: char) -> Option<u32> {
    let value = match c {
        'A'..='Z' => u32::from(c) - u32::from('A'),
        'a'..='z' => u32::from(c) - u32::from('a') + 26,
        '0'..='9' => u32::from(c) - u32::from('0') + 52,
        '+' | '-' => 62,
        '/' | '_' => 63,
        _ => return None,
    };
    Some(value)
}

/// Digits of some bits each, as bytes; what doesn't fill one is dropped.
fn regrouped(digits: &[u32], bits: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(digits.len());
    let (mut held, mut have) = (0_u32, 0);
    for digit in digits {
        held = (held << bits | digit) & 0xffff;
        have += bits;
        if have >= 8 {
            have -= 8;
            bytes.extend(u8::try_from(held >> have & 0xff));
        }
    }
    bytes
}
