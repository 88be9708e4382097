//! docs/migrating.md: what stands for a directive of nginx or HAProxy are keys that there are, where they may stand.

use std::fs;
use std::path::Path;

use ballast::config::json_schema;
use serde_json::Value as Json;
use serde_yaml::Value as Yaml;

/// The pieces of configuration in the second column of the tables.
fn pieces() -> Vec<String> {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/migrating.md");
    let guide = fs::read_to_string(guide).expect("the guide can be read");
    let rows = guide.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.trim_end_matches(" |").rsplit_once(" | "));
    let codes = cells.flat_map(|(_, cell)| cell.split('`').skip(1).step_by(2));
    let pieces = codes.filter(|code| code.contains(": ") || code.starts_with("{ "));
    pieces.map(str::to_owned).collect()
}

/// Every schema of a map below a schema, itself included.
fn maps<'a>(schema: &'a Json, found: &mut Vec<&'a Json>) {
    match schema {
        Json::Object(fields) => {
            if fields.contains_key("properties") && fields.contains_key("type") {
                found.push(schema);
            }
            fields.values().for_each(|field| maps(field, found));
        }
        Json::Array(elements) => elements.iter().for_each(|element| maps(element, found)),
        _ => {}
    }
}

/// Whether the keys of a value are those of a schema; values of keys do not matter here.
fn fits(value: &Yaml, schema: &Json) -> bool {
    let forms = schema.get("anyOf").or(schema.get("oneOf"));
    if let Some(forms) = forms.and_then(Json::as_array) {
        return forms.iter().any(|form| fits(value, form));
    }
    match value {
        Yaml::Mapping(map) => map.iter().all(|(key, value)| {
            let declared = key.as_str().map(|key| &schema["properties"][key]);
            match declared.filter(|declared| declared.is_object()) {
                Some(declared) => fits(value, declared),
                // Names of the file's author, such as those of pools and header fields.
                None => match &schema["additionalProperties"] {
                    free @ Json::Object(_) => fits(value, free),
                    _ => false,
                },
            }
        }),
        Yaml::Sequence(list) => {
            let items = &schema["items"];
            items.is_object() && list.iter().all(|item| fits(item, items))
        }
        _ => true,
    }
}

#[test]
fn every_key_of_the_directive_tables_exists() {
    let schema = json_schema();
    let mut places = Vec::new();
    maps(&schema, &mut places);
    let pieces = pieces();
    assert!(pieces.len() > 80, "{}", pieces.len());
    let unknown = pieces.iter().filter(|piece| {
        let text = piece.replace("[…]", "[]").replace('…', "x");
        let value: Yaml = serde_yaml::from_str(&text)
            .unwrap_or_else(|error| panic!("{piece} is no YAML: {error}"));
        assert!(value.is_mapping(), "{piece} is no map");
        !places.iter().any(|place| fits(&value, place))
    });
    let unknown = Vec::from_iter(unknown);
    assert!(unknown.is_empty(), "there are no such keys: {unknown:#?}");
}
