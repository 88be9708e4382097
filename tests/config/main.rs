//! The configuration through its public interface: what it accepts, what it refuses, and the messages.

mod acme;
mod certificates;
mod common_mistakes;
mod defaults;
mod directive_tables;
mod error_pages;
mod file;
mod generated_files;
mod robustness;
mod routes;
mod sources;
mod structure;
mod tracing;
mod valid_values;
mod validation;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ballast::config::{Config, ConfigErrors, Environment, Pool};

/// An environment in which one name resolves and no file exists.
struct FakeEnvironment;

/// A file of users.
const USERS: &str = "alice:$2y$04$TxhMqHv3kFwzVb8cRkP1aO6aQx/nk0Gr9PrFp6PhCk9pCQGTJ1312\n";

impl Environment for FakeEnvironment {
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        match name {
            "app.internal" => Ok(vec![
                Ipv4Addr::new(10, 0, 0, 7).into(),
                Ipv4Addr::new(10, 0, 0, 8).into(),
            ]),
            "empty.internal" => Ok(Vec::new()),
            _ => Err(io::Error::other("no such name")),
        }
    }

    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        match file.to_str() {
            Some("users") => Ok(USERS.into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn try_parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse_with(text, Path::new("b.yaml"), &FakeEnvironment)
}

/// The configuration in a valid text.
fn parse(text: &str) -> Config {
    try_parse(text).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

/// The error lines about an invalid text.
fn errors(text: &str) -> Vec<String> {
    match try_parse(text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

/// A complete file with one pool, `web`, that has these keys.
fn with_pool(keys: &str) -> String {
    format!("listeners: [\"127.0.0.1:8080\"]\npools:\n  web: {{ {keys} }}\n")
}

/// A complete file with one pool, which has a host, and more keys at the top level.
fn with_top(keys: &str) -> String {
    format!(
        "{keys}\nlisteners: [\"127.0.0.1:8080\"]\npools: {{ web: {{ hosts: [\"127.0.0.1:1\"] }} }}\n"
    )
}

/// The pool of a file with these keys.
fn pool(keys: &str) -> Pool {
    parse(&with_pool(keys)).pools.remove(0)
}

/// The pool of a file with a host and these keys.
fn pool_with(keys: &str) -> Pool {
    pool(&format!("hosts: [\"127.0.0.1:1\"], {keys}"))
}

/// The only error line about a pool with a host and these keys, starting at the path.
fn pool_error(keys: &str) -> String {
    let text = with_pool(&format!("hosts: [\"127.0.0.1:1\"], {keys}"));
    only_message(&text)
}

/// The only error line about a text, without file, line and column.
fn only_message(text: &str) -> String {
    let lines = errors(text);
    let [line] = lines.as_slice() else {
        panic!("not one line: {lines:#?}");
    };
    line.splitn(4, ':')
        .last()
        .expect("a message")
        .trim()
        .to_owned()
}
