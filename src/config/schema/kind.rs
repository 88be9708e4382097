//! The type of a key's values.

use serde_json::{Value as Json, json};

use super::diff::Diff;
use super::key::Key;
use super::reader::Reader;
use crate::config::document::Node;

/// What a type says about itself, for people and for editors.
pub(in crate::config) trait Describe {
    /// A phrase for the manual, such as `a time above 0`.
    fn phrase(&self) -> String;

    /// The JSON Schema of the values.
    fn schema(&self) -> Json;

    /// Further lines of the documentation, which are not wrapped.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// The keys of the maps within, if the values are maps or hold some.
    fn nested(&self) -> Option<Nested> {
        None
    }
}

/// The maps within a value.
pub(in crate::config) struct Nested {
    pub(in crate::config) nesting: Nesting,
    pub(in crate::config) keys: Vec<Key>,
}

/// How maps are within a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Nesting {
    /// The value is the map.
    Map,
    /// The value is a list of maps.
    List,
    /// The value is a map of maps, whose names are free.
    Named,
}

/// The type of a key's values.
pub(in crate::config) trait Kind: Describe {
    type Value: PartialEq;

    /// Reads a value; `None` after at least one problem was noted.
    fn read(&self, node: &Node, reader: &mut Reader<'_>) -> Option<Self::Value>;

    /// The value as it could stand in a file. Secrets are files, and only the names of files are dumped.
    fn dump(&self, value: &Self::Value) -> Json;

    /// Notes what differs between two values.
    fn diff(&self, old: &Self::Value, new: &Self::Value, diff: &mut Diff) {
        if old != new {
            diff.changed(self.dump(old), self.dump(new));
        }
    }

    /// Reads keys that stand among those of another map, `node`.
    fn read_flat(&self, node: &Node, reader: &mut Reader<'_>) -> Option<Self::Value> {
        self.read(node, reader)
    }
}

/// A value that may be left out, without a default in its place.
pub(in crate::config) struct Optional<K>(pub(in crate::config) K);

impl<K: Describe> Describe for Optional<K> {
    fn phrase(&self) -> String {
        self.0.phrase()
    }

    fn schema(&self) -> Json {
        self.0.schema()
    }

    fn nested(&self) -> Option<Nested> {
        self.0.nested()
    }
}

impl<K: Kind> Kind for Optional<K> {
    type Value = Option<K::Value>;

    fn read(&self, node: &Node, reader: &mut Reader<'_>) -> Option<Self::Value> {
        self.0.read(node, reader).map(Some)
    }

    fn dump(&self, value: &Self::Value) -> Json {
        value
            .as_ref()
            .map_or(json!(null), |value| self.0.dump(value))
    }

    fn diff(&self, old: &Self::Value, new: &Self::Value, diff: &mut Diff) {
        match (old, new) {
            (Some(old), Some(new)) => self.0.diff(old, new, diff),
            (None, None) => {}
            _ => diff.changed(self.dump(old), self.dump(new)),
        }
    }
}

/// Values of another type, made from those of `kind`.
pub(in crate::config) struct Converted<K: Kind, T> {
    kind: K,
    /// `None` after at least one problem was noted.
    convert: Convert<K, T>,
    convert_back: fn(&T) -> K::Value,
}

type Convert<K, T> = fn(<K as Kind>::Value, &Node, &mut Reader<'_>) -> Option<T>;

/// Values that `convert` makes from those of `kind`; `convert_back` says what would have to be in the file.
pub(in crate::config) fn converted<K: Kind, T>(
    kind: K,
    convert: Convert<K, T>,
    convert_back: fn(&T) -> K::Value,
) -> Converted<K, T> {
    Converted {
        kind,
        convert,
        convert_back,
    }
}

impl<K: Kind, T> Describe for Converted<K, T> {
    fn phrase(&self) -> String {
        self.kind.phrase()
    }

    fn schema(&self) -> Json {
        self.kind.schema()
    }

    fn nested(&self) -> Option<Nested> {
        self.kind.nested()
    }
}

impl<K: Kind, T: PartialEq> Kind for Converted<K, T> {
    type Value = T;

    fn read(&self, node: &Node, reader: &mut Reader<'_>) -> Option<T> {
        let value = self.kind.read(node, reader)?;
        (self.convert)(value, node, reader)
    }

    fn dump(&self, value: &T) -> Json {
        self.kind.dump(&(self.convert_back)(value))
    }

    fn diff(&self, old: &T, new: &T, diff: &mut Diff) {
        if old == new {
            return;
        }
        let before = diff.count();
        self.kind
            .diff(&(self.convert_back)(old), &(self.convert_back)(new), diff);
        // What is not in the file may differ as well, such as the address of a name.
        if diff.count() == before {
            diff.changed(self.dump(old), self.dump(new));
        }
    }
}
