//! A setting of a service, and what its value does to the container.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use serde_json::ser::Formatter;

use super::env_name::EnvName;
use super::volume::FolderPath;

/// One key of `service_config.<service>`. In a catalogue file it is the name
/// of a variable, or an object with a `type`.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct Setting {
    kind: Kind,
    /// None for one that works elsewhere than in the container.
    variable: Option<EnvName>,
    is_secret: bool,
}

#[derive(Debug, Clone)]
enum Kind {
    Text,
    /// Longer text, which the original's wizard writes as `b64:..`.
    Area,
    Number,
    Switch,
    One(Vec<String>),
    Some(Vec<String>),
    /// A folder of this machine, which is shown read-only under another name.
    Folder {
        to: FolderPath,
        otherwise: Option<Otherwise>,
    },
}

/// What stands in for a folder that isn't set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Otherwise {
    Bait,
}

/// What a value does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect<'s, T> {
    Nothing,
    /// Sets a variable.
    Variable(&'s EnvName, T),
    /// Shows a folder, and says in the variable where.
    Folder {
        variable: Option<&'s EnvName>,
        from: T,
        to: &'s FolderPath,
    },
}

/// Why a value won't do, and what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    pub(crate) what: String,
    pub(crate) hint: String,
}

impl Setting {
    /// Whether nobody may see its value.
    pub(crate) const fn is_secret(&self) -> bool {
        self.is_secret
    }

    /// What this value does; one that is null or empty is as one that isn't
    /// set.
    pub(crate) fn effect(&self, value: &Value) -> Result<Effect<'_, String>, Misfit> {
        if value.is_null() || value.as_str().is_some_and(str::is_empty) {
            return Ok(Effect::Nothing);
        }
        if let Kind::Folder { to, .. } = &self.kind {
            let from = plain(value).ok_or_else(|| misfit(value, "write an absolute path"))?;
            return Ok(Effect::Folder { variable: self.variable.as_ref(), from, to });
        }
        let text = match &self.kind {
            Kind::Text => plain(value).ok_or_else(|| misfit(value, "write text"))?,
            Kind::Area => area(value)?,
            Kind::Number => number(value).ok_or_else(|| misfit(value, "write a whole number"))?,
            Kind::Switch => match switch(value).ok_or_else(|| misfit(value, "write true or false"))? {
                true => "true".to_owned(),
                false => return Ok(Effect::Nothing),
            },
            Kind::One(choices) => one(value, choices)?,
            Kind::Some(choices) => json(&Value::from(some(value, choices)?)),
            Kind::Folder { .. } => return Ok(Effect::Nothing),
        };
        Ok(self.variable.as_ref().map_or(Effect::Nothing, |variable| Effect::Variable(variable, text)))
    }

    /// What is done where the fleet doesn't set it: a folder may be the bait.
    pub(crate) fn default_effect<T>(&self, bait: Option<T>) -> Effect<'_, T> {
        match (&self.kind, bait) {
            (Kind::Folder { to, otherwise: Some(Otherwise::Bait) }, Some(from)) => {
                Effect::Folder { variable: self.variable.as_ref(), from, to }
            }
            _ => Effect::Nothing,
        }
    }
}

fn misfit(value: &Value, hint: &str) -> Misfit {
    // What is written may be a secret.
    let what = match value {
        Value::Null => "null won't do",
        Value::Bool(_) => "true or false won't do",
        Value::Number(_) => "a number won't do",
        Value::String(_) => "this text won't do",
        Value::Array(_) => "a list won't do",
        Value::Object(_) => "an object won't do",
    };
    Misfit { what: what.to_owned(), hint: hint.to_owned() }
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn area(value: &Value) -> Result<String, Misfit> {
    let Some(coded) = value.as_str().and_then(|text| text.strip_prefix("b64:")) else {
        return Ok(plain(value).unwrap_or_else(|| json(value)));
    };
    let decoded = STANDARD.decode(coded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.ok_or_else(|| misfit(value, "after b64: write the base64 of UTF-8 text"))
}

fn number(value: &Value) -> Option<String> {
    let number = match value {
        Value::Number(number) => number.as_i64()?,
        Value::String(text) => text.trim().parse::<i64>().ok()?,
        _ => return None,
    };
    Some(number.to_string())
}

fn switch(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(on) => Some(*on),
        Value::Number(number) => number.as_i64().and_then(|number| match number {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn one(value: &Value, choices: &[String]) -> Result<String, Misfit> {
    let written = value.as_str().map(str::trim);
    let found = choices.iter().find(|choice| written == Some(choice.as_str()));
    found.cloned().ok_or_else(|| misfit(value, &format!("write one of {}", choices.join(", "))))
}

/// A list of texts, as such, as JSON in a text, or with commas.
fn some(value: &Value, choices: &[String]) -> Result<Vec<String>, Misfit> {
    let listed = match value {
        Value::Array(list) => list.clone(),
        Value::String(text) => serde_json::from_str(text)
            .unwrap_or_else(|_| text.split(',').map(|word| Value::from(word.trim())).collect()),
        _ => return Err(misfit(value, &format!("write a list of {}", choices.join(", ")))),
    };
    listed.iter().map(|word| one(word, choices)).collect()
}

/// JSON as the original writes it: a blank after each comma and colon.
fn json(value: &Value) -> String {
    let mut bytes = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut bytes, Spaced);
    // Writing to memory doesn't fail, and what is written is text.
    let written = serde::Serialize::serialize(value, &mut writer).is_ok();
    if written { String::from_utf8(bytes).unwrap_or_default() } else { String::new() }
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a setting is a variable's name, or an object with a \"type\"")]
enum Written {
    Variable(String),
    Object(WrittenObject),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenObject {
    r#type: WrittenKind,
    #[serde(default)]
    variable: Option<String>,
    #[serde(default)]
    of: Vec<String>,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    otherwise: Option<Otherwise>,
}

/// The original's words for them.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenKind {
    String,
    Password,
    Textarea,
    Int,
    Bool,
    Enum,
    MultiEnum,
    Path,
}

impl TryFrom<Written> for Setting {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let object = match written {
            Written::Variable(name) => {
                return Ok(Self {
                    kind: Kind::Text,
                    variable: Some(EnvName::try_from(name)?),
                    is_secret: false,
                });
            }
            Written::Object(object) => object,
        };
        let has_choices = matches!(object.r#type, WrittenKind::Enum | WrittenKind::MultiEnum);
        if has_choices == object.of.is_empty() {
            return Err("an enum or multi_enum, and nothing else, has its choices in \"of\"".to_owned());
        }
        if (object.r#type == WrittenKind::Path) != object.to.is_some() {
            return Err("a path, and nothing else, has in \"to\" where it is shown".to_owned());
        }
        if object.otherwise.is_some() && object.to.is_none() {
            return Err("only a path has an \"otherwise\"".to_owned());
        }
        let is_secret = object.r#type == WrittenKind::Password;
        let kind = match (object.r#type, object.to) {
            (WrittenKind::Path, Some(to)) => {
                Kind::Folder { to: FolderPath::try_from(to)?, otherwise: object.otherwise }
            }
            (WrittenKind::String | WrittenKind::Password | WrittenKind::Path, _) => Kind::Text,
            (WrittenKind::Textarea, _) => Kind::Area,
            (WrittenKind::Int, _) => Kind::Number,
            (WrittenKind::Bool, _) => Kind::Switch,
            (WrittenKind::Enum, _) => Kind::One(object.of),
            (WrittenKind::MultiEnum, _) => Kind::Some(object.of),
        };
        Ok(Self { kind, variable: object.variable.map(EnvName::try_from).transpose()?, is_secret })
    }
}
