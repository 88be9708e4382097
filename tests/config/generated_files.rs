//! The files in `conf` and `docs` that are generated from the declarations of the keys.

use std::path::{Path, PathBuf};

use ballast::config::{Config, json_schema, key_table, manual_page, reference_file};
use ballast_balancer::ALGORITHMS;
use serde_json::Value as Json;
use serde_yaml::Value;

use crate::{errors, parse};

const EVERY_KEY: &str = include_str!("../../conf/ballast.yaml");

/// The text above the table of keys.
const TABLE_HEADER: &str = "\
# Configuration

Every key of the configuration file, in the order of [`conf/ballast.yaml`](../conf/ballast.yaml). Keys of maps follow a
dot, `[]` stands for each element of a list, and `NAME` for a name of yours. The table, that file, `ballast schema` and
ballast.yaml(5) come from the declarations in `src/config`; `BALLAST_RECORD=1 cargo test --test config generated_files` writes the
first two.

`${NAME}` within a value stands for an environment variable of the process, `${NAME:-default}` has a default for one that
is not set or empty, and `$${` is a literal `${`; a value that is a secret belongs into the file of a key such as
`token_file`. Anchors (`&name`), aliases (`*name`) and merges (`<<: *name`) work within each file, and keys at the top that
begin with `x-` are places for anchors. An error in such a value is reported where the anchor is.

";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn both_configuration_files_load() {
    for name in ["conf/minimal.yaml", "conf/ballast.yaml"] {
        Config::load(&path(name)).unwrap_or_else(|errors| panic!("{errors}"));
    }
}

#[test]
fn the_files_match_the_declarations() {
    let table = format!("{TABLE_HEADER}{}", key_table());
    for (name, expected) in [
        ("conf/ballast.yaml", reference_file()),
        ("docs/configuration.md", table),
    ] {
        if std::env::var_os("BALLAST_RECORD").is_some() {
            std::fs::write(path(name), &expected).expect("a writable file");
        }
        let text = std::fs::read_to_string(path(name)).expect("the generated file");
        assert!(
            text == expected,
            "{name} is out of date; BALLAST_RECORD=1 writes it"
        );
    }
}

#[test]
fn the_reference_file_shows_the_defaults() {
    let written = parse(EVERY_KEY);
    let omitted =
        parse("listeners: [\"0.0.0.0:8080\"]\npools: { web: { hosts: [\"127.0.0.1:8081\"] } }\n");
    let without_digest = |mut config: Config| {
        config.digest = String::new();
        format!("{config:#?}")
    };
    assert_eq!(without_digest(written), without_digest(omitted));
}

#[test]
fn the_reference_file_lists_the_algorithms_with_their_options() {
    for info in ALGORITHMS {
        let line = format!("#   {} ", info.name);
        assert!(EVERY_KEY.contains(&line), "{line}");
        for option in info.options {
            let line = format!("{}: {}", option.name, option.default);
            assert!(EVERY_KEY.contains(&line), "{line} of {}", info.name);
        }
    }
}

/// Keys that exclude others which the reference file has, or need a pool that it does not have.
const ALTERNATIVES: [&str; 10] = [
    "pools",
    "split_by",
    "mirror",
    "auth",
    "redirect",
    "respond",
    "replace_path",
    "file",
    "directory",
    "service",
];

/// The reference file with every key that is commented out, without [`ALTERNATIVES`] and what is below them.
fn uncommented() -> String {
    let is_key = |text: &str| {
        let text = text.trim_start();
        let text = text.strip_prefix("- ").unwrap_or(text);
        let (key, value) = text.split_once(':').unwrap_or_default();
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        !key.is_empty() && key.chars().all(is_name) && (value.is_empty() || value.starts_with(' '))
    };
    let mut lines: Vec<String> = Vec::new();
    let mut skipped = None;
    for line in EVERY_KEY.lines() {
        let depth = line.len() - line.trim_start_matches([' ', '#']).len();
        if skipped.is_some_and(|skipped| depth > skipped) {
            continue;
        }
        let commented = line.trim_start().strip_prefix("# ");
        let commented = commented.map(|text| text.trim_start_matches([' ', '#']));
        let key = commented.map(|text| text.split(':').next().unwrap_or_default());
        // A key that is not an alternative to its neighbours is commented out with all of them.
        let is_alternative =
            |key: &&str| ALTERNATIVES.contains(key) && line.contains(&format!("# {key}:"));
        skipped = key.filter(is_alternative).map(|_| depth);
        if skipped.is_some() {
            continue;
        }
        let mut line = line.to_owned();
        let indent = line.len() - line.trim_start().len();
        while let Some(rest) = line[indent..].strip_prefix("# ") {
            let mut bare = rest;
            while let Some(inner) = bare.trim_start().strip_prefix("# ") {
                bare = inner;
            }
            if !is_key(bare) {
                break;
            }
            let signs = rest[..rest.len() - bare.len()].replace("# ", "");
            line = format!("{}{signs}{bare}", &line[..indent]);
        }
        // The map replaces the value that turns the section off.
        let off = lines.iter().rposition(|before| {
            let word = before
                .strip_suffix(": none")
                .or(before.strip_suffix(": false"));
            word.is_some_and(|key| line == format!("{key}:"))
        });
        if let Some(off) = off {
            lines.remove(off);
        }
        lines.push(line);
    }
    let lines = lines.join("\n").replace("type: tcp\n", "type: http\n");
    // A host has an address or SRV records.
    let lines = lines.replace("\n        srv: _http._tcp.app.internal", "");
    // A route must not except all that it matches.
    lines.replace(
        "\n      host: api.example.com",
        "\n      host: other.example.com",
    )
}

#[test]
fn every_commented_key_can_be_uncommented() {
    let lines = errors(&uncommented());
    // The only remaining errors are that the example's files do not exist.
    assert_eq!(lines.len(), 25, "{lines:#?}");
    for line in lines {
        assert!(line.contains("cannot read `/etc/ballast/"), "{line}");
    }
}

/// Whether the schema has every key of a value, and the number of those keys.
fn count_known(value: &Value, schema: &Json, path: &str) -> usize {
    let alternatives = schema["anyOf"].as_array().into_iter().flatten();
    let schemas = Vec::from_iter(alternatives.chain([schema]));
    match value {
        Value::Mapping(map) => {
            let known = |key: &str| {
                let mut schemas = schemas.iter();
                schemas.find_map(|schema| match &schema["properties"][key] {
                    Json::Null => schema["additionalProperties"]
                        .as_object()
                        .map(|_| &schema["additionalProperties"]),
                    found => Some(found),
                })
            };
            let counts = map.iter().map(|(key, value)| {
                let key = key.as_str().expect("a name");
                let path = format!("{path}.{key}");
                let schema = known(key).unwrap_or_else(|| panic!("{path} is not in the schema"));
                1 + count_known(value, schema, &path)
            });
            counts.sum()
        }
        Value::Sequence(list) => {
            let items = schemas.iter().find_map(|schema| schema.get("items"));
            let items = items.unwrap_or_else(|| panic!("{path} is not a list in the schema"));
            list.iter()
                .map(|value| count_known(value, items, path))
                .sum()
        }
        _ => 0,
    }
}

#[test]
fn the_schema_has_every_key() {
    let document: Value = serde_yaml::from_str(&uncommented()).expect("YAML");
    let count = count_known(&document, &json_schema(), "");
    assert!(count > 120, "{count} keys");
    let schema = json_schema();
    let of_key = |section: &str, key: &str| &schema["properties"][section]["properties"][key];
    assert_eq!(of_key("timeouts", "read")["default"], "60s");
    // A variable may stand for a number.
    let threads = of_key("server", "threads")["anyOf"].as_array();
    let threads = threads.expect("forms of a value");
    assert_eq!(threads[0]["type"], "integer");
    assert_eq!(threads[1]["pattern"], r"\$\{");
}

#[test]
fn the_manual_page_has_every_key() {
    let page = manual_page();
    for line in key_table().lines().skip(2) {
        let key = line.split('`').nth(1).expect("a key");
        // roff escapes only hyphens and leading dots.
        assert!(page.contains(&format!("\\fB{key}\\fR")), "{key}");
    }
}
