//! Types whose values are single texts, numbers or booleans.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::kind::{Describe, Kind, Nested};
use super::reader::Reader;
use crate::config::document::{Content, Node};
use crate::config::hints::quote;
use crate::config::scalars;

type Read<T> = dyn Fn(&str, &Reader<'_>) -> Result<T, String>;

/// A type whose values are single texts.
pub(in crate::config) struct Scalar<T> {
    phrase: String,
    schema: Json,
    read: Box<Read<T>>,
    dump: Box<dyn Fn(&T) -> Json>,
}

/// Values that `read` takes from a text.
pub(in crate::config) fn scalar<T>(
    phrase: impl Into<String>,
    read: impl Fn(&str) -> Result<T, String> + 'static,
    dump: impl Fn(&T) -> Json + 'static,
) -> Scalar<T> {
    Scalar {
        phrase: phrase.into(),
        schema: json!({ "type": "string" }),
        read: Box::new(move |text, _| read(text)),
        dump: Box::new(dump),
    }
}

/// Values that `read` takes from the file that is named.
pub(in crate::config) fn file<T>(
    phrase: impl Into<String>,
    read: impl Fn(PathBuf, &Reader<'_>) -> Result<T, String> + 'static,
    dump: impl Fn(&T) -> Json + 'static,
) -> Scalar<T> {
    Scalar {
        phrase: phrase.into(),
        schema: json!({ "type": "string" }),
        read: Box::new(move |text, reader| read(reader.file(text), reader)),
        dump: Box::new(dump),
    }
}

impl<T> Scalar<T> {
    /// Takes what `read` needs from the reader as well.
    pub(in crate::config) fn reading(
        mut self,
        read: impl Fn(&str, &Reader<'_>) -> Result<T, String> + 'static,
    ) -> Self {
        self.read = Box::new(read);
        self
    }

    pub(in crate::config) fn with_schema(mut self, schema: Json) -> Self {
        self.schema = schema;
        self
    }
}

impl<T> Describe for Scalar<T> {
    fn phrase(&self) -> String {
        self.phrase.clone()
    }

    fn schema(&self) -> Json {
        self.schema.clone()
    }
}

impl<T: PartialEq> Kind for Scalar<T> {
    type Value = T;

    fn read(&self, node: &Node, reader: &mut Reader<'_>) -> Option<T> {
        match &node.content {
            Content::Scalar { text, .. } => {
                if !reader.begin(node) {
                    return None;
                }
                let value = (self.read)(text, reader);
                reader.take(node, value)
            }
            Content::Null | Content::List(_) | Content::Map(_) => {
                reader.wrong_type(node, &self.phrase);
                None
            }
        }
    }

    fn dump(&self, value: &T) -> Json {
        (self.dump)(value)
    }
}

/// `true` or `false`.
pub(in crate::config) fn boolean() -> Scalar<bool> {
    scalar("`true` or `false`", scalars::boolean, |value| json!(value))
        .with_schema(json!({ "type": "boolean" }))
}

/// One of a few words.
pub(in crate::config) fn choice<T: Copy + PartialEq + 'static>(
    choices: &'static [(&'static str, T)],
) -> Scalar<T> {
    let words = Vec::from_iter(choices.iter().map(|(word, _)| *word));
    let phrase = Vec::from_iter(words.iter().map(|word| quote(word))).join(", ");
    let is_boolean = |word: &&str| matches!(*word, "true" | "false");
    let values = words.iter().map(|word| match is_boolean(word) {
        true => json!(*word == "true"),
        false => json!(word),
    });
    let schema = json!({ "enum": Vec::from_iter(values) });
    let read = |text: &str| scalars::choice(text, choices);
    let dump = |value: &T| {
        let found = choices.iter().find(|(_, other)| other == value);
        match found.map(|(word, _)| *word) {
            Some("true") => json!(true),
            Some("false") => json!(false),
            word => json!(word),
        }
    };
    scalar(phrase, read, dump).with_schema(schema)
}

/// A whole number.
pub(in crate::config) fn whole<T>(range: RangeInclusive<T>) -> Scalar<T>
where
    T: FromStr + PartialOrd + Display + Clone + 'static + serde::Serialize,
{
    let phrase = format!("a whole number from {} to {}", range.start(), range.end());
    let schema = json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() });
    let read = move |text: &str| scalars::whole(text, range.clone());
    scalar(phrase, read, |value| json!(value)).with_schema(schema)
}

/// A number of bytes, with or without a unit.
pub(in crate::config) fn size<T>(range: RangeInclusive<u64>) -> Scalar<T>
where
    T: TryFrom<u64> + serde::Serialize + 'static,
{
    let phrase = match *range.end() {
        u64::MAX => "a number of bytes".to_owned(),
        _ => format!(
            "a number of bytes from {} to {}",
            range.start(),
            range.end()
        ),
    };
    let schema = json!({
        "type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]+ *(KiB|MiB|GiB)?$",
    });
    let read = move |text: &str| {
        let bytes = scalars::size(text, range.clone())?;
        T::try_from(bytes).map_err(|_| format!("{} is more than any memory holds", quote(text)))
    };
    scalar(phrase, read, |value| json!(value)).with_schema(schema)
}

/// A whole percentage.
pub(in crate::config) fn percent(range: RangeInclusive<u32>) -> Scalar<u32> {
    let phrase = format!(
        "a whole percentage from {}% to {}%",
        range.start(),
        range.end()
    );
    let schema = json!({ "type": "string", "pattern": "^[0-9]+ *%$" });
    let read = move |text: &str| scalars::percent(text, range.clone());
    scalar(phrase, read, |value| json!(format!("{value}%"))).with_schema(schema)
}

/// A time above 0.
pub(in crate::config) fn time() -> Scalar<Duration> {
    duration("a time above 0", scalars::time)
}

/// A time.
pub(in crate::config) fn time_or_zero() -> Scalar<Duration> {
    duration("a time", scalars::time_or_zero)
}

fn duration(
    phrase: &'static str,
    read: impl Fn(&str) -> Result<Duration, String> + 'static,
) -> Scalar<Duration> {
    let dump = |value: &Duration| json!(scalars::format_time(*value));
    scalar(phrase, read, dump)
        .with_schema(json!({ "type": "string", "pattern": "^([0-9]+ *[a-zµ]+ *)+$" }))
}

/// A value, or a word for none.
pub(in crate::config) struct OrWord<K> {
    word: &'static str,
    kind: K,
}

/// A value of `kind`, or `word` for none.
pub(in crate::config) fn or_word<K: Kind>(word: &'static str, kind: K) -> OrWord<K> {
    OrWord { word, kind }
}

impl<K: Describe> Describe for OrWord<K> {
    fn phrase(&self) -> String {
        format!("`{}` or {}", self.word, self.kind.phrase())
    }

    fn schema(&self) -> Json {
        json!({ "anyOf": [{ "const": self.word }, self.kind.schema()] })
    }

    fn nested(&self) -> Option<Nested> {
        self.kind.nested()
    }
}

impl<K: Kind> Kind for OrWord<K> {
    type Value = Option<K::Value>;

    fn read(&self, node: &Node, reader: &mut Reader<'_>) -> Option<Self::Value> {
        match node.text() {
            Some(text) if text == self.word => Some(None),
            _ => {
                let value = self.kind.read(node, reader);
                if value.is_none() {
                    reader.extend_problem(&format!(", nor `{}`", self.word));
                }
                value.map(Some)
            }
        }
    }

    fn dump(&self, value: &Self::Value) -> Json {
        value
            .as_ref()
            .map_or(json!(self.word), |value| self.kind.dump(value))
    }
}

/// A number, where 0 stands for none.
pub(in crate::config) struct OrZero<K>(K);

/// A number of `kind`, where 0 stands for none.
pub(in crate::config) fn or_zero<K: Kind>(kind: K) -> OrZero<K> {
    OrZero(kind)
}

impl<K: Describe> Describe for OrZero<K> {
    fn phrase(&self) -> String {
        self.0.phrase()
    }

    fn schema(&self) -> Json {
        self.0.schema()
    }
}

impl<K: Kind<Value: Default>> Kind for OrZero<K> {
    type Value = Option<K::Value>;

    fn read(&self, node: &Node, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let value = self.0.read(node, reader)?;
        Some((value != K::Value::default()).then_some(value))
    }

    fn dump(&self, value: &Self::Value) -> Json {
        match value {
            Some(value) => self.0.dump(value),
            None => self.0.dump(&K::Value::default()),
        }
    }
}
