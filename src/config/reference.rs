//! What the declarations of the keys say, for people and editors: the reference file, the manual page, the table of
//! keys and the JSON Schema.

use roff::{Inline, Roff, bold, italic, roman};
use serde_json::{Value as Json, json};

use super::root::Config;
use super::schema::{Describe, Key, Nesting, Presence, map_of};

/// Columns of the reference file.
const WIDTH: usize = 120;
/// Characters of a comment that stands behind its key; longer ones stand above it.
const MAX_TRAILING: usize = 72;

const HEADER: &str = "\
# Every key that Ballast knows, with its default and what it does. `ballast schema` has the same for editors.
#
# No file needs all of this: a key that is left out has the value that stands here. Where there is no default (addresses,
# hosts, names, certificates) the value is an example, and keys that are commented out have no value unless they are
# written. See minimal.yaml for the least that a file has to have.
#
# Check a file before it is used:    ballast check -c FILE
#
# Times have a unit: 500ms, 2s, 1m, 1h, or 1m30s; none may be longer than 24h.
# Paths of files begin in the directory of the configuration unless they begin with a slash.
";

/// The JSON Schema of a configuration, by which editors complete and check.
pub fn json_schema() -> Json {
    let mut schema = map_of::<Config>().schema();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Configuration of Ballast");
    schema["type"] = json!("object");
    schema
}

/// A file with every key, its default or an example, and its documentation.
pub fn reference_file() -> String {
    let mut lines = Vec::from_iter(HEADER.lines().map(str::to_owned));
    for key in keys() {
        lines.push(String::new());
        lines.extend(key_lines(&key, 0));
    }
    lines.join("\n") + "\n"
}

/// A table of all keys in Markdown.
pub fn key_table() -> String {
    let mut table = "| key | values | default | |\n|---|---|---|---|\n".to_owned();
    visit(keys(), "", &mut |path, key| {
        let default = match key.presence {
            Presence::Default(value) | Presence::Conditional(value)
                if key.kind.nested().is_none() =>
            {
                format!("`{value}`")
            }
            Presence::Default(value @ ("none" | "false")) => format!("`{value}`"),
            Presence::Required(_) => "required".to_owned(),
            _ => String::new(),
        };
        let cells = [
            format!("`{path}`"),
            key.kind.phrase(),
            default,
            text(key.doc),
        ];
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        table += &format!("| {} |\n", cells.join(" | "));
    });
    table
}

/// The manual page ballast.yaml(5).
pub fn manual_page() -> String {
    let mut page = Roff::new();
    page.control("TH", ["ballast.yaml", "5"]);
    page.control("SH", ["NAME"]);
    page.text([roman("ballast.yaml - the configuration of ballast(1)")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "A YAML file. Unknown keys are refused. Times have a unit, as in 500ms, 2s or 1m30s, and sizes may have one: KiB, \
         MiB or GiB. Paths of files begin in the directory of the configuration.",
    )]);
    page.control("SH", ["KEYS"]);
    visit(keys(), "", &mut |path, key| {
        page.control("TP", []);
        page.text(heading(path, key));
        page.text([roman(text(key.doc))]);
    });
    page.control("SH", ["SEE ALSO"]);
    page.text([roman("ballast(1)")]);
    page.render()
}

fn heading(path: &str, key: &Key) -> Vec<Inline> {
    let mut heading = vec![bold(path), roman(": "), italic(key.kind.phrase())];
    match key.presence {
        Presence::Default(value) | Presence::Conditional(value) if key.kind.nested().is_none() => {
            heading.push(roman(format!(" (default {value})")));
        }
        Presence::Required(_) => heading.push(roman(" (required)")),
        _ => {}
    }
    heading
}

fn keys() -> Vec<Key> {
    map_of::<Config>()
        .nested()
        .map(|nested| nested.keys)
        .unwrap_or_default()
}

/// Calls `each` for all keys with their paths, such as `pools.NAME.hosts[].weight`.
fn visit(keys: Vec<Key>, prefix: &str, each: &mut impl FnMut(&str, &Key)) {
    for key in keys {
        let path = format!("{prefix}{}", key.name);
        each(&path, &key);
        if let Some(nested) = key.kind.nested() {
            let prefix = match nested.nesting {
                Nesting::Map => format!("{path}."),
                Nesting::List => format!("{path}[]."),
                Nesting::Named => format!("{path}.NAME."),
            };
            visit(nested.keys, &prefix, each);
        }
    }
}

/// The documentation of a key on one line.
fn text(doc: &str) -> String {
    Vec::from_iter(doc.split_whitespace()).join(" ")
}

/// A key with everything below it.
fn key_lines(key: &Key, indent: usize) -> Vec<String> {
    let margin = " ".repeat(indent);
    let name = key.name;
    let (value, is_commented) = match key.presence {
        Presence::Default(value) | Presence::Required(value) | Presence::Alternative(value) => {
            (value, false)
        }
        Presence::Optional(example) | Presence::Conditional(example) => (example, true),
        Presence::Flat => return Vec::new(),
    };
    let doc = text(key.doc);
    let Some(nested) = key.kind.nested() else {
        let line = format!("{name}: {value}");
        let notes = key.kind.notes();
        let line = match is_commented {
            true => format!("{margin}# {line}"),
            false => format!("{margin}{line}"),
        };
        if notes.is_empty() && doc.len() <= MAX_TRAILING && line.len() + doc.len() + 4 <= WIDTH {
            return vec![format!("{line}   # {doc}")];
        }
        let mut lines = comment(&doc, &margin);
        lines.extend(notes.into_iter().map(|note| format!("{margin}#   {note}")));
        lines.push(line);
        return lines;
    };
    let mut lines = comment(&doc, &margin);
    let is_off = matches!(value, "none" | "false");
    if is_off {
        lines.push(format!("{margin}{name}: {value}"));
    }
    let mut block = vec![format!("{margin}{name}:")];
    block.extend(match nested.nesting {
        Nesting::Map => map_lines(nested.keys, indent + 2),
        Nesting::List => element_lines(nested.keys, indent + 4),
        Nesting::Named => {
            let mut named = vec![format!("{margin}  web:")];
            named.extend(map_lines(nested.keys, indent + 4));
            named
        }
    });
    let has_value = block
        .iter()
        .skip(1)
        .any(|line| !line.trim_start().starts_with('#'));
    if is_off || is_commented || !has_value {
        block = block.iter().map(|line| commented(line, indent)).collect();
    }
    lines.extend(block);
    lines
}

fn map_lines(keys: Vec<Key>, indent: usize) -> Vec<String> {
    keys.iter().flat_map(|key| key_lines(key, indent)).collect()
}

/// An element of a list: its required keys first, so that one of them bears the dash.
fn element_lines(keys: Vec<Key>, indent: usize) -> Vec<String> {
    let is_required = |key: &Key| {
        matches!(
            key.presence,
            Presence::Required(_) | Presence::Alternative(_)
        )
    };
    let (required, others): (Vec<_>, Vec<_>) = keys.into_iter().partition(is_required);
    let mut lines = map_lines(required.into_iter().chain(others).collect(), indent);
    let first = lines
        .iter()
        .position(|line| !line.trim_start().starts_with('#'));
    for (number, line) in lines
        .iter_mut()
        .enumerate()
        .take_while(|(number, _)| Some(*number) <= first)
    {
        // Comments above the dash stand where it does.
        let dash = if Some(number) == first { "- " } else { "" };
        line.replace_range(indent - 2..indent, dash);
    }
    lines
}

/// A line behind a comment sign, which may be one already.
fn commented(line: &str, indent: usize) -> String {
    let (margin, rest) = line.split_at(indent.min(line.len()));
    match rest.is_empty() {
        true => margin.to_owned(),
        false => format!("{margin}# {rest}"),
    }
}

/// A text as comment lines that fit into [`WIDTH`].
fn comment(text: &str, margin: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = format!("{margin}#");
    for word in text.split_whitespace() {
        if line.chars().count() + word.chars().count() + 1 > WIDTH {
            lines.push(std::mem::replace(&mut line, format!("{margin}#")));
        }
        line.push(' ');
        line.push_str(word);
    }
    lines.push(line);
    lines
}
