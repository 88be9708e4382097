//! What is wrong with a configuration, one line for each problem.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use super::place::Place;
use super::words::{did_you_mean, one_line};

/// Problems that are listed; of more only the number is told.
pub(super) const MOST_LISTED: usize = 50;

/// Everything that is wrong with a configuration file, at least one problem.
///
/// Displayed it is one line for each: `FILE:LINE:COLUMN: pools.web.hosts[2]: message`, as far as a problem has a
/// position in the file, with lines and columns counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    file: PathBuf,
    problems: Vec<Problem>,
    unlisted: usize,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// Line and column, counted from 1.
    pub(super) position: Option<(usize, usize)>,
    pub(super) message: String,
}

impl ConfigErrors {
    /// One problem with the file as a whole.
    pub(super) fn of_file(file: &Path, message: &str) -> Self {
        ConfigErrors {
            file: file.to_owned(),
            problems: vec![Problem {
                position: None,
                message: one_line(message),
            }],
            unlisted: 0,
        }
    }

    /// These problems, in this order.
    pub(super) fn new(file: &Path, problems: Vec<Problem>) -> Self {
        ConfigErrors {
            file: file.to_owned(),
            problems,
            unlisted: 0,
        }
    }
}

impl Problem {
    /// What serde_yaml found: syntax, shape, an unknown key.
    pub(super) fn of_serde(error: &serde_yaml::Error) -> Self {
        let position = error
            .location()
            .map(|location| (location.line(), location.column()));
        let mut message = error.to_string();
        if let Some((line, column)) = position {
            // The position is said once, in front.
            message = message.replacen(&format!(" at line {line} column {column}"), "", 1);
        }
        Problem {
            position,
            message: one_line(&plain(&message)),
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            match problem.position {
                Some((line, column)) => write!(f, "{file}:{line}:{column}: {}", problem.message)?,
                None => write!(f, "{file}: {}", problem.message)?,
            }
        }
        if self.unlisted > 0 {
            write!(f, "\n{file}: and {} more problems", self.unlisted)?;
        }
        Ok(())
    }
}

impl Error for ConfigErrors {}

/// Collects what is wrong with the meaning of a file.
#[derive(Debug, Default)]
pub(super) struct Problems {
    listed: Vec<(Place, String)>,
    unlisted: usize,
}

impl Problems {
    /// Notes a problem with the value at `place`.
    pub(super) fn add(&mut self, place: &Place, message: impl Into<String>) {
        if self.listed.len() < MOST_LISTED {
            self.listed.push((place.clone(), message.into()));
        } else {
            self.unlisted += 1;
        }
    }

    /// The value of a result; an error is noted for `place`.
    pub(super) fn take<T>(&mut self, place: &Place, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.add(place, message)).ok()
    }

    /// What `read` makes of a said text, or `default` if nothing is said. A text that `read` refuses is noted, and
    /// `default` stands in so that the search for problems can go on.
    pub(super) fn value<T>(
        &mut self,
        place: &Place,
        said: Option<String>,
        default: T,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        self.optional(place, said, read).unwrap_or(default)
    }

    /// What `read` makes of a said text. One that `read` refuses is noted and counts as not said.
    pub(super) fn optional<T>(
        &mut self,
        place: &Place,
        said: Option<String>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        said.and_then(|text| self.take(place, read(&text)))
    }

    /// Whether all that is noted from now on will only be counted; hints need no effort then.
    pub(super) fn is_full(&self) -> bool {
        self.listed.len() >= MOST_LISTED
    }

    /// How many problems there are.
    pub(super) fn count(&self) -> usize {
        self.listed.len() + self.unlisted
    }

    /// The errors to report for `file`, whose content is `text`, in the order of the file.
    pub(super) fn into_errors(self, file: &Path, text: &str) -> ConfigErrors {
        let located = self.listed.into_iter().map(|(place, message)| Problem {
            position: place
                .locate(text)
                .map(|location| (location.line(), location.column())),
            message: one_line(&format!("{place}: {message}")),
        });
        let mut problems = Vec::from_iter(located);
        problems.sort_by_key(|problem| problem.position);
        ConfigErrors {
            file: file.to_owned(),
            problems,
            unlisted: self.unlisted,
        }
    }
}

/// serde's message in the words of the field, and with a hint for an unknown key.
fn plain(message: &str) -> String {
    const WORDS: [(&str, &str); 7] = [
        ("invalid type: unit value", "invalid type: nothing"),
        ("invalid type: sequence", "invalid type: list"),
        ("expected a sequence", "expected a list"),
        ("expected a string", "expected a single value"),
        (
            "recursion limit exceeded",
            "the values are nested too deeply",
        ),
        (
            "repetition limit exceeded",
            "the aliases of this file unfold to too many values",
        ),
        (
            "deserializing from YAML containing more than one document is not supported",
            "there is more than one document (`---`) in this file",
        ),
    ];
    let Some((front, fields)) = message.split_once("unknown field `") else {
        let words = WORDS.iter();
        return words.fold(message.to_owned(), |message, (theirs, ours)| {
            message.replacen(theirs, ours, 1)
        });
    };
    // "unknown field `x`, expected one of `a`, `b`": between backticks stands first what was said.
    let mut quoted = fields.split('`').step_by(2);
    let said = quoted.next().unwrap_or_default();
    let hint = did_you_mean(said, quoted);
    format!("{front}unknown key `{fields}{hint}")
}
