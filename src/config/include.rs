//! `include`: the further files of a configuration.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use serde_json::json;

use super::document::{Node, Path as KeyPath};
use super::environment::Environment;
use super::errors::Problem;
use super::hints::quote;
use super::schema::{List, Scalar, list, scalar};

/// More files are a mistake in a pattern.
const MAX_FILES: usize = 1_000;

const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    // Editors and Kubernetes have files and links of their own under such names.
    require_literal_leading_dot: true,
};

/// A file to include.
#[derive(Debug)]
pub(super) struct IncludedFile {
    /// The path as `include` has it.
    pub(super) name: PathBuf,
    /// The same, relative to the working directory.
    pub(super) path: PathBuf,
    /// What is wrong if there is no such file; `None` for one that a pattern has found.
    pub(super) if_missing: Option<Problem>,
}

/// The value of `include`.
pub(super) fn patterns() -> List<Scalar<String>> {
    let phrase = "the path of a file, whose name may have `*`, `?` and `[...]` in it";
    let read = |text: &str| split(text).map(|_| text.to_owned());
    list("files", scalar(phrase, read, |text| json!(text)))
}

/// The directory of a file, where the relative paths in it begin.
pub(super) fn directory_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

/// The files that the value of `include` in `main` stands for, in the order in which they are read. Values that are not
/// texts are left out: reading the key reports them.
pub(super) fn find(
    include: &Node,
    main: &Path,
    environment: &dyn Environment,
    problems: &mut Vec<Problem>,
) -> Vec<IncludedFile> {
    let is_list = include.text().is_none();
    let patterns = match is_list {
        true => include.elements(),
        false => std::slice::from_ref(include),
    };
    let mut files = Vec::new();
    let mut known = HashSet::new();
    for (index, pattern) in patterns.iter().enumerate() {
        let mut path = KeyPath::default();
        path.push_key("include");
        if is_list {
            path.push_index(index);
        }
        let problem = |message: &str| Problem::with_path(pattern.position, &path, message);
        let Some(text) = pattern.text() else {
            continue;
        };
        let names = match matching_names(text, main, environment) {
            Ok(names) => names,
            Err(message) => {
                problems.push(problem(&message));
                continue;
            }
        };
        for name in names {
            let path = directory_of(main).join(&name);
            let shown = quote(&name.display().to_string());
            if path == main {
                problems.push(problem(&format!(
                    "{shown} is this file itself; put the others into a directory of their own, as in `conf.d/*.yaml`"
                )));
            } else if known.insert(path.clone()) {
                let if_missing =
                    (!is_pattern(text)).then(|| problem(&format!("there is no file {shown}")));
                files.push(IncludedFile {
                    name,
                    path,
                    if_missing,
                });
            }
        }
        if files.len() > MAX_FILES {
            let message = format!("there are more than {MAX_FILES} files to include");
            problems.push(problem(&message));
            return Vec::new();
        }
    }
    files
}

/// The file of this name, or the files in its directory whose names match, sorted by name.
fn matching_names(
    text: &str,
    main: &Path,
    environment: &dyn Environment,
) -> Result<Vec<PathBuf>, String> {
    let (folder, name) = split(text)?;
    if !is_pattern(name) {
        return Ok(vec![PathBuf::from(text)]);
    }
    let pattern = Pattern::new(name).map_err(|error| error.to_string())?;
    let directory = directory_of(main).join(folder);
    let directory = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => &directory,
    };
    let names = environment.list(directory).map_err(|error| {
        let shown = quote(&directory.display().to_string());
        format!("cannot read the directory {shown}: {error}")
    })?;
    let matching = names
        .into_iter()
        .filter(|name| pattern.matches_with(&name.to_string_lossy(), OPTIONS));
    let mut matching = Vec::from_iter(matching.map(|name| Path::new(folder).join(name)));
    matching.sort();
    Ok(matching)
}

/// Directory and name of a pattern.
fn split(text: &str) -> Result<(&str, &str), String> {
    let (folder, name) = match text.rfind('/') {
        Some(slash) => text.split_at(slash + 1),
        None => ("", text),
    };
    if text.contains('\0') {
        return Err(format!("{} has a zero byte in it", quote(text)));
    }
    if matches!(name, "" | "." | "..") {
        let all = quote(&format!("{folder}*.yaml"));
        return Err(format!(
            "{} is not the path of a file; write {all} for the files of a directory",
            quote(text)
        ));
    }
    if is_pattern(folder) {
        return Err(format!(
            "{} has `*`, `?` or `[` in the name of a directory; only the name of the file may have them",
            quote(text)
        ));
    }
    if name.contains("**") {
        return Err(format!(
            "{} has `**` in it; `*` stands for any name, and directories within are not read",
            quote(text)
        ));
    }
    match Pattern::new(name) {
        Ok(_) => Ok((folder, name)),
        Err(error) => Err(format!("{} is not a pattern: {}", quote(text), error.msg)),
    }
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}
