//! What the declarations of the keys say, for people and editors: the reference file, the manual page, the table of
//! keys and the JSON Schema.

use roff::{Inline, Roff, bold, italic, roman};
use serde_json::{Value as Json, json};

use super::root::Config;
use super::schema::{Describe, Key, Nesting, Presence, map_of};
use crate::manual_title::title;

/// Columns of the reference file.
const WIDTH: usize = 120;
/// Characters of a comment that stands behind its key; longer ones stand above it.
const MAX_TRAILING: usize = 72;

/// The file of the machine's service.
const SERVICE_FILE: &str = "/etc/ballast/ballast.yaml";
/// An example that is a whole file, below a comment.
const MINIMAL: &str = include_str!("../../conf/minimal.yaml");

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
# Paths of files begin in the directory of the file that names them unless they begin with a slash.
#
# ${NAME} within a value stands for an environment variable of the process, ${NAME:-default} has a default for one that is
# not set or empty, and $${ is a literal ${. Within brackets such a value needs quotes. The API shows the values that came
# of it, so secrets belong into the files that token_file, secret_file, headers_file and key name.
#
# A value that stands in several places has an anchor (&name) in one of them and an alias (*name) in the others; `<<: *name`
# takes over the keys of a map that are not written. Keys at the top that begin with x- are places for anchors and otherwise
# ignored. An alias is good for its own file.
";

/// The JSON Schema of a configuration, by which editors complete and check.
pub fn json_schema() -> Json {
    let mut schema = map_of::<Config>().schema();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    // Places for anchors.
    schema["patternProperties"] = json!({ "^x-": {} });
    allow_variables(&mut schema);
    schema["title"] = json!("Configuration of Ballast");
    schema["type"] = json!("object");
    schema
}

/// Lets a variable stand where a schema has a number, a word or a text of some form.
fn allow_variables(schema: &mut Json) {
    const FORM: [&str; 6] = ["type", "minimum", "maximum", "pattern", "enum", "const"];
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    for key in ["properties", "patternProperties"] {
        let properties = map.get_mut(key).and_then(Json::as_object_mut);
        properties
            .into_iter()
            .flatten()
            .for_each(|(_, schema)| allow_variables(schema));
    }
    for key in ["anyOf", "oneOf"] {
        let schemas = map.get_mut(key).and_then(Json::as_array_mut);
        schemas.into_iter().flatten().for_each(allow_variables);
    }
    for key in ["items", "additionalProperties"] {
        map.get_mut(key).into_iter().for_each(allow_variables);
    }
    let is_number = map
        .get("type")
        .is_some_and(|it| it == "integer" || it == "boolean");
    if is_number
        || ["pattern", "enum", "const"]
            .iter()
            .any(|key| map.contains_key(*key))
    {
        let form = FORM.iter().filter_map(|key| map.remove_entry(*key));
        let form = Json::Object(form.collect());
        let variable = json!({ "type": "string", "pattern": "\\$\\{" });
        map.insert("anyOf".to_owned(), json!([form, variable]));
    }
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
    title(&mut page, "ballast.yaml", "5");
    page.control("SH", ["NAME"]);
    page.text([roman("ballast.yaml - the configuration of ballast(1)")]);
    page.control("SH", ["SYNOPSIS"]);
    page.text([bold(SERVICE_FILE)]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "A YAML file. Unknown keys are refused. Times have a unit, as in 500ms, 2s or 1m30s, and sizes may have one: KiB, \
         MiB or GiB. Paths of files begin in the directory of the file that names them.",
    )]);
    page.control("PP", []);
    page.text([roman(
        "A file has at least listeners and pools with hosts; every other key has a default. ballast check -c FILE lists all \
         errors of a file with line and column, and ballast check --effective what is in force.",
    )]);
    page.control("PP", []);
    page.text([roman(
        "${NAME} within a value stands for an environment variable, ${NAME:-default} has a default for one that is not set \
         or empty, and $${ is a literal ${. Anchors, aliases and merges (<<) of YAML work within a file; keys at the top \
         that begin with x- are places for anchors and otherwise ignored.",
    )]);
    page.control("SH", ["KEYS"]);
    visit(keys(), "", &mut |path, key| {
        page.control("TP", []);
        page.text(heading(path, key));
        page.text([roman(text(key.doc))]);
    });
    page.control("SH", ["FILES"]);
    page.control("TP", []);
    page.text([bold(SERVICE_FILE)]);
    page.text([roman("The configuration of the machine's service.")]);
    page.control("SH", ["EXAMPLES"]);
    page.text([roman("A whole file:")]);
    page.control("PP", []);
    page.control("EX", []);
    let is_comment = |line: &&str| line.is_empty() || line.starts_with('#');
    for line in MINIMAL.lines().skip_while(is_comment) {
        page.text([roman(line)]);
    }
    page.control("EE", []);
    page.control("SH", ["SEE ALSO"]);
    for (name, end) in [
        ("ballast", "(1), "),
        ("ballast-check", "(1), "),
        ("ballast-reload", "(1), "),
        ("ballast-schema", "(1)"),
    ] {
        page.text([bold(name), roman(end)]);
    }
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
