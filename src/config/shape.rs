//! From text to the mirror of its shape, or to everything that is wrong with the shape.
//!
//! serde ends at the first value that does not fit. So that value is noted, left out, and the rest is read again, until
//! it fits; the file's own text tells where each stands.

use std::path::Path;

use serde_yaml::Value;

use super::errors::{ConfigErrors, MOST_LISTED, Problem};
use super::place::{self, Place};
use super::surroundings::MOST_BYTES;
use super::words::quote;
use super::yaml;

/// Bytes that are read again at most to find further problems, so that a large file with many takes no minutes.
const MOST_READ_AGAIN: usize = 8 << 20;

/// Reads the shape of a file's text.
///
/// # Errors
/// The first error of syntax, or every key and value that has no place.
pub(super) fn shape(text: &str, file: &Path) -> Result<yaml::Config, ConfigErrors> {
    if text.len() > MOST_BYTES {
        return Err(ConfigErrors::of_file(
            file,
            "cannot read the configuration: larger than 1 MiB",
        ));
    }
    if place::is_too_deep(text) {
        return Err(ConfigErrors::of_file(
            file,
            "the brackets are nested too deeply",
        ));
    }
    let one = |error: &serde_yaml::Error| ConfigErrors::new(file, vec![syntax(error, text)]);
    place::survey(text).map_err(|error| one(&error))?;
    serde_yaml::from_str(text).map_err(|error| match serde_yaml::from_str(text) {
        Ok(document) => ConfigErrors::new(file, all(&error, document, text)),
        Err(_) => one(&error),
    })
}

/// A problem with the whole of the text, in the words of people who write YAML by hand.
fn syntax(error: &serde_yaml::Error, text: &str) -> Problem {
    let mut problem = Problem::of_serde(error);
    let lines = || (1..).zip(text.lines());
    if let Some((line, _)) = problem.position
        && problem.message.contains("cannot start any token")
        && let Some((line, column)) = lines().take(line).find_map(|(number, line)| {
            let indent = &line[..line.len() - line.trim_start().len()];
            indent.find('\t').map(|column| (number, column + 1))
        })
    {
        problem.position = Some((line, column));
        problem.message = "tabs cannot indent YAML; use spaces".to_owned();
    }
    for (kind, what, bracket) in [("sequence", "list", "]"), ("mapping", "map", "}")] {
        let context = format!("while parsing a flow {kind} at line ");
        if let Some((_, begin)) = problem.message.split_once(&context)
            && let Some((line, column)) = begin.split_once(" column ")
        {
            problem.message = format!(
                "the {what} that begins at {line}:{column} has no `{bracket}`, or a comma is missing here"
            );
        }
    }
    problem
}

/// The problem of `first` and those behind it.
fn all(first: &serde_yaml::Error, mut rest: Value, text: &str) -> Vec<Problem> {
    let mut problems = vec![Problem::of_serde(first)];
    let mut fault = Fault::read(&first.to_string(), &rest);
    let mut left = MOST_READ_AGAIN / text.len().max(1);
    while let Some(found) = fault {
        if let Some(message) = found.too_little_indented(&rest)
            && let Some(problem) = problems.last_mut()
        {
            problem.message = message;
        }
        found.leave_out(&mut rest);
        if left == 0 || problems.len() == MOST_LISTED {
            break;
        }
        left -= 1;
        let mut filled = rest.clone();
        leave_out_empty(&mut filled);
        let read = serde_yaml::to_string(&filled);
        let read = read.and_then(|text| serde_yaml::from_str::<yaml::Config>(&text));
        let Err(error) = read else { break };
        fault = Fault::read(&error.to_string(), &rest);
        let Some(next) = &fault else { break };
        problems.push(Problem {
            position: next.locate(text),
            ..Problem::of_serde(&error)
        });
    }
    problems.sort_by_key(|problem| problem.position);
    problems
}

/// Removes the keys with nothing behind them: written out again they would be `null`, which is no map and no list.
fn leave_out_empty(value: &mut Value) {
    match value {
        Value::Mapping(map) => {
            map.retain(|_, value| !value.is_null());
            map.iter_mut().for_each(|(_, value)| leave_out_empty(value));
        }
        Value::Sequence(list) => list.iter_mut().for_each(leave_out_empty),
        _ => {}
    }
}

/// Where something has no place.
struct Fault {
    place: Place,
    /// A key, rather than a value of the wrong type.
    is_key: bool,
}

impl Fault {
    /// Takes serde_yaml's message apart: `pools.web: unknown field …`.
    fn read(message: &str, document: &Value) -> Option<Self> {
        const UNKNOWN: &str = "unknown field `";
        let (path, message) = match message.starts_with(UNKNOWN) {
            true => ("", message),
            false => message.split_once(": ")?,
        };
        let place = Place::default().find(path, document)?;
        let key = message
            .strip_prefix(UNKNOWN)
            .and_then(|key| key.split('`').next());
        Some(Fault {
            is_key: key.is_some(),
            place: key.map_or_else(|| place.clone(), |key| place.key(key)),
        })
    }

    fn locate(&self, text: &str) -> Option<(usize, usize)> {
        let location = match self.is_key {
            true => self.place.locate_key(text),
            false => self.place.locate(text),
        };
        location.map(|location| (location.line(), location.column()))
    }

    /// Removes the value here; one that is in a list takes the list with it, so that other places stay what they are.
    fn leave_out(&self, document: &mut Value) {
        let keys = self.place.keys();
        if let Some((last, way)) = keys.split_last() {
            let map = way.iter().try_fold(document, |value, step| match step {
                place::Step::Key(key) => value.get_mut(key.as_str()),
                place::Step::Index(index) => value.get_mut(*index),
            });
            if let (Some(Value::Mapping(map)), place::Step::Key(key)) = (map, last) {
                map.remove(key.as_str());
            }
        }
    }

    /// The hint for a key of a pool that stands beside the pool.
    fn too_little_indented(&self, document: &Value) -> Option<String> {
        let [place::Step::Key(pools), place::Step::Key(key)] = self.place.steps() else {
            return None;
        };
        if pools != "pools" || !yaml::POOL_KEYS.contains(&key.as_str()) {
            return None;
        }
        let siblings = document.get("pools")?.as_mapping()?;
        let before = siblings
            .iter()
            .take_while(|(name, _)| name.as_str() != Some(key));
        let (name, value) = before
            .filter(|(name, _)| {
                name.as_str()
                    .is_none_or(|name| !yaml::POOL_KEYS.contains(&name))
            })
            .last()?;
        let pool = name.as_str().filter(|_| value.is_null())?;
        Some(format!(
            "{}: {} is indented too little: it belongs to pool {}",
            self.place,
            quote(key),
            quote(pool)
        ))
    }
}
