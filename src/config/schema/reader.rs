//! What reading a file has at hand, and the problems found so far.

use std::path::{Path as FilePath, PathBuf};

use crate::config::document::{Node, Path};
use crate::config::environment::{Environment, Names};
use crate::config::errors::{MAX_LISTED, Problem};

/// Reads one file.
pub(in crate::config) struct Reader<'a> {
    /// Where the file is; relative paths in it begin there.
    pub(in crate::config) directory: &'a FilePath,
    pub(in crate::config) environment: &'a dyn Environment,
    /// The addresses of the hosts' names.
    pub(in crate::config) names: Names,
    /// The names of the pools, in the order of the file.
    pub(in crate::config) pools: Vec<String>,
    /// The default limit of the hosts of the pool that is being read.
    pub(in crate::config) pool_max_in_flight: Option<u64>,
    path: Path,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(in crate::config) fn new(
        directory: &'a FilePath,
        environment: &'a dyn Environment,
        problems: Vec<Problem>,
    ) -> Self {
        Reader {
            directory,
            environment,
            names: Names::new(),
            pools: Vec::new(),
            pool_max_in_flight: None,
            path: Path::default(),
            problems,
        }
    }

    /// A file that the configuration names.
    pub(in crate::config) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Notes a problem with the value that is being read.
    pub(in crate::config) fn problem(&mut self, node: &Node, message: impl AsRef<str>) {
        let problem = Problem::with_path(node.position, &self.path, message.as_ref());
        self.problems.push(problem);
    }

    /// Notes that a value is not `what`. A null is never taken for a value.
    pub(in crate::config) fn wrong_type(&mut self, node: &Node, what: &str) {
        match node.is_null() {
            true => self.problem(
                node,
                "a value is missing here; write one or leave the key out",
            ),
            false => self.problem(node, format!("expected {what}, found {}", node.describe())),
        }
    }

    /// Adds to the last problem.
    pub(in crate::config) fn extend_problem(&mut self, text: &str) {
        if let Some(problem) = self.problems.last_mut() {
            problem.message.push_str(text);
        }
    }

    /// Notes a problem with `key` of the map that is being read; without that key, it is the map's.
    pub(in crate::config) fn problem_of_key(
        &mut self,
        map: &Node,
        key: &str,
        message: impl AsRef<str>,
    ) {
        let entry = map.entries().iter().find(|entry| entry.key == key);
        match entry {
            // The short form of a map.
            None if map.text().is_some() => self.problem(map, message),
            Some(entry) if entry.is_implied => self.problem(&entry.value, message),
            entry => {
                let node = entry.map_or(map, |entry| &entry.value);
                self.in_key(key, |reader| reader.problem(node, message));
            }
        }
    }

    /// The value of a result; an error is noted.
    pub(in crate::config) fn take<T>(
        &mut self,
        node: &Node,
        result: Result<T, String>,
    ) -> Option<T> {
        result.map_err(|message| self.problem(node, message)).ok()
    }

    /// Reads the value of a key.
    pub(in crate::config) fn in_key<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        self.path.push_key(key);
        let value = read(self);
        self.path.pop();
        value
    }

    /// Reads the element of a list.
    pub(in crate::config) fn in_element<T>(
        &mut self,
        index: usize,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        self.path.push_index(index);
        let value = read(self);
        self.path.pop();
        value
    }

    pub(in crate::config) fn problem_count(&self) -> usize {
        self.problems.len()
    }

    /// Whether further problems are only counted, so that hints for them are wasted.
    pub(in crate::config) fn is_full(&self) -> bool {
        self.problems.len() >= MAX_LISTED
    }

    pub(in crate::config) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}
