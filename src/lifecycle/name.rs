//! The names that everything goes by, each kind with its rule.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A name was refused; says which rule it broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing was written.
    #[error("a {what} can't be empty")]
    Empty {
        /// Which kind of name.
        what: &'static str,
    },
    /// More bytes than the name may have.
    #[error("a {what} has at most {max} characters, this one has {len}")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// The bound in bytes.
        max: usize,
        /// What was given, in bytes.
        len: usize,
    },
    /// A character outside the allowed set.
    #[error("a {what} is made of {allowed}; {found:?} is not one of them")]
    Character {
        /// Which kind of name.
        what: &'static str,
        /// The allowed set, in words.
        allowed: &'static str,
        /// The first character outside it.
        found: char,
    },
    /// It starts with `-`, so a command line would read it as an option.
    #[error("a {what} can't start with '-'")]
    LeadingDash {
        /// Which kind of name.
        what: &'static str,
    },
    /// It starts with `_`, which no container's name may.
    #[error("a {what} can't start with '_': no container could be called so")]
    LeadingUnderscore {
        /// Which kind of name.
        what: &'static str,
    },
    /// It holds a `.`, which stands between the parts of a topic of the bus,
    /// and of the name of a decoy's file.
    #[error("a {what} can't hold a '.': topics and file names are split at dots")]
    Dot {
        /// Which kind of name.
        what: &'static str,
    },
}

struct Rule {
    what: &'static str,
    max: usize,
    allowed: &'static str,
    accepts: fn(char) -> bool,
    /// What this kind of name alone can't be.
    also: fn(&str) -> Result<(), NameError>,
}

const fn no_more(_: &str) -> Result<(), NameError> {
    Ok(())
}

fn check(text: &str, rule: &Rule) -> Result<Arc<str>, NameError> {
    let what = rule.what;
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > rule.max {
        return Err(NameError::TooLong { what, max: rule.max, len: text.len() });
    }
    (rule.also)(text)?;
    if let Some(found) = text.chars().find(|c| !(rule.accepts)(*c)) {
        return Err(NameError::Character { what, allowed: rule.allowed, found });
    }
    if text.starts_with('-') {
        return Err(NameError::LeadingDash { what });
    }
    Ok(Arc::from(text))
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $rule:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            const RULE: Rule = $rule;

            /// Checks the text and keeps it.
            ///
            /// # Errors
            /// [`NameError`] says which rule the text broke.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check(text, &Self::RULE).map(Self)
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }
    };
}

name! {
    /// The name of a decky: 1 to 63 letters, digits, `-` and `_`, a letter or
    /// digit first.
    ///
    /// What stands behind each part of the rule:
    ///
    /// | part | reason |
    /// |---|---|
    /// | at most 63 | it is one label where containers find each other by name, and a label has at most 63 |
    /// | no `-` first | a command line would take it for an option |
    /// | no `_` first | Docker and podman want a letter or digit there |
    /// | no `.` | the bus splits the topic `decky.NAME.lifecycle` at dots, the process engine its files' names |
    ///
    /// Upper and lower case are told apart, as containers and rows do; names of
    /// images, some file systems and DNS don't, so one fleet has no two names
    /// that differ in case alone.
    ///
    /// ```
    /// use decnet_lifecycle::DeckyName;
    ///
    /// for name in ["decky-01", "DC01", "web_server", "Print-HQ"] {
    ///     assert_eq!(DeckyName::parse(name)?.as_str(), name);
    /// }
    /// assert!(DeckyName::parse("--rm").is_err());
    /// let dot = DeckyName::parse("decky.webmail").unwrap_err();
    /// assert!(dot.to_string().contains("split at dots"));
    /// # Ok::<(), decnet_lifecycle::lifecycle::NameError>(())
    /// ```
    DeckyName,
    Rule {
        what: "decky name",
        max: 63,
        allowed: "letters, digits, '-' and '_'",
        accepts: |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'),
        also: |text| match text {
            text if text.contains('.') => Err(NameError::Dot { what: "decky name" }),
            text if text.starts_with('_') => Err(NameError::LeadingUnderscore { what: "decky name" }),
            _ => Ok(()),
        },
    }
}

impl DeckyName {
    /// The name in lower case: two deckies of one fleet differ in it.
    pub(crate) fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

name! {
    /// The id of a worker host, `host_uuid` on the wire: 1 to 64 letters,
    /// digits, `-`, `_` or `.`. DECNET writes a UUID; shorter names are
    /// accepted so that tests and small swarms can read well.
    ///
    /// ```
    /// use decnet_lifecycle::HostId;
    ///
    /// assert!(HostId::parse("6513270e-269e-4d37-b2a7-4de452e6b438").is_ok());
    /// assert!(HostId::parse("two words").is_err());
    /// ```
    HostId,
    Rule {
        what: "host id",
        max: 64,
        allowed: "letters, digits, '-', '_' and '.'",
        accepts: |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'),
        also: no_more,
    }
}

name! {
    /// The name of a service that a decky offers, such as `ssh` or
    /// `docker_api`: `^[a-z0-9_-]{1,64}$`, and not starting with `-`.
    ///
    /// ```
    /// use decnet_lifecycle::ServiceName;
    ///
    /// assert!(ServiceName::parse("docker_api").is_ok());
    /// assert!(ServiceName::parse("../etc").is_err());
    /// ```
    ServiceName,
    Rule {
        what: "service name",
        max: 64,
        allowed: "lowercase letters, digits, '-' and '_'",
        accepts: |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'),
        also: no_more,
    }
}

name! {
    /// What a caller calls a request, so that sending it twice does it once:
    /// 1 to 128 printable ASCII characters.
    ///
    /// ```
    /// use decnet_lifecycle::RequestKey;
    ///
    /// assert!(RequestKey::parse("deploy/2026-11-24#1").is_ok());
    /// assert!(RequestKey::parse("").is_err());
    /// ```
    RequestKey,
    Rule {
        what: "request key",
        max: 128,
        allowed: "printable ASCII characters",
        accepts: |c| c.is_ascii_graphic(),
        also: no_more,
    }
}

name! {
    /// The name of a master, the same at every start: 1 to 64 letters,
    /// digits, `-`, `_` or `.`.
    ///
    /// ```
    /// use decnet_lifecycle::lifecycle::MasterName;
    ///
    /// assert_eq!(MasterName::parse("master-1")?.as_str(), "master-1");
    /// # Ok::<(), decnet_lifecycle::lifecycle::NameError>(())
    /// ```
    MasterName,
    Rule {
        what: "master name",
        max: 64,
        allowed: "letters, digits, '-', '_' and '.'",
        accepts: |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'),
        also: no_more,
    }
}

name! {
    /// The name of an engine, such as `compose`: 1 to 32 lowercase letters,
    /// digits or `-`. Deckies are taken down by the engine that brought them
    /// up.
    ///
    /// ```
    /// use decnet_lifecycle::lifecycle::EngineName;
    ///
    /// assert_eq!(EngineName::parse("process")?.as_str(), "process");
    /// # Ok::<(), decnet_lifecycle::lifecycle::NameError>(())
    /// ```
    EngineName,
    Rule {
        what: "engine name",
        max: 32,
        allowed: "lowercase letters, digits and '-'",
        accepts: |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-',
        also: no_more,
    }
}
