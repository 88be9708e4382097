//! What differs between two configurations, key by key.

use std::collections::{HashMap, HashSet};

use serde_json::Value as Json;

use crate::config::document::Path;

/// A key whose value differs between two configurations.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The key, such as `timeouts.read` or `pools.web.hosts[127.0.0.1:8081].weight`.
    pub path: String,
    /// How it differs.
    pub kind: ChangeKind,
    /// Whether only another process can take the change.
    pub needs_new_process: bool,
}

/// How a key differs between two configurations.
#[derive(Debug, Clone, PartialEq)]
pub enum ChangeKind {
    /// It has another value.
    Value {
        /// The value before.
        old: Json,
        /// The value now.
        new: Json,
    },
    /// The value is the same; what it names differs, such as the content of a file.
    Content,
    /// An element of a list or map is new.
    Added,
    /// An element of a list or map is gone.
    Removed,
    /// The elements of a list stand in another order.
    Reordered,
}

/// Collects what differs.
#[derive(Debug, Default)]
pub(in crate::config) struct Diff {
    path: Path,
    /// Whether the key that is compared needs a new process for another value, or for other elements.
    needs_new_process: bool,
    changes: Vec<Change>,
}

impl Diff {
    pub(in crate::config) fn changed(&mut self, old: Json, new: Json) {
        self.note(match old == new {
            true => ChangeKind::Content,
            false => ChangeKind::Value { old, new },
        });
    }

    pub(in crate::config) fn reordered(&mut self) {
        self.note(ChangeKind::Reordered);
    }

    fn note(&mut self, kind: ChangeKind) {
        self.changes.push(Change {
            path: self.path.to_string(),
            kind,
            needs_new_process: self.needs_new_process,
        });
    }

    pub(in crate::config) fn count(&self) -> usize {
        self.changes.len()
    }

    pub(in crate::config) fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    /// Compares the values of a key, which may need a new process.
    pub(in crate::config) fn in_key(
        &mut self,
        (name, needs_new_process): (&str, bool),
        compare: impl FnOnce(&mut Self),
    ) {
        let before = self.needs_new_process;
        self.needs_new_process = needs_new_process;
        self.path.push_key(name);
        compare(self);
        self.path.pop();
        self.needs_new_process = before;
    }

    /// Compares the elements of two lists, or of two maps with `as_keys`, that have the same name.
    pub(in crate::config) fn compare_named<T>(
        &mut self,
        (old_names, old): (&[String], &[T]),
        (new_names, new): (&[String], &[T]),
        as_keys: bool,
        compare: impl Fn(&T, &T, &mut Self),
    ) {
        let before: HashMap<&String, &T> = old_names.iter().zip(old).collect();
        for (name, new) in new_names.iter().zip(new) {
            self.push(name, as_keys);
            match before.get(name) {
                Some(old) => compare(old, new, self),
                None => self.note(ChangeKind::Added),
            }
            self.path.pop();
        }
        let now: HashSet<&String> = new_names.iter().collect();
        for name in old_names.iter().filter(|name| !now.contains(name)) {
            self.push(name, as_keys);
            self.note(ChangeKind::Removed);
            self.path.pop();
        }
    }

    fn push(&mut self, name: &str, as_key: bool) {
        match as_key {
            true => self.path.push_key(name),
            false => self.path.push_name(name),
        }
    }
}
