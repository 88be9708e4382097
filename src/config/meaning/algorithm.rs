//! `algorithm`: an entry of the registry, its options, and what is hashed.

use http::header::HeaderName;

use crate::balancer::{ALGORITHMS, AlgorithmInfo, BalancerError, Options};

use super::super::errors::Problems;
use super::super::model::{Algorithm, KeySource};
use super::super::place::Place;
use super::super::words::{did_you_mean, quote};
use super::super::yaml::{Entries, Form};

/// What chooses if nothing is said.
const DEFAULT: &str = "p2c";

/// The keys that every algorithm's map knows, beside the options of its own.
const NAME: &str = "name";
const KEY: &str = "key";

pub(super) fn algorithm(
    said: Option<Form<Entries<String>>>,
    place: &Place,
    problems: &mut Problems,
) -> Option<Algorithm> {
    let (at, Entries(entries)) = match said {
        None => return named(DEFAULT, Vec::new(), place, place, problems),
        Some(Form::Short(name)) => return named(&name, Vec::new(), place, place, problems),
        Some(Form::Full(entries)) => (place.key(NAME), entries),
    };
    let (names, settings): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| key == NAME);
    match names.first() {
        Some((_, name)) => named(name, settings, &at, place, problems),
        None => {
            problems.add(place, "`name` is missing, the algorithm's name");
            None
        }
    }
}

fn named(
    name: &str,
    settings: Vec<(String, String)>,
    at: &Place,
    place: &Place,
    problems: &mut Problems,
) -> Option<Algorithm> {
    let found = AlgorithmInfo::find(name).map_err(|error| {
        let hint = did_you_mean(name, ALGORITHMS.iter().map(|info| info.name));
        format!("{error}{hint}")
    });
    let info = problems.take(at, found)?;
    let mut options = Options::new();
    let mut source = KeySource::ClientIp;
    let before = problems.count();
    for (key, value) in settings {
        let place = place.key(&key);
        if key == KEY {
            let read = key_source(&value, info);
            source = problems.take(&place, read).unwrap_or(KeySource::ClientIp);
            continue;
        }
        // Alone first, so that each wrong option is told with its place.
        let alone = info.check(&Options::new().set(&key, &value));
        problems.take(&place, alone.map_err(|error| explained(info, &error)));
        options = options.set(&key, &value);
    }
    if problems.count() == before {
        let together = info.check(&options);
        problems.take(place, together.map_err(|error| explained(info, &error)));
    }
    Some(Algorithm {
        info,
        options,
        key: source,
    })
}

fn explained(info: &AlgorithmInfo, error: &BalancerError) -> String {
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

/// Whether this is a token of HTTP (RFC 9110, 5.6.2), which is what a cookie's name must be. Unlike a header's name it
/// keeps its case.
fn is_token(name: &str) -> bool {
    let proper = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    !name.is_empty() && name.bytes().all(proper)
}

/// Whether this can stand in front of `=` in a query as it is sent.
fn is_parameter(name: &str) -> bool {
    let proper = |c: u8| c.is_ascii_graphic() && !b"=&#".contains(&c);
    !name.is_empty() && name.bytes().all(proper)
}
