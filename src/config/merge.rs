//! Makes one tree of the main file and its included ones.
//!
//! The declarations of the keys say how: maps are merged key by key and lists are joined. Everything else is in one file
//! only, and so is each element of a map whose names are free, such as a pool.

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::Value as Json;

use super::document::{Content, Entry, Node, Path};
use super::errors::{Problem, place};
use super::hints::quote;
use super::root::Config;
use super::schema::{Describe, Key, Nesting, map_of};

/// Merges the maps `main` and `included`, which are in `files`.
pub(super) fn merge(
    main: Node,
    included: Vec<Node>,
    files: &[PathBuf],
    problems: &mut Vec<Problem>,
) -> Node {
    let keys = map_of::<Config>().nested().map(|nested| nested.keys);
    let position = main.position;
    let maps = std::iter::once(main).chain(included);
    let mut merge = Merge {
        files,
        path: Path::default(),
        problems,
    };
    Node {
        position,
        content: merge.maps(maps, &keys.unwrap_or_default()),
    }
}

struct Merge<'a> {
    files: &'a [PathBuf],
    path: Path,
    problems: &'a mut Vec<Problem>,
}

/// How the values of one key in several files come together.
enum Rule {
    Map(Vec<Key>),
    List,
    OneFile,
}

impl Rule {
    fn of(key: &Key) -> Rule {
        match key.kind.nested() {
            Some(nested) => match nested.nesting {
                Nesting::Map => Rule::Map(nested.keys),
                Nesting::List => Rule::List,
                // No names are known, so that each is in one file.
                Nesting::Named => Rule::Map(Vec::new()),
            },
            None => {
                let schema = key.kind.schema();
                let mut schemas = schema["anyOf"].as_array().into_iter().flatten();
                let is_list = |schema: &Json| schema["type"] == "array";
                match is_list(&schema) || schemas.any(is_list) {
                    true => Rule::List,
                    false => Rule::OneFile,
                }
            }
        }
    }
}

impl Merge<'_> {
    /// The entries of all maps, those of the main file first.
    fn maps(&mut self, maps: impl Iterator<Item = Node>, keys: &[Key]) -> Content {
        let mut places = HashMap::new();
        let mut groups: Vec<Vec<Entry>> = Vec::new();
        for map in maps {
            let Content::Map(entries) = map.content else {
                continue;
            };
            for entry in entries {
                let place = *places.entry(entry.key.clone()).or_insert(groups.len());
                match groups.get_mut(place) {
                    Some(group) => group.push(entry),
                    None => groups.push(vec![entry]),
                }
            }
        }
        let entries = groups.into_iter().filter_map(|mut group| {
            let first = match group.len() {
                1 => return group.pop(),
                _ => group.first()?,
            };
            let (name, position) = (first.key.clone(), first.position);
            self.path.push_key(&name);
            let value = self.group(group, keys.iter().find(|key| key.name == name));
            self.path.pop();
            Some(Entry {
                key: name,
                position,
                value: value?,
                is_implied: false,
            })
        });
        Content::Map(entries.collect())
    }

    /// One value for a key that is in several files.
    fn group(&mut self, group: Vec<Entry>, key: Option<&Key>) -> Option<Node> {
        let rule = key.map_or(Rule::OneFile, Rule::of);
        let is = |fits: fn(&Content) -> bool| group.iter().all(|entry| fits(&entry.value.content));
        let are_maps = is(|content| matches!(content, Content::Map(_) | Content::Null));
        let are_lists = is(|content| !matches!(content, Content::Map(_)));
        let position = group.first()?.value.position;
        let content = match rule {
            Rule::Map(keys) if are_maps => {
                self.maps(group.into_iter().map(|entry| entry.value), &keys)
            }
            Rule::List if are_lists => {
                // The main file often ends with a route for all other requests.
                let (main, included): (Vec<_>, Vec<_>) = group
                    .into_iter()
                    .partition(|entry| entry.value.position.file == 0);
                let values = included.into_iter().chain(main).map(|entry| entry.value);
                Content::List(values.flat_map(elements).collect())
            }
            _ => return self.first_of(group),
        };
        Some(Node { position, content })
    }

    /// The first value, after a problem for each of the others.
    fn first_of(&mut self, group: Vec<Entry>) -> Option<Node> {
        let mut group = group.into_iter();
        let first = group.next()?;
        for entry in group {
            let message = format!(
                "{} is at {} already; it can be in one file only",
                quote(&entry.key),
                place(self.files, first.position)
            );
            self.problems
                .push(Problem::with_path(entry.position, &self.path, &message));
        }
        Some(first.value)
    }
}

/// The elements of a list, which a single value may stand for.
fn elements(value: Node) -> Vec<Node> {
    match value.content {
        Content::List(list) => list,
        Content::Null => Vec::new(),
        _ => vec![value],
    }
}
