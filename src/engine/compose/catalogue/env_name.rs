//! The name of an environment variable.

use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct EnvName(String);

impl EnvName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for EnvName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let good = text.len() <= 256
            && text.starts_with(first)
            && text.chars().all(|c| first(c) || c.is_ascii_digit());
        if good { Ok(Self(text)) } else { Err(format!("{text:?} can't name an environment variable")) }
    }
}
