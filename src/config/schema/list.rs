//! Lists of values.

use serde_json::{Value as Json, json};

use super::diff::Diff;
use super::kind::{Describe, Kind, Nested, Nesting};
use super::reader::Reader;
use crate::config::document::{Content, Node};

/// A list whose elements are of one type.
pub(in crate::config) struct List<K: Kind> {
    kind: K,
    what: &'static str,
    max: usize,
    takes_map: bool,
    empty: Option<&'static str>,
    identity: &'static [&'static str],
    is_ordered: bool,
    check: Option<Check<K>>,
}

/// Looks at all elements that could be read, each with its index.
type Check<K> = fn(&Node, &[(usize, <K as Kind>::Value)], &mut Reader<'_>);

/// A list of `kind`. Messages call the elements `what`. A single value is a list of one.
pub(in crate::config) fn list<K: Kind>(what: &'static str, kind: K) -> List<K> {
    List {
        kind,
        what,
        max: usize::MAX,
        takes_map: false,
        empty: None,
        identity: &[],
        is_ordered: false,
        check: None,
    }
}

impl<K: Kind> List<K> {
    /// Refuses more than `max` elements.
    pub(in crate::config) fn up_to(mut self, max: usize) -> Self {
        self.max = max;
        self
    }

    /// A single map is a list of one as well.
    pub(in crate::config) fn or_single_map(mut self) -> Self {
        self.takes_map = true;
        self
    }

    /// Refuses an empty list with this message.
    pub(in crate::config) fn not_empty(mut self, message: &'static str) -> Self {
        self.empty = Some(message);
        self
    }

    /// Compares the elements with each other, once they are read.
    pub(in crate::config) fn checked(mut self, check: Check<K>) -> Self {
        self.check = Some(check);
        self
    }

    /// Elements with the same value of the first of these keys that they have are the same one, wherever they stand in the
    /// list.
    pub(in crate::config) fn identified_by(mut self, keys: &'static [&'static str]) -> Self {
        self.identity = keys;
        self
    }

    /// The order of identified elements counts as well.
    pub(in crate::config) fn ordered(mut self) -> Self {
        self.is_ordered = true;
        self
    }
}

impl<K: Kind> Describe for List<K> {
    fn phrase(&self) -> String {
        match self.takes_map {
            true => format!("a map, or a list of {}", self.what),
            false => format!("a list of {}", self.what),
        }
    }

    fn schema(&self) -> Json {
        let element = self.kind.schema();
        let mut list = json!({ "type": "array", "items": element });
        if self.max < usize::MAX {
            list["maxItems"] = json!(self.max);
        }
        if self.empty.is_some() {
            list["minItems"] = json!(1);
        }
        match self.kind.nested() {
            Some(_) if !self.takes_map => list,
            _ => json!({ "anyOf": [list, self.kind.schema()] }),
        }
    }

    fn nested(&self) -> Option<Nested> {
        let nested = self.kind.nested()?;
        let nesting = match self.takes_map {
            true => Nesting::Map,
            false => Nesting::List,
        };
        Some(Nested { nesting, ..nested })
    }
}

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;

    /// Elements with problems are left out, so that the rest can be checked.
    fn read(&self, node: &Node, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let count = match &node.content {
            Content::List(list) => list.len(),
            Content::Null => 0,
            Content::Scalar { .. } => 1,
            Content::Map(_) if self.takes_map => 1,
            Content::Map(_) => {
                reader.wrong_type(node, &self.phrase());
                return None;
            }
        };
        if count == 0
            && let Some(message) = self.empty
        {
            reader.problem(node, message);
        }
        if count > self.max {
            let (what, max) = (self.what, self.max);
            reader.problem(
                node,
                format!("there are {count} {what}; the limit is {max}"),
            );
            return None;
        }
        if let Content::Scalar { .. } = &node.content {
            return Some(Vec::from_iter(self.kind.read(node, reader)));
        }
        let values = match &node.content {
            Content::Map(_) => {
                let value = self.kind.read(node, reader);
                Vec::from_iter(value.map(|value| (0, value)))
            }
            _ => {
                let elements = node.elements().iter().enumerate();
                let values = elements.filter_map(|(index, element)| {
                    let value = reader.in_element(index, |reader| self.kind.read(element, reader));
                    Some((index, value?))
                });
                Vec::from_iter(values)
            }
        };
        if let Some(check) = self.check {
            check(node, &values, reader);
        }
        Some(values.into_iter().map(|(_, value)| value).collect())
    }

    fn dump(&self, value: &Self::Value) -> Json {
        value
            .iter()
            .map(|element| self.kind.dump(element))
            .collect()
    }

    fn diff(&self, old: &Self::Value, new: &Self::Value, diff: &mut Diff) {
        if self.identity.is_empty() {
            if old != new {
                diff.changed(self.dump(old), self.dump(new));
            }
            return;
        }
        let identity = |element: &K::Value| {
            let dumped = self.kind.dump(element);
            let mut keys = self.identity.iter().filter_map(|key| dumped.get(key));
            let identity = keys.find(|value| !value.is_null()).unwrap_or(&dumped);
            identity
                .as_str()
                .map_or_else(|| identity.to_string(), str::to_owned)
        };
        let with_identity = |list: &Self::Value| Vec::from_iter(list.iter().map(identity));
        let (old_ids, new_ids) = (with_identity(old), with_identity(new));
        diff.compare_named(
            (&old_ids, old.as_slice()),
            (&new_ids, new.as_slice()),
            false,
            |old, new, diff| self.kind.diff(old, new, diff),
        );
        let stayed = |ids: &[String], others: &[String]| {
            let others = std::collections::HashSet::<&String>::from_iter(others);
            Vec::from_iter(ids.iter().filter(|id| others.contains(id)).cloned())
        };
        if self.is_ordered && stayed(&old_ids, &new_ids) != stayed(&new_ids, &old_ids) {
            diff.reordered();
        }
    }
}
