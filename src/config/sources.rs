//! Reads all files of a configuration into one tree.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use super::document::{Content, Node, Position};
use super::environment::{Environment, MAX_BYTES};
use super::errors::{ConfigErrors, Problem};
use super::hints::quote;
use super::include::{self, IncludedFile};
use super::merge::merge;
use super::substitute::{OPENING, Substitution};
use super::yaml::{self, Document, NodeBudget};

/// Bytes that all files may have together.
const MAX_TOTAL: usize = 16 << 20;

/// How keys at the top begin that are places for anchors.
const ANCHOR_PREFIX: &str = "x-";

/// A configuration as one tree, included files and variables in their places.
pub(super) struct Sources {
    pub(super) root: Node,
    /// The main file and the included ones; a [`Position`] has an index into them.
    pub(super) files: Vec<PathBuf>,
    /// The SHA-256 of the main file, in hexadecimal. With included files it is that of the lines that `sha256sum` prints
    /// about all files in the directory of the main one.
    pub(super) digest: String,
    /// The positions of values that are not known, because a variable is not set.
    pub(super) unknown: HashSet<Position>,
    pub(super) problems: Vec<Problem>,
}

impl Sources {
    /// Reads the files that the text of the main file includes.
    ///
    /// # Errors
    /// Files that cannot be read, and in each of the others the first error of syntax.
    pub(super) fn read(
        text: &str,
        file: &Path,
        environment: &dyn Environment,
    ) -> Result<Sources, ConfigErrors> {
        let mut files = vec![file.to_owned()];
        let mut budget = NodeBudget::default();
        let main = parse(text, 0, &mut budget)
            .map_err(|problem| ConfigErrors::new(files.clone(), vec![problem]))?;
        let mut problems = main.problems;
        let mut unread = Vec::new();
        let mut included = Vec::new();
        let mut has_variables = text.contains(OPENING);
        let mut bytes = text.len();
        let mut digests = vec![(
            PathBuf::from(file.file_name().unwrap_or_default()),
            digest(text),
        )];
        for found in included_files(&main.root, file, environment, &mut unread) {
            let index = files.len();
            files.push(found.path.clone());
            let document = read(&found, index, environment).and_then(|text| {
                bytes += text.len();
                if bytes > MAX_TOTAL {
                    let message = "cannot read the configuration: all files are larger than 16 MiB";
                    return Err(Problem::of_file(index, message));
                }
                has_variables |= text.contains(OPENING);
                digests.push((found.name, digest(&text)));
                parse(&text, index, &mut budget)
            });
            match document {
                Ok(mut document) => {
                    problems.append(&mut document.problems);
                    included.extend(without_include(document.root, file, &mut problems));
                }
                Err(problem) => unread.push(problem),
            }
            if bytes > MAX_TOTAL {
                break;
            }
        }
        if !unread.is_empty() {
            problems.append(&mut unread);
            return Err(ConfigErrors::new(files, problems));
        }
        let mut root = main.root;
        if !included.is_empty() && matches!(root.content, Content::Map(_) | Content::Null) {
            root = merge(root, included, &files, &mut problems);
        }
        let mut substitution = Substitution::new(environment);
        if has_variables {
            substitution.replace(&mut root);
            problems.append(&mut substitution.problems);
        }
        Ok(Sources {
            root,
            files,
            digest: digest_of_all(&digests),
            unknown: substitution.unknown,
            problems,
        })
    }
}

/// `server.control_socket` of a configuration whose main file has this text. Included files that cannot be read are left
/// out, so that commands reach a process although its files are being edited.
pub(super) fn control_socket(
    text: &str,
    file: &Path,
    environment: &dyn Environment,
) -> Result<Option<PathBuf>, ConfigErrors> {
    let mut files = vec![file.to_owned()];
    let mut budget = NodeBudget::default();
    let main = parse(text, 0, &mut budget)
        .map_err(|problem| ConfigErrors::new(files.clone(), vec![problem]))?;
    let mut socket = main.root.get("server").and_then(control_socket_in).cloned();
    for found in included_files(&main.root, file, environment, &mut Vec::new()) {
        if socket.is_some() {
            break;
        }
        let index = files.len();
        let document = read(&found, index, environment);
        files.push(found.path);
        let Ok(document) = document.and_then(|text| parse(&text, index, &mut budget)) else {
            continue;
        };
        socket = document
            .root
            .get("server")
            .and_then(control_socket_in)
            .cloned();
    }
    let Some(mut socket) = socket else {
        return Ok(None);
    };
    let mut substitution = Substitution::new(environment);
    substitution.replace_key("server.control_socket", &mut socket);
    if !substitution.problems.is_empty() {
        return Err(ConfigErrors::new(files, substitution.problems));
    }
    let directory = files
        .get(socket.position.file)
        .map(|file| include::directory_of(file));
    Ok(socket
        .text()
        .map(|socket| directory.unwrap_or(Path::new("")).join(socket)))
}

fn control_socket_in(server: &Node) -> Option<&Node> {
    server
        .get("control_socket")
        .filter(|socket| socket.text().is_some())
}

/// A file without its places for anchors.
fn parse(text: &str, file: usize, budget: &mut NodeBudget) -> Result<Document, Problem> {
    if text.len() > MAX_BYTES {
        let message = "cannot read the configuration: larger than 1 MiB";
        return Err(Problem::of_file(file, message));
    }
    // Lines and columns are counted as editors count them, without the byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut document = yaml::parse(text, file, budget)?;
    if let Content::Map(entries) = &mut document.root.content {
        entries.retain(|entry| !entry.key.starts_with(ANCHOR_PREFIX));
    }
    Ok(document)
}

/// The files that the main file includes.
fn included_files(
    main: &Node,
    file: &Path,
    environment: &dyn Environment,
    problems: &mut Vec<Problem>,
) -> Vec<IncludedFile> {
    let Some(mut include) = main.get("include").cloned() else {
        return Vec::new();
    };
    let mut substitution = Substitution::new(environment);
    substitution.replace_key("include", &mut include);
    problems.append(&mut substitution.problems);
    include::find(&include, file, environment, problems)
}

/// The map in an included file.
fn without_include(mut root: Node, main: &Path, problems: &mut Vec<Problem>) -> Option<Node> {
    match &mut root.content {
        Content::Null => return None,
        Content::Map(entries) => entries.retain(|entry| {
            if entry.key == "include" {
                let main = quote(&main.display().to_string());
                let message =
                    format!("include: an included file cannot include others; name them in {main}");
                problems.push(Problem::at(entry.position, &message));
            }
            entry.key != "include"
        }),
        Content::Scalar { .. } | Content::List(_) => {
            let message = format!("expected a map, found {}", root.describe());
            problems.push(Problem::at(root.position, &message));
            return None;
        }
    }
    Some(root)
}

fn read(
    found: &IncludedFile,
    index: usize,
    environment: &dyn Environment,
) -> Result<String, Problem> {
    let content = environment.read(&found.path);
    match (content, &found.if_missing) {
        (Err(error), Some(missing)) if error.kind() == io::ErrorKind::NotFound => {
            Err(missing.clone())
        }
        (content, _) => text_of(content).map_err(|message| Problem::of_file(index, &message)),
    }
}

/// The text of a file that was read.
///
/// # Errors
/// The file could not be read, or is not UTF-8; as a sentence for a person.
pub(super) fn text_of(content: io::Result<Vec<u8>>) -> Result<String, String> {
    let content = content.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            "cannot read the configuration: there is no such file".to_owned()
        }
        _ => format!("cannot read the configuration: {error}"),
    })?;
    if content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff") {
        return Err("the file is UTF-16 text; save it as UTF-8".to_owned());
    }
    String::from_utf8(content).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let lines = error.as_bytes().iter().take(valid);
        let line = lines.filter(|byte| **byte == b'\n').count();
        format!("line {} is not UTF-8 text", line + 1)
    })
}

fn digest_of_all(digests: &[(PathBuf, String)]) -> String {
    match digests {
        [(_, only)] => only.clone(),
        _ => {
            let lines = digests.iter();
            let lines = lines.map(|(name, digest)| format!("{digest}  {}\n", name.display()));
            digest(&lines.collect::<String>())
        }
    }
}

/// The SHA-256 of a text, in hexadecimal.
fn digest(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let bytes = digest.as_ref().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}
