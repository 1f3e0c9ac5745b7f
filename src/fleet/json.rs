//! JSON, read strictly: in UTF-8, without a mark before it, each key of an
//! object once.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::lifecycle::text::one_line;

use super::FleetError;

/// Lists and objects in one another; the parser's own bound.
const DEPTH: usize = 128;

pub(super) fn read(bytes: &[u8]) -> Result<Value, FleetError> {
    if let Some(encoding) = encoding(bytes) {
        return Err(FleetError::Encoding { encoding });
    }
    let doubled = RefCell::new(None);
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let read = Strict { doubled: &doubled }.deserialize(&mut parser).and_then(|value| {
        parser.end()?;
        Ok(value)
    });
    read.map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match doubled.take() {
            Some(key) => FleetError::Doubled { key, line, column },
            None if error.to_string().starts_with("recursion limit") => {
                FleetError::TooDeep { line, column, max: DEPTH }
            }
            None => FleetError::Syntax { line, column, error },
        }
    })
}

/// Whether bytes are JSON that can be meant, for files that are read into
/// another form: says what they are if not. Of other mistakes in the syntax the
/// reader of that form says more.
///
/// # Errors
/// [`FleetError`] names the encoding, the key that stands twice, or the depth.
pub(crate) fn check(bytes: &[u8]) -> Result<(), FleetError> {
    match read(bytes) {
        Ok(_) | Err(FleetError::Syntax { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What the bytes are, where they are no plain UTF-8.
fn encoding(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [0xef, 0xbb, 0xbf, ..] => Some("UTF-8 with a byte order mark (BOM)"),
        [0, 0, 0, _, ..] | [_, 0, 0, 0, ..] => Some("UTF-32 without a byte order mark"),
        [0, other, ..] | [other, 0, ..] if *other != 0 => Some("UTF-16 without a byte order mark"),
        [0x1f, 0x8b, ..] => Some("compressed (gzip)"),
        _ => None,
    }
}

/// Takes any JSON in which no object has a key twice.
#[derive(Clone, Copy)]
struct Strict<'s> {
    /// The first key that stands twice.
    doubled: &'s RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is none"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            if fields.contains_key(&key) {
                self.doubled.replace(Some(one_line(&key, 80)));
                return Err(A::Error::custom("a key stands twice"));
            }
            let value = object.next_value_seed(self)?;
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}
