//! Maps whose keys are free.

use serde_json::{Map, Value as Json, json};

use super::kind::{Describe, Kind};
use super::reader::Reader;
use crate::config::document::{Content, Node};

type ReadKey<N> = dyn Fn(&str) -> Result<N, String>;
type DumpKey<N> = dyn Fn(&N) -> String;

/// A map whose keys are free, in the order of the file.
pub(in crate::config) struct Table<N, K> {
    phrase: &'static str,
    max: usize,
    read_key: Box<ReadKey<N>>,
    dump_key: Box<DumpKey<N>>,
    kind: K,
}

/// A map of up to `max` entries. The first function reads a key, the second one writes it back.
pub(in crate::config) fn table<N, K: Kind>(
    phrase: &'static str,
    max: usize,
    read_key: impl Fn(&str) -> Result<N, String> + 'static,
    dump_key: impl Fn(&N) -> String + 'static,
    kind: K,
) -> Table<N, K> {
    Table {
        phrase,
        max,
        read_key: Box::new(read_key),
        dump_key: Box::new(dump_key),
        kind,
    }
}

impl<N, K: Describe> Describe for Table<N, K> {
    fn phrase(&self) -> String {
        self.phrase.to_owned()
    }

    fn schema(&self) -> Json {
        json!({
            "type": ["object", "null"],
            "additionalProperties": self.kind.schema(),
            "maxProperties": self.max,
        })
    }
}

impl<N: PartialEq, K: Kind> Kind for Table<N, K> {
    type Value = Vec<(N, K::Value)>;

    fn read(&self, node: &Node, reader: &mut Reader<'_>) -> Option<Self::Value> {
        if !matches!(node.content, Content::Map(_) | Content::Null) {
            reader.wrong_type(node, self.phrase);
            return None;
        }
        let entries = node.entries();
        if entries.len() > self.max {
            let (count, max) = (entries.len(), self.max);
            reader.problem(
                node,
                format!("there are {count} entries; the limit is {max}"),
            );
            return None;
        }
        let before = reader.problem_count();
        let mut values = Vec::with_capacity(entries.len());
        for entry in entries {
            let (name, value) = reader.in_key(&entry.key, |reader| {
                let at = Node {
                    position: entry.position,
                    content: Content::Null,
                };
                let name = reader.take(&at, (self.read_key)(&entry.key));
                (name, self.kind.read(&entry.value, reader))
            });
            let (Some(name), Some(value)) = (name, value) else {
                continue;
            };
            if values.iter().any(|(known, _)| *known == name) {
                let message = "this name is here already, in another spelling";
                reader.in_key(&entry.key, |reader| reader.problem(&entry.value, message));
            }
            values.push((name, value));
        }
        (reader.problem_count() == before).then_some(values)
    }

    fn dump(&self, value: &Self::Value) -> Json {
        let entries = value.iter();
        let entries = entries.map(|(name, value)| ((self.dump_key)(name), self.kind.dump(value)));
        Json::Object(Map::from_iter(entries))
    }
}
