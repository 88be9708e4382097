//! The files in `conf`: they load, they say what the code does, and they leave no key out.

use std::path::Path;

use ballast::balancer::ALGORITHMS;
use ballast::config::{Config, Probe};
use serde_yaml::{Mapping, Value};

use crate::{errors, parse};

const EVERY_KEY: &str = include_str!("../../conf/ballast.yaml");

#[test]
fn both_files_load() {
    for name in ["minimal.yaml", "ballast.yaml"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("conf")
            .join(name);
        Config::load(&file).unwrap_or_else(|errors| panic!("{errors}"));
    }
}

#[test]
fn the_defaults_in_the_file_are_those_of_the_code() {
    let said = parse(EVERY_KEY);
    let left_out = parse(
        "listeners: [\"0.0.0.0:8080\", \"127.0.0.1:8443\"]
routes: [{ host: api.example.com, path: /v1/, pool: api }, { pool: web }]
pools:
  web: { hosts: [\"127.0.0.1:9001\", { address: \"127.0.0.1:9002\", name: app-2 }] }
  api:
    algorithm: consistent_hash
    hosts: [\"127.0.0.1:9003\", \"127.0.0.1:9004\"]
    health_check: { type: http, host: api.example.com }
",
    );
    // The same but for the digest of the text, and for the options of the algorithms, which are as said in one and left out
    // in the other.
    let shown = |config: &Config| {
        let mut config = config.clone();
        config.digest = String::new();
        config.digest.clear();
        for pool in &mut config.pools {
            pool.algorithm.options = ballast::balancer::Options::new();
        }
        format!("{config:#?}")
    };
    assert_eq!(shown(&said), shown(&left_out));
    assert!(matches!(
        said.pools[1]
            .health_check
            .as_ref()
            .map(|check| &check.probe),
        Some(Probe::Http { .. })
    ));
}

#[test]
fn the_options_in_the_file_are_those_of_the_registry() {
    let document = document();
    for pool in document["pools"].as_mapping().expect("pools").values() {
        let said = pool["algorithm"].as_mapping().expect("the long form");
        let info = ALGORITHMS
            .iter()
            .find(|info| said["name"] == info.name)
            .expect("an algorithm of the registry");
        for option in info.options {
            let value = &said[option.name];
            assert_eq!(text(value), option.default, "{}.{}", info.name, option.name);
        }
    }
    for info in ALGORITHMS {
        assert!(
            EVERY_KEY.contains(&format!("#   {} ", info.name)),
            "{}",
            info.name
        );
        for option in info.options {
            let line = format!("{}: {}", option.name, option.default);
            assert!(EVERY_KEY.contains(&line), "{line} of {}", info.name);
        }
    }
}

/// Puts an unknown key into every map, reads from the error which keys are known there, and looks for them.
#[test]
fn every_key_stands_in_the_file() {
    let document = document();
    let mut maps = Vec::new();
    find_maps(&document, &mut Vec::new(), &mut maps);
    let free = |path: &[Value]| {
        // The names of pools are free, and those of options are the registry's.
        let last = path.last().and_then(Value::as_str);
        matches!(last, Some("pools" | "algorithm"))
    };
    let mut seen = 0;
    for path in maps.iter().filter(|path| !free(path)) {
        let mut changed = document.clone();
        let map = at(&mut changed, path);
        let said = Mapping::clone(map);
        map.insert("zzz".into(), Value::Null);
        for key in known_keys(&changed) {
            seen += 1;
            let commented = EVERY_KEY.contains(&format!("# {key}:"));
            // A pool's short and long hosts, or a TCP and an HTTP check, have their keys between them.
            let elsewhere = maps.iter().any(|other| {
                same_kind(path, other) && at(&mut document.clone(), other).contains_key(&key)
            });
            assert!(
                said.contains_key(&key) || commented || elsewhere,
                "`{key}` of {path:?}"
            );
        }
    }
    assert!(seen > 50, "{seen} keys");
}

/// The same for the maps that are commented out.
#[test]
fn keys_of_commented_maps_stand_in_the_comments() {
    for text in [
        "admin: { zzz: 1 }",
        "admin: { ready: { zzz: 1 } }",
        "access_log: { zzz: 1 }",
        "access_log: { sample: [{ zzz: 1 }] }",
        "tracing: { zzz: 1 }",
        "tracing: { otlp: { zzz: 1 } }",
        "listeners: [{ tls: { zzz: 1 } }]",
        "listeners: [{ tls: { certificates: [{ zzz: 1 }] } }]",
        "pools: { web: { tls: { zzz: 1 } } }",
        "pools: { web: { sticky: { zzz: 1 } } }",
    ] {
        for key in known_keys(&serde_yaml::from_str(text).expect("YAML")) {
            let commented = |line: &str| {
                let line = line.trim_start();
                line.starts_with('#') && line.contains(&format!(" {key}:"))
            };
            assert!(EVERY_KEY.lines().any(commented), "`{key}`");
        }
    }
}

#[test]
fn comments_hold_parts_that_can_be_uncommented() {
    let opened = EVERY_KEY
        .replace("    tls: false              # true", "    # true")
        .replace("# access_log:", "access_log:")
        .replace("#   path: /var", "  path: /var")
        .replace("#   format:", "  format:")
        .replace("#   buffer:", "  buffer:")
        .replace("#   sample:\n", "  sample:\n")
        .replace("#     - statuses:", "    - statuses:")
        .replace("#       share:", "      share:")
        .replace("# tls:", "tls:")
        .replace("# sticky:", "sticky:")
        .replace("#   cookie:", "  cookie:")
        .replace("#   ttl:", "  ttl:")
        .replace("#   secure:", "  secure:")
        .replace("#   http_only:", "  http_only:")
        .replace("#   same_site:", "  same_site:")
        .replace("#   secret_file:", "  secret_file:")
        .replace("#   server_name:", "  server_name:")
        .replace("#   verify:", "  verify:")
        .replace("#   ca:", "  ca:")
        .replace("#   certificates:", "  certificates:")
        .replace("#   http2:", "  http2:")
        .replace("#     - certificate:", "    - certificate:")
        .replace("#       key:", "      key:");
    let lines = errors(&opened);
    // All that is wrong then is that the example's files do not exist.
    assert_eq!(lines.len(), 4, "{lines:#?}");
    for line in lines {
        assert!(line.contains("cannot read `/etc/ballast/"), "{line}");
    }
}

fn document() -> Value {
    serde_yaml::from_str(EVERY_KEY).expect("YAML")
}

fn text(value: &Value) -> String {
    let shown = serde_yaml::to_string(value).expect("YAML");
    shown.trim().to_owned()
}

/// The keys that are expected where the first unknown one is.
fn known_keys(document: &Value) -> Vec<String> {
    let lines = errors(&serde_yaml::to_string(document).expect("YAML"));
    let (_, known) = lines[0]
        .split_once("unknown key `zzz`, expected ")
        .unwrap_or_else(|| panic!("{lines:#?}"));
    known
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The ways to all maps of the document.
fn find_maps(value: &Value, path: &mut Vec<Value>, maps: &mut Vec<Vec<Value>>) {
    let children: Vec<(Value, &Value)> = match value {
        Value::Mapping(map) => {
            maps.push(path.clone());
            map.iter()
                .map(|(key, value)| (key.clone(), value))
                .collect()
        }
        Value::Sequence(list) => {
            let list = list.iter().enumerate();
            list.map(|(index, value)| (Value::from(index), value))
                .collect()
        }
        _ => Vec::new(),
    };
    for (step, value) in children {
        path.push(step);
        find_maps(value, path, maps);
        path.pop();
    }
}

fn at<'a>(document: &'a mut Value, path: &[Value]) -> &'a mut Mapping {
    let found = path
        .iter()
        .fold(document, |value, step| match step.as_u64() {
            Some(index) => &mut value[index as usize],
            None => &mut value[step],
        });
    found.as_mapping_mut().expect("a map")
}

/// Whether two paths lead to the same kind of map: only numbers and the names of pools differ.
fn same_kind(one: &[Value], other: &[Value]) -> bool {
    let kind = |path: &[Value]| {
        let steps = path.iter().enumerate().map(|(position, step)| match step {
            Value::String(key) if position != 1 || path[0] != "pools" => key.clone(),
            _ => String::new(),
        });
        Vec::from_iter(steps)
    };
    kind(one) == kind(other)
}
