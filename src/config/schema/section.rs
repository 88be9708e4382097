//! Maps whose keys are declared.

use std::marker::PhantomData;

use serde_json::{Map, Value as Json, json};

use super::diff::Diff;
use super::key::{Key, Presence};
use super::kind::{Describe, Kind, Nested, Nesting};
use super::reader::Reader;
use crate::config::document::{Content, Node};
use crate::config::hints::{did_you_mean, quote};

/// A map whose keys are declared by [`section!`].
pub(in crate::config) trait Section: Sized + PartialEq {
    /// The keys in the order of the declaration.
    fn keys() -> Vec<Key>;

    /// Whether `name` is one of these keys, without making their kinds.
    fn has_key(name: &str) -> bool;

    /// Reads the keys of this section from `map`, which may have others. `None` after at least one problem was noted.
    fn read_keys(map: &Node, reader: &mut Reader<'_>) -> Option<Self>;

    fn dump_keys(&self, map: &mut Map<String, Json>);

    fn diff_keys(old: &Self, new: &Self, diff: &mut Diff);
}

/// The type of keys whose value is a [`Section`].
pub(in crate::config) struct SectionKind<T> {
    /// The key that a single value stands for.
    short: Option<&'static str>,
    /// Says what a single value should have been, where there is no short form.
    hint: fn(&str) -> Option<&'static str>,
    section: PhantomData<T>,
}

/// A map with the keys of `T`.
pub(in crate::config) fn map_of<T: Section>() -> SectionKind<T> {
    SectionKind {
        short: None,
        hint: |_| None,
        section: PhantomData,
    }
}

impl<T: Section> SectionKind<T> {
    /// Takes a single value for the map with `key` alone.
    pub(in crate::config) fn short_for(mut self, key: &'static str) -> Self {
        self.short = Some(key);
        self
    }

    /// What to write instead of a single value.
    pub(in crate::config) fn with_hint(mut self, hint: fn(&str) -> Option<&'static str>) -> Self {
        self.hint = hint;
        self
    }
}

impl<T: Section> Describe for SectionKind<T> {
    fn phrase(&self) -> String {
        match self.short {
            Some(key) => format!("a map, or the value of `{key}` alone"),
            None => "a map".to_owned(),
        }
    }

    fn schema(&self) -> Json {
        let keys = flat_keys(T::keys());
        let required = keys
            .iter()
            .filter(|key| matches!(key.presence, Presence::Required(_)));
        let required = Vec::from_iter(required.map(|key| key.name));
        let properties = keys.iter().map(|key| (key.name.to_owned(), property(key)));
        let map = json!({
            "type": ["object", "null"],
            "additionalProperties": false,
            "properties": Map::from_iter(properties),
            "required": required,
        });
        match self.short {
            Some(short) => {
                let key = keys.iter().find(|key| key.name == short);
                json!({ "anyOf": [key.map(|key| key.kind.schema()), map] })
            }
            None => map,
        }
    }

    fn nested(&self) -> Option<Nested> {
        Some(Nested {
            nesting: Nesting::Map,
            keys: flat_keys(T::keys()),
        })
    }
}

/// The keys with those of flat sections in their places.
fn flat_keys(keys: Vec<Key>) -> Vec<Key> {
    let mut flat = Vec::with_capacity(keys.len());
    for key in keys {
        match key.presence {
            Presence::Flat => flat.extend(key.kind.nested().into_iter().flat_map(|it| it.keys)),
            _ => flat.push(key),
        }
    }
    flat
}

fn property(key: &Key) -> Json {
    let mut schema = key.kind.schema();
    let lines = key.doc.lines().map(str::trim);
    schema["description"] = json!(Vec::from_iter(lines).join(" "));
    if let Presence::Default(value) | Presence::Conditional(value) = key.presence {
        schema["default"] = Node::of(value).to_json();
    }
    schema
}

impl<T: Section> Kind for SectionKind<T> {
    type Value = T;

    fn read(&self, node: &Node, reader: &mut Reader<'_>) -> Option<T> {
        let text = match &node.content {
            Content::Map(_) | Content::Null => {
                refuse_unknown_keys::<T>(node, reader);
                return T::read_keys(node, reader);
            }
            Content::Scalar { text, .. } => Some(text),
            Content::List(_) => None,
        };
        if let (Some(key), Some(_)) = (self.short, text) {
            return T::read_keys(&node.as_map_of(key), reader);
        }
        let hint = text.and_then(|text| (self.hint)(text));
        let hint = hint
            .map(|hint| format!("; write {hint}"))
            .unwrap_or_default();
        let expected = match self.short {
            Some(_) => "a single value or a map",
            None => "a map",
        };
        reader.problem(
            node,
            format!("expected {expected}, found {}{hint}", node.describe()),
        );
        None
    }

    fn dump(&self, value: &T) -> Json {
        let mut map = Map::new();
        value.dump_keys(&mut map);
        Json::Object(map)
    }

    fn diff(&self, old: &T, new: &T, diff: &mut Diff) {
        T::diff_keys(old, new, diff);
    }

    fn read_flat(&self, node: &Node, reader: &mut Reader<'_>) -> Option<T> {
        T::read_keys(node, reader)
    }
}

fn refuse_unknown_keys<T: Section>(map: &Node, reader: &mut Reader<'_>) {
    let mut unknown = map.entries().iter().filter(|entry| !T::has_key(&entry.key));
    let Some(first) = unknown.next() else {
        return;
    };
    let keys = flat_keys(T::keys());
    let names = || keys.iter().map(|key| key.name);
    for entry in [first].into_iter().chain(unknown) {
        let known = Vec::from_iter(names().map(quote)).join(", ");
        let hint = did_you_mean(&entry.key, names());
        let at = Node {
            position: entry.position,
            content: Content::Null,
        };
        reader.problem(
            &at,
            format!(
                "unknown key {}, expected one of {known}{hint}",
                quote(&entry.key)
            ),
        );
    }
}

/// Reads the value of a key from the map that it belongs to.
pub(in crate::config) fn read_key<K: Kind>(
    map: &Node,
    name: &str,
    kind: &K,
    presence: Presence,
    reader: &mut Reader<'_>,
) -> Option<K::Value> {
    if presence == Presence::Flat {
        return kind.read_flat(map, reader);
    }
    let found = map.entries().iter().find(|entry| entry.key == name);
    match (found, presence) {
        (Some(entry), _) if entry.is_implied => kind.read(&entry.value, reader),
        (Some(entry), _) => reader.in_key(name, |reader| kind.read(&entry.value, reader)),
        (None, Presence::Default(value) | Presence::Conditional(value)) => {
            let node = Node {
                position: map.position,
                ..Node::of(value)
            };
            reader.in_key(name, |reader| kind.read(&node, reader))
        }
        (None, Presence::Required(example)) => {
            let message = format!("`{name}` is missing; write it as in `{name}: {example}`");
            reader.problem(map, message);
            None
        }
        (None, Presence::Optional(_) | Presence::Alternative(_) | Presence::Flat) => None,
    }
}

/// Declares the keys of a map, and the struct that holds their values.
///
/// A key has its documentation, its name, the type of its value in the struct, and in braces its [`Kind`], whether it may
/// be left out, and the default or an example as it would stand in a file:
///
/// ```ignore
/// section! {
///     /// How long anything may take.
///     pub struct Timeouts: Copy, Eq {
///         /// to make a connection to a host
///         connect: Duration { time(), default "3s" },
///     }
/// }
/// ```
///
/// `default` takes the value that holds where the key is left out. `conditional` does so for a key that may only be written
/// where another key says so. `required` and `optional` take an example, and so does `alternative`, for an optional key
/// that the reference file shows because one of several keys has to be there. `flat` puts the keys of another section among
/// these. `new_process` after it marks a key whose value, or whose list of elements, a running process cannot change; the
/// keys below have marks of their own.
///
/// After `..` follow fields that are no keys, each with its first value. `check` names a function that checks the section
/// as a whole, once all its keys are valid.
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        $vis:vis struct $name:ident $(: $($derive:ident),+)? {
            $(
                $(#[doc = $key_doc:literal])*
                $key:ident: $type:ty { $kind:expr, $presence:ident $($text:literal)? $(, $flag:ident)? },
            )*
            $(.. {
                $(
                    $(#[doc = $extra_doc:literal])*
                    $extra:ident: $extra_type:ty = $extra_value:expr,
                )*
            })?
        }
        $(check $check:path;)?
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq $($(, $derive)+)?)]
        $vis struct $name {
            $(
                $(#[doc = $key_doc])*
                $vis $key: $type,
            )*
            $($(
                $(#[doc = $extra_doc])*
                $vis $extra: $extra_type,
            )*)?
        }

        impl crate::config::schema::Section for $name {
            fn keys() -> Vec<crate::config::schema::Key> {
                vec![$(crate::config::schema::Key {
                    name: stringify!($key).trim_start_matches("r#"),
                    doc: concat!($($key_doc, "\n",)* ""),
                    presence: crate::config::schema::Presence::$presence($($text)?),
                    kind: Box::new(section!(@kind $presence $kind)),
                }),*]
            }

            fn has_key(name: &str) -> bool {
                $(section!(@has $presence $type, stringify!($key).trim_start_matches("r#"), name))||*
            }

            fn read_keys(
                map: &crate::config::document::Node,
                reader: &mut crate::config::schema::Reader<'_>,
            ) -> Option<Self> {
                let before = reader.problem_count();
                $(let $key = section!(@read $presence map, stringify!($key).trim_start_matches("r#"), $kind,
                    crate::config::schema::Presence::$presence($($text)?), reader);)*
                #[allow(unused_mut, reason = "a section without a check is not changed")]
                let mut section = $name {
                    $($key: $key?,)*
                    $($($extra: $extra_value,)*)?
                };
                $(if reader.problem_count() == before {
                    $check(&mut section, map, reader);
                })?
                (reader.problem_count() == before).then_some(section)
            }

            fn dump_keys(&self, map: &mut serde_json::Map<String, serde_json::Value>) {
                $(section!(@dump $presence $kind, stringify!($key).trim_start_matches("r#"), &self.$key, map);)*
            }

            fn diff_keys(old: &Self, new: &Self, diff: &mut crate::config::schema::Diff) {
                $(section!(@diff $presence $kind, (stringify!($key).trim_start_matches("r#"), section!(@flag $($flag)?)), &old.$key, &new.$key, diff);)*
            }
        }
    };
    (@kind optional $kind:expr) => { crate::config::schema::Optional($kind) };
    (@kind alternative $kind:expr) => { crate::config::schema::Optional($kind) };
    (@kind $presence:ident $kind:expr) => { $kind };
    (@has flat $type:ty, $key:expr, $name:expr) => { <$type as crate::config::schema::Section>::has_key($name) };
    (@has $presence:ident $type:ty, $key:expr, $name:expr) => { $name == $key };
    (@read optional $map:expr, $name:expr, $kind:expr, $presence_value:expr, $reader:expr) => {
        match $map.get($name) {
            None => Some(None),
            Some(_) => crate::config::schema::read_key(
                $map, $name, &crate::config::schema::Optional($kind), $presence_value, $reader,
            ),
        }
    };
    (@read alternative $($read:tt)*) => { section!(@read optional $($read)*) };
    (@read $presence:ident $map:expr, $name:expr, $kind:expr, $presence_value:expr, $reader:expr) => {
        crate::config::schema::read_key($map, $name, &$kind, $presence_value, $reader)
    };
    (@dump flat $kind:expr, $name:expr, $value:expr, $map:expr) => {
        crate::config::schema::Section::dump_keys($value, $map)
    };
    (@dump $presence:ident $kind:expr, $name:expr, $value:expr, $map:expr) => {
        $map.insert(
            $name.to_owned(),
            crate::config::schema::Kind::dump(&section!(@kind $presence $kind), $value),
        )
    };
    (@diff flat $kind:expr, $key:expr, $old:expr, $new:expr, $diff:expr) => {
        crate::config::schema::Section::diff_keys($old, $new, $diff)
    };
    (@diff $presence:ident $kind:expr, $key:expr, $old:expr, $new:expr, $diff:expr) => {
        $diff.in_key($key, |diff| {
            crate::config::schema::Kind::diff(&section!(@kind $presence $kind), $old, $new, diff);
        })
    };
    (@flag) => { false };
    (@flag new_process) => { true };
}

pub(in crate::config) use section;
