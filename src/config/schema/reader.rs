//! What reading a file has at hand, and the problems found so far.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::{Path as FilePath, PathBuf};

use crate::config::document::{Node, Path, Position};
use crate::config::environment::{Environment, Names};
use crate::config::errors::{MAX_LISTED, Problem, place};
use crate::config::include::directory_of;
use crate::config::password_file::PasswordFile;

/// Reads the tree of all files.
pub(in crate::config) struct Reader<'a> {
    /// The main file and the included ones.
    files: &'a [PathBuf],
    pub(in crate::config) environment: &'a dyn Environment,
    /// The addresses of the hosts' names.
    pub(in crate::config) names: Names,
    /// The names of the pools, in the order of the file.
    pub(in crate::config) pools: Vec<String>,
    /// Whether certificates are ordered, so that listeners need none of their own.
    pub(in crate::config) has_acme: bool,
    /// The default limit of the hosts of the pool that is being read.
    pub(in crate::config) pool_max_in_flight: Option<u64>,
    /// The files of users that have been read.
    pub(in crate::config) password_files: RefCell<HashMap<PathBuf, Result<PasswordFile, String>>>,
    /// The positions of values that are not known; nothing that is said about these would be true.
    pub(in crate::config) unknown: HashSet<Position>,
    /// The index of the file with the value that is being read; relative paths in it begin in its directory.
    file: usize,
    path: Path,
    problems: Vec<Problem>,
    is_last_noted: bool,
}

impl<'a> Reader<'a> {
    pub(in crate::config) fn new(
        files: &'a [PathBuf],
        environment: &'a dyn Environment,
        problems: Vec<Problem>,
    ) -> Self {
        Reader {
            files,
            environment,
            names: Names::new(),
            pools: Vec::new(),
            has_acme: false,
            pool_max_in_flight: None,
            password_files: RefCell::default(),
            unknown: HashSet::new(),
            file: 0,
            path: Path::default(),
            problems,
            is_last_noted: false,
        }
    }

    /// A file that the configuration names.
    pub(in crate::config) fn file(&self, name: &str) -> PathBuf {
        let file = self.files.get(self.file);
        file.map_or(FilePath::new(""), |file| directory_of(file))
            .join(name)
    }

    /// Notes a problem with the value that is being read.
    pub(in crate::config) fn problem(&mut self, node: &Node, message: impl AsRef<str>) {
        self.is_last_noted = !self.unknown.contains(&node.position);
        if self.is_last_noted {
            let problem = Problem::with_path(node.position, &self.path, message.as_ref());
            self.problems.push(problem);
        }
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
        if let Some(problem) = self.problems.last_mut().filter(|_| self.is_last_noted) {
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

    /// Where a value is, for a message about another one.
    pub(in crate::config) fn place(&self, node: &Node) -> String {
        place(self.files, node.position)
    }

    /// Begins to read a single value, which may name a file. Returns whether the value is known; a problem with another one
    /// was noted before.
    pub(in crate::config) fn begin(&mut self, node: &Node) -> bool {
        self.file = node.position.file;
        self.is_last_noted = false;
        !self.unknown.contains(&node.position)
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
