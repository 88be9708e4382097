//! Policies that a word turns off.

use serde_json::{Value as Json, json};

use super::diff::Diff;
use super::kind::{Describe, Kind, Nested};
use super::reader::Reader;
use crate::config::document::{Content, Node};
use crate::config::hints::quote;

/// A map, or a word that turns the policy off.
pub(in crate::config) struct Switch<K> {
    kind: K,
    off: &'static str,
    /// The word for the map with all defaults, if there is one.
    on: Option<&'static str>,
    hint: fn(&str) -> Option<String>,
}

/// A map, or `none`. `hint` says what a wrong word should have been.
pub(in crate::config) fn or_none<K: Kind>(kind: K, hint: fn(&str) -> Option<String>) -> Switch<K> {
    Switch {
        kind,
        off: "none",
        on: None,
        hint,
    }
}

/// The hint for words that are taken for booleans.
pub(in crate::config) fn boolean_hint(text: &str) -> Option<String> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "yes" | "true" => Some("{}".to_owned()),
        "off" | "no" | "false" => Some("none".to_owned()),
        _ => None,
    }
}

/// A map, or `false`, or `true` for the map with all defaults.
pub(in crate::config) fn or_false<K: Kind>(kind: K) -> Switch<K> {
    Switch {
        kind,
        off: "false",
        on: Some("true"),
        hint: |text| match text.to_ascii_lowercase().as_str() {
            "on" | "yes" | "true" => Some("true".to_owned()),
            "off" | "no" | "none" | "false" => Some("false".to_owned()),
            _ => None,
        },
    }
}

impl<K> Switch<K> {
    fn word(&self, word: &str) -> Json {
        match self.on {
            Some(on) => json!(word == on),
            None => json!(word),
        }
    }
}

impl<K: Describe> Describe for Switch<K> {
    fn phrase(&self) -> String {
        match self.on {
            Some(on) => format!("`{}`, `{on}` or a map", self.off),
            None => format!("`{}` or a map", self.off),
        }
    }

    fn schema(&self) -> Json {
        let words = [Some(self.off), self.on].into_iter().flatten();
        let words = Vec::from_iter(words.map(|word| self.word(word)));
        json!({ "anyOf": [{ "enum": words }, self.kind.schema()] })
    }

    fn nested(&self) -> Option<Nested> {
        self.kind.nested()
    }
}

impl<K: Kind> Kind for Switch<K> {
    type Value = Option<K::Value>;

    fn read(&self, node: &Node, reader: &mut Reader<'_>) -> Option<Self::Value> {
        match &node.content {
            Content::Scalar { text, .. } if text == self.off => Some(None),
            Content::Scalar { text, .. } if Some(text.as_str()) == self.on => {
                self.kind.read(&Node::of("{}"), reader).map(Some)
            }
            Content::Scalar { text, .. } => {
                let hint = (self.hint)(text).map(|hint| format!("; did you mean `{hint}`?"));
                let (shown, off) = (quote(text), self.off);
                let on = self.on.map(|on| format!(" nor `{on}`"));
                let message = format!(
                    "{shown} is neither `{off}`{} nor a map{}",
                    on.unwrap_or_default(),
                    hint.unwrap_or_default()
                );
                reader.problem(node, message);
                None
            }
            Content::Null => {
                reader.wrong_type(node, &self.phrase());
                None
            }
            Content::Map(_) | Content::List(_) => self.kind.read(node, reader).map(Some),
        }
    }

    fn dump(&self, value: &Self::Value) -> Json {
        match value {
            Some(value) => self.kind.dump(value),
            None => self.word(self.off),
        }
    }

    fn diff(&self, old: &Self::Value, new: &Self::Value, diff: &mut Diff) {
        match (old, new) {
            (Some(old), Some(new)) => self.kind.diff(old, new, diff),
            (None, None) => {}
            _ => diff.changed(self.dump(old), self.dump(new)),
        }
    }
}
