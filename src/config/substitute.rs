//! Puts environment variables in the place of `${NAME}` and `${NAME:-default}`.
//!
//! This happens in the tree, after YAML has been read, so that the value of a variable is never more than a part of one
//! value. Keys are left as they are.

use std::collections::HashSet;
use std::env::VarError;

use super::document::{Content, Node, Path, Position};
use super::environment::Environment;
use super::errors::Problem;
use super::hints::quote;

/// What begins a variable.
pub(super) const OPENING: &str = "${";

/// Bytes that all values may have in which there are variables.
const MAX_BYTES: usize = 16 << 20;

/// Replaces variables and collects what is wrong with them.
pub(super) struct Substitution<'a> {
    environment: &'a dyn Environment,
    path: Path,
    bytes_left: usize,
    /// The positions of values that are not known, because a variable is not set.
    pub(super) unknown: HashSet<Position>,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Substitution<'a> {
    pub(super) fn new(environment: &'a dyn Environment) -> Self {
        Substitution {
            environment,
            path: Path::default(),
            bytes_left: MAX_BYTES,
            unknown: HashSet::new(),
            problems: Vec::new(),
        }
    }

    /// Replaces the variables in all values of a tree.
    pub(super) fn replace(&mut self, node: &mut Node) {
        let position = node.position;
        match &mut node.content {
            Content::Null => {}
            Content::Scalar { text, is_plain } => {
                if text.contains(OPENING) {
                    match self.expand(text, *is_plain) {
                        Ok(text) => node.content = Content::scalar(&text, *is_plain),
                        Err(messages) => self.note(position, &messages),
                    }
                }
            }
            Content::List(list) => {
                for (index, element) in list.iter_mut().enumerate() {
                    self.path.push_index(index);
                    self.replace(element);
                    self.path.pop();
                }
            }
            Content::Map(entries) => {
                for entry in entries {
                    self.replace_key(&entry.key, &mut entry.value);
                }
            }
        }
    }

    /// Replaces the variables in the value of a key.
    pub(super) fn replace_key(&mut self, key: &str, value: &mut Node) {
        self.path.push_key(key);
        self.replace(value);
        self.path.pop();
    }

    fn note(&mut self, position: Position, messages: &[String]) {
        self.unknown.insert(position);
        let problems = messages.iter();
        self.problems
            .extend(problems.map(|message| Problem::with_path(position, &self.path, message)));
    }

    /// A text with the values of its variables, or all that is wrong with them.
    fn expand(&mut self, text: &str, is_plain: bool) -> Result<String, Vec<String>> {
        let mut expanded = String::new();
        let mut problems = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(OPENING) {
            let (before, opened) = (&rest[..at], &rest[at + OPENING.len()..]);
            if let Some(before) = before.strip_suffix('$') {
                expanded.extend([before, OPENING]);
                rest = opened;
                continue;
            }
            expanded.push_str(before);
            let Some((reference, after)) = opened.split_once('}') else {
                problems.push(format!(
                    "{} has no `}}`; write `${{NAME}}`, or `$${{` for a literal `${{`",
                    quote(&rest[at..])
                ));
                rest = "";
                break;
            };
            match self.value(reference) {
                Ok(value) if value.len() <= self.bytes_left => {
                    self.bytes_left -= value.len();
                    expanded.push_str(&value);
                }
                Ok(_) => problems.push(format!(
                    "the variables have more than {MAX_BYTES} bytes in all"
                )),
                Err(problem) => problems.push(problem),
            }
            rest = after;
        }
        expanded.push_str(rest);
        if problems.is_empty() && expanded.is_empty() && is_plain {
            problems.push(format!(
                "{} is empty; give the variable a value, or write quotes if the value may be empty",
                quote(text)
            ));
        }
        match problems.is_empty() {
            true => Ok(expanded),
            false => Err(problems),
        }
    }

    /// The value of `NAME` or `NAME:-default`. As in a shell, the default holds for an empty variable as well.
    fn value(&self, reference: &str) -> Result<String, String> {
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (reference, None),
        };
        if !is_name(name) {
            return Err(format!(
                "{} is not a variable; write `${{NAME}}`, `${{NAME:-default}}`, or `$${{` for a literal `${{`; \
                 a name has letters, digits and `_`",
                quote(&format!("${{{reference}}}"))
            ));
        }
        if default.is_some_and(|default| default.contains(OPENING)) {
            return Err(format!(
                "the default of the variable {} has another variable in it; write a plain text",
                quote(name)
            ));
        }
        match (self.environment.variable(name), default) {
            (Ok(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
            (Ok(value), _) => Ok(value),
            (Err(VarError::NotPresent), Some(default)) => Ok(default.to_owned()),
            (Err(VarError::NotPresent), None) => Err(format!(
                "the environment variable {} is not set; set it, or write a default as in `${{{name}:-default}}`",
                quote(name)
            )),
            (Err(VarError::NotUnicode(_)), _) => Err(format!(
                "the environment variable {} is not UTF-8 text",
                quote(name)
            )),
        }
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
