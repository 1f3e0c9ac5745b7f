//! Text for a compose file: each `$` doubled, nothing that YAML refuses.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text that a compose tool reads as it stands: in the file each `$` is
/// doubled, so that nothing in it is taken for a variable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text(String);

impl Text {
    /// Keeps text that YAML can carry; none for control characters and others
    /// that YAML's readers refuse.
    pub(super) fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        text.chars().all(is_plain).then_some(Self(text))
    }

    /// Text of our own, which is plain.
    pub(super) fn own(text: impl Into<String>) -> Self {
        let text: String = text.into();
        Self(text.chars().filter(|c| is_plain(*c)).collect())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_plain(c: char) -> bool {
    match c {
        '\n' | '\t' => true,
        '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}' => false,
        c => !c.is_control(),
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.replace('$', "$$"))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = String::deserialize(deserializer)?;
        let mut text = String::with_capacity(written.len());
        let mut rest = written.as_str();
        while let Some((before, after)) = rest.split_once('$') {
            let Some(after) = after.strip_prefix('$') else {
                return Err(serde::de::Error::custom("a lone $, which a compose tool takes for a variable"));
            };
            text.push_str(before);
            text.push('$');
            rest = after;
        }
        text.push_str(rest);
        Self::new(text).ok_or_else(|| serde::de::Error::custom("a character that YAML can't carry"))
    }
}
