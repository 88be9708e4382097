//! `algorithm`: an entry of the registry, its options, and what is hashed.

use std::collections::BTreeMap;
use std::fmt;

use http::header::HeaderName;
use serde_json::{Map, Value as Json, json};

use super::document::{Content, Node};
use super::hints::{did_you_mean, quote};
use super::scalars::is_token;
use super::schema::{Describe, Diff, Kind, Reader, Scalar, scalar};
use ballast_balancer as balancer;
use ballast_balancer::{ALGORITHMS, AlgorithmInfo, BalancerError};

/// The keys of every algorithm's map, beside the algorithm's own options.
const NAME: &str = "name";
const KEY: &str = "key";

/// How a host is chosen.
///
/// Two are equal if they are written alike: an option that is written and one that is left out differ, even if it is the
/// default.
#[derive(Debug, Clone, PartialEq)]
pub struct Algorithm {
    /// The algorithm with its options.
    pub typed: balancer::Algorithm,
    /// The options as they stand in the file.
    written: BTreeMap<String, String>,
    /// What a hashing algorithm hashes.
    pub key: KeySource,
}

impl Algorithm {
    /// The entry of the registry.
    pub fn info(&self) -> &'static AlgorithmInfo {
        self.typed.info()
    }
}

impl From<balancer::Algorithm> for Algorithm {
    fn from(typed: balancer::Algorithm) -> Self {
        Algorithm {
            typed,
            written: BTreeMap::new(),
            key: KeySource::ClientIp,
        }
    }
}

/// Where a request's hash key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// The client's address without the port.
    ClientIp,
    /// A header field's value.
    Header(HeaderName),
    /// A cookie's value.
    Cookie(String),
    /// A query parameter's value, as it stands in the request.
    Query(String),
    /// The path without the query.
    Path,
    /// The path with the query.
    Uri,
}

impl fmt::Display for KeySource {
    /// As written in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::ClientIp => f.write_str("client_ip"),
            KeySource::Header(name) => write!(f, "header:{name}"),
            KeySource::Cookie(name) => write!(f, "cookie:{name}"),
            KeySource::Query(name) => write!(f, "query:{name}"),
            KeySource::Path => f.write_str("path"),
            KeySource::Uri => f.write_str("uri"),
        }
    }
}

/// A name of the registry, or a map with the name, the options and the key.
pub(super) struct AlgorithmKind;

impl Describe for AlgorithmKind {
    fn phrase(&self) -> String {
        "the name of an algorithm, or a map with `name` and its options".to_owned()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for info in ALGORITHMS {
            notes.push(format!("{:<19} {}", info.name, info.summary));
            for option in info.options {
                let setting = format!("`{}: {}`", option.name, option.default);
                notes.push(format!("  {setting:<17} {}", option.help));
            }
            if info.keyed {
                notes.push(format!(
                    "  {:<17} what is hashed: client_ip, path, uri, header:NAME, cookie:NAME, query:NAME",
                    "`key: client_ip`"
                ));
            }
        }
        notes
    }

    fn schema(&self) -> Json {
        let names = || ALGORITHMS.iter().map(|info| info.name);
        let maps = ALGORITHMS.iter().map(|info| {
            let options = info.options.iter().map(|option| {
                let schema = json!({
                    "description": option.help, "default": option.default, "type": ["string", "number"],
                });
                (option.name.to_owned(), schema)
            });
            let mut properties = Map::from_iter(options);
            properties.insert(NAME.to_owned(), json!({ "const": info.name }));
            if info.keyed {
                let pattern = "^(client_ip|path|uri|(header|cookie|query):.+)$";
                let schema = json!({
                    "type": "string", "default": "client_ip", "pattern": pattern,
                    "description": "What is hashed.",
                });
                properties.insert(KEY.to_owned(), schema);
            }
            json!({
                "type": "object", "properties": properties, "required": [NAME],
                "additionalProperties": false,
            })
        });
        let maps = Vec::from_iter(maps);
        json!({ "anyOf": [{ "enum": Vec::from_iter(names()) }, { "oneOf": maps }] })
    }
}

impl Kind for AlgorithmKind {
    type Value = Algorithm;

    fn read(&self, node: &Node, reader: &mut Reader<'_>) -> Option<Algorithm> {
        match &node.content {
            Content::Scalar { text, .. } => {
                let found = find(text);
                let info = reader.take(node, found)?;
                Some(info.algorithm().into())
            }
            Content::Map(_) => read_map(node, reader),
            Content::Null | Content::List(_) => {
                reader.wrong_type(node, "a single value or a map");
                None
            }
        }
    }

    fn dump(&self, value: &Algorithm) -> Json {
        let info = value.info();
        let options = value.written.iter();
        let mut map: Map<_, _> = options
            .map(|(name, text)| (name.clone(), json!(text)))
            .collect();
        map.insert(NAME.to_owned(), json!(info.name));
        if info.keyed {
            map.insert(KEY.to_owned(), json!(value.key.to_string()));
        }
        Json::Object(map)
    }

    /// Notes the names where they differ, otherwise the options.
    fn diff(&self, old: &Algorithm, new: &Algorithm, diff: &mut Diff) {
        match (old.info().name, new.info().name) {
            (before, now) if before != now => diff.changed(json!(before), json!(now)),
            _ if old != new => diff.changed(self.dump(old), self.dump(new)),
            _ => {}
        }
    }
}

fn find(name: &str) -> Result<&'static AlgorithmInfo, String> {
    AlgorithmInfo::find(name).map_err(|error| {
        let hint = did_you_mean(name, ALGORITHMS.iter().map(|info| info.name));
        format!("{error}{hint}")
    })
}

fn read_map(map: &Node, reader: &mut Reader<'_>) -> Option<Algorithm> {
    let Some(name) = map.get(NAME) else {
        reader.problem(map, "`name` is missing, the algorithm's name");
        return None;
    };
    let info = reader.in_key(NAME, |reader| {
        let found = match name.text() {
            Some(text) => find(text),
            None => Err(format!(
                "expected a single value, found {}",
                name.describe()
            )),
        };
        reader.take(name, found)
    })?;
    let mut algorithm = Algorithm::from(info.algorithm());
    let before = reader.problem_count();
    for entry in map.entries().iter().filter(|entry| entry.key != NAME) {
        let value = &entry.value;
        reader.in_key(&entry.key, |reader| {
            let Some(text) = value.text() else {
                return reader.wrong_type(value, "a single value");
            };
            if entry.key == KEY {
                if let Some(source) = reader.take(value, key_source(text, info)) {
                    algorithm.key = source;
                }
                return;
            }
            let set = algorithm.typed.set(&entry.key, text);
            let set = reader.take(value, set.map_err(|error| explain(info, &error)));
            if set.is_some() {
                algorithm.written.insert(entry.key.clone(), text.to_owned());
            }
        });
    }
    (reader.problem_count() == before).then_some(algorithm)
}

fn explain(info: &AlgorithmInfo, error: &BalancerError) -> String {
    let hint = match error {
        BalancerError::UnknownOption { option, .. } => {
            let keys = info.keyed.then_some(KEY);
            let options = info.options.iter().map(|option| option.name);
            did_you_mean(option, options.chain(keys))
        }
        _ => String::new(),
    };
    format!("{error}{hint}")
}

/// Reads what is hashed, for an algorithm that hashes something.
fn key_source(text: &str, info: &AlgorithmInfo) -> Result<KeySource, String> {
    if !info.keyed {
        return Err(format!(
            "`{}` takes no key, so {} has no effect",
            info.name,
            quote(text)
        ));
    }
    parse_key(text)
}

/// Reads what is hashed.
fn parse_key(text: &str) -> Result<KeySource, String> {
    let shown = quote(text);
    let (kind, name) = match text.split_once(':') {
        Some((kind, name)) => (kind, Some(name)),
        None => (text, None),
    };
    match (kind, name) {
        ("client_ip", None) => Ok(KeySource::ClientIp),
        ("path", None) => Ok(KeySource::Path),
        ("uri", None) => Ok(KeySource::Uri),
        ("header", Some(name)) => HeaderName::try_from(name)
            .map(KeySource::Header)
            .map_err(|_| format!("{shown} does not name a header field")),
        ("cookie", Some(name)) if is_token(name) => Ok(KeySource::Cookie(name.to_owned())),
        ("cookie", Some(_)) => Err(format!("{shown} does not name a cookie")),
        ("query", Some(name)) if is_parameter(name) => Ok(KeySource::Query(name.to_owned())),
        ("query", Some(_)) => Err(format!("{shown} does not name a query parameter")),
        ("header" | "cookie" | "query", None) => {
            Err(format!("{shown} needs a name, as in `{kind}:NAME`"))
        }
        ("client_ip" | "path" | "uri", Some(_)) => {
            Err(format!("{shown} takes no name; did you mean `{kind}`?"))
        }
        _ => {
            const KINDS: [&str; 6] = ["client_ip", "header", "cookie", "query", "path", "uri"];
            let hint = did_you_mean(kind, KINDS);
            Err(format!(
                "{shown} is not one of `client_ip`, `header:NAME`, `cookie:NAME`, `query:NAME`, `path`, `uri`{hint}"
            ))
        }
    }
}

/// A part of a request by which requests are told apart.
pub(super) fn request_key() -> Scalar<KeySource> {
    let pattern = "^(client_ip|path|uri|(header|cookie|query):.+)$";
    scalar(
        "`client_ip`, `path`, `uri`, `header:NAME`, `cookie:NAME` or `query:NAME`",
        parse_key,
        |key: &KeySource| json!(key.to_string()),
    )
    .with_schema(json!({ "type": "string", "pattern": pattern }))
}

/// Whether this can stand in front of `=` in a query as it is sent.
fn is_parameter(name: &str) -> bool {
    let proper = |c: u8| c.is_ascii_graphic() && !b"=&#".contains(&c);
    !name.is_empty() && name.bytes().all(proper)
}
