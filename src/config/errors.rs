//! What is wrong with a configuration, one line for each problem.

use std::error::Error;
use std::fmt;
use std::path::{Path as FilePath, PathBuf};

use super::document::{Path, Position};
use super::hints::one_line;

/// Problems that are listed; of further ones only the number is reported.
pub(super) const MAX_LISTED: usize = 50;

/// Everything that is wrong with a configuration, at least one problem.
///
/// Displayed it is one line for each: `FILE:LINE:COLUMN: pools.web.hosts[2]: message`, as far as a problem has a
/// position in its file, with lines and columns counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The main file and the included ones.
    files: Vec<PathBuf>,
    problems: Vec<Problem>,
    unlisted: usize,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    file: usize,
    position: Option<Position>,
    pub(super) message: String,
}

impl Problem {
    /// A problem with a file as a whole, known by its index.
    pub(super) fn of_file(file: usize, message: &str) -> Self {
        Problem {
            file,
            position: None,
            message: one_line(message),
        }
    }

    /// A problem of syntax.
    pub(super) fn at(position: Position, message: &str) -> Self {
        Problem {
            file: position.file,
            position: Some(position),
            message: one_line(message),
        }
    }

    /// A problem with the value that `path` leads to.
    pub(super) fn with_path(position: Position, path: &Path, message: &str) -> Self {
        match path.to_string().as_str() {
            "" => Problem::at(position, message),
            path => Problem::at(position, &format!("{path}: {message}")),
        }
    }
}

impl ConfigErrors {
    /// One problem with the file as a whole.
    pub(super) fn of_file(file: &FilePath, message: &str) -> Self {
        ConfigErrors::new(vec![file.to_owned()], vec![Problem::of_file(0, message)])
    }

    /// These problems, in the order of the files.
    pub(super) fn new(files: Vec<PathBuf>, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (problem.file, problem.position));
        let unlisted = problems.len().saturating_sub(MAX_LISTED);
        problems.truncate(MAX_LISTED);
        ConfigErrors {
            files,
            problems,
            unlisted,
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            let file = file_name(&self.files, problem.file);
            match problem.position {
                Some(Position { line, column, .. }) => {
                    write!(f, "{file}:{line}:{column}: {}", problem.message)?;
                }
                None => write!(f, "{file}: {}", problem.message)?,
            }
        }
        if self.unlisted > 0 {
            let file = file_name(&self.files, 0);
            write!(f, "\n{file}: and {} more problems", self.unlisted)?;
        }
        Ok(())
    }
}

impl Error for ConfigErrors {}

/// Where a value is, as in `FILE:LINE:COLUMN`.
pub(super) fn place(files: &[PathBuf], position: Position) -> String {
    let Position { file, line, column } = position;
    format!("{}:{line}:{column}", file_name(files, file))
}

/// The name of a file on one line: those that a pattern finds may have any characters but `/` in them.
fn file_name(files: &[PathBuf], file: usize) -> String {
    let file = files.get(file).map(|file| file.display().to_string());
    one_line(&file.unwrap_or_default())
}
